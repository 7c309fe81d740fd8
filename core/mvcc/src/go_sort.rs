//! Sorts as Go's `sort.Sort` does. That sort is not stable, but it leaves equal items in a fixed
//! order, and clients of etcd see this order in a range sorted by version or value. To give the
//! same order, this is the same algorithm: pattern-defeating quicksort with Go's pivots, thresholds
//! and shuffles.
//!
//! Source: Go 1.24 sort/zsortinterface.go; the paper is arXiv 2106.05123.

/// Lists up to this length are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// From this length on the pivot is the median of three medians.
const NINTHER_MIN: usize = 50;
/// The number of swaps made while choosing such a pivot in a descending list.
const NINTHER_SWAPS_MAX: usize = 12;
/// Below this length a nearly sorted list is not repaired by shifting.
const SHIFTING_MIN: usize = 50;
/// The number of items out of order up to which a list counts as nearly sorted.
const REPAIRS_MAX: usize = 5;

/// Sorts a list. `less` says whether an item must come before another.
pub fn sort<T>(items: &mut [T], less: &mut dyn FnMut(&T, &T) -> bool) {
    let len = items.len();
    let depth = usize::BITS - len.leading_zeros();
    Sorter { items, less }.quicksort(0, len, depth);
}

struct Sorter<'a, T> {
    items: &'a mut [T],
    less: &'a mut dyn FnMut(&T, &T) -> bool,
}

/// A fact about the list, found while choosing a pivot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

impl<T> Sorter<'_, T> {
    fn less(&mut self, a: usize, b: usize) -> bool {
        (self.less)(&self.items[a], &self.items[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
    }

    /// Sorts the items `a..b`. After `bad_max` unbalanced partitions it switches to heapsort.
    fn quicksort(&mut self, mut a: usize, mut b: usize, mut bad_max: u32) {
        let (mut was_balanced, mut was_partitioned) = (true, true);
        loop {
            let len = b - a;
            if len <= INSERTION_MAX {
                self.insertion_sort(a, b);
                return;
            }
            if bad_max == 0 {
                self.heap_sort(a, b);
                return;
            }
            if !was_balanced {
                self.break_patterns(a, b);
                bad_max -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(a, b);
            if hint == Hint::Decreasing {
                self.items[a..b].reverse();
                pivot = (b - 1) - (pivot - a);
                hint = Hint::Increasing;
            }
            let looks_sorted = was_balanced && was_partitioned && hint == Hint::Increasing;
            if looks_sorted && self.repair(a, b) {
                return;
            }
            if a > 0 && !self.less(a - 1, pivot) {
                // The pivot is the smallest item: move its equals to the front.
                a = self.partition_equal(a, b, pivot);
                continue;
            }
            let (middle, partitioned) = self.partition(a, b, pivot);
            was_partitioned = partitioned;
            let (left, right) = (middle - a, b - middle);
            was_balanced = left.min(right) >= len / 8;
            if left < right {
                self.quicksort(a, middle, bad_max);
                a = middle + 1;
            } else {
                self.quicksort(middle + 1, b, bad_max);
                b = middle;
            }
        }
    }

    fn insertion_sort(&mut self, a: usize, b: usize) {
        for i in a + 1..b {
            let mut j = i;
            while j > a && self.less(j, j - 1) {
                self.swap(j, j - 1);
                j -= 1;
            }
        }
    }

    fn heap_sort(&mut self, a: usize, b: usize) {
        let len = b - a;
        for root in (0..=(len - 1) / 2).rev() {
            self.sift_down(root, len, a);
        }
        for last in (0..len).rev() {
            self.swap(a, a + last);
            self.sift_down(0, last, a);
        }
    }

    fn sift_down(&mut self, mut root: usize, len: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.swap(first + root, first + child);
            root = child;
        }
    }

    /// Moves the items less than the pivot before it and the others behind it. Returns the place of
    /// the pivot, and whether the list was partitioned before.
    fn partition(&mut self, a: usize, b: usize, pivot: usize) -> (usize, bool) {
        self.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        let mut swaps = 0;
        loop {
            while i <= j && self.less(i, a) {
                i += 1;
            }
            while i <= j && !self.less(j, a) {
                j -= 1;
            }
            if i > j {
                break;
            }
            self.swap(i, j);
            swaps += 1;
            i += 1;
            j -= 1;
        }
        self.swap(j, a);
        (j, swaps == 0)
    }

    /// Moves the items equal to the pivot, which is a smallest item, to the front. Returns where
    /// the others begin.
    fn partition_equal(&mut self, a: usize, b: usize, pivot: usize) -> usize {
        self.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        loop {
            while i <= j && !self.less(a, i) {
                i += 1;
            }
            while i <= j && self.less(a, j) {
                j -= 1;
            }
            if i > j {
                return i;
            }
            self.swap(i, j);
            i += 1;
            j -= 1;
        }
    }

    /// Shifts a few items that are out of order. True if the list is sorted afterwards.
    fn repair(&mut self, a: usize, b: usize) -> bool {
        let mut i = a + 1;
        for _ in 0..REPAIRS_MAX {
            while i < b && !self.less(i, i - 1) {
                i += 1;
            }
            if i == b {
                return true;
            }
            if b - a < SHIFTING_MIN {
                return false;
            }
            self.swap(i, i - 1);
            if i - a >= 2 {
                let mut j = i - 1;
                while j >= 1 && self.less(j, j - 1) {
                    self.swap(j, j - 1);
                    j -= 1;
                }
            }
            if b - i >= 2 {
                let mut j = i + 1;
                while j < b && self.less(j, j - 1) {
                    self.swap(j, j - 1);
                    j += 1;
                }
            }
        }
        false
    }

    /// Swaps three items of the middle with pseudo-random ones. The random numbers depend on the
    /// length alone.
    fn break_patterns(&mut self, a: usize, b: usize) {
        let len = b - a;
        if len < 8 {
            return;
        }
        let mut random = len as u64;
        let mask = (1_u64 << (usize::BITS - len.leading_zeros())) - 1;
        let middle = a + (len / 4) * 2;
        for at in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // At most twice the length.
            let mut other = usize::try_from(random & mask).unwrap_or(0);
            if other >= len {
                other -= len;
            }
            self.swap(at, a + other);
        }
    }

    fn choose_pivot(&mut self, a: usize, b: usize) -> (usize, Hint) {
        let len = b - a;
        let mut swaps = 0;
        let [mut i, mut j, mut k] = [1, 2, 3].map(|quarter| a + len / 4 * quarter);
        if len >= 8 {
            if len >= NINTHER_MIN {
                i = self.median([i - 1, i, i + 1], &mut swaps);
                j = self.median([j - 1, j, j + 1], &mut swaps);
                k = self.median([k - 1, k, k + 1], &mut swaps);
            }
            j = self.median([i, j, k], &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Increasing,
            NINTHER_SWAPS_MAX => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (j, hint)
    }

    fn median(&mut self, [a, b, c]: [usize; 3], swaps: &mut usize) -> usize {
        let (a, b) = self.order(a, b, swaps);
        let (b, _) = self.order(b, c, swaps);
        let (_, b) = self.order(a, b, swaps);
        b
    }

    fn order(&mut self, a: usize, b: usize, swaps: &mut usize) -> (usize, usize) {
        if self.less(b, a) {
            *swaps += 1;
            (b, a)
        } else {
            (a, b)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results of Go's sort on the same lists: length, pattern, whether reversed, and an FNV
    /// hash of the resulting order.
    const GO: &str = include_str!("../testdata/go_sort.txt");

    fn list(len: u64, pattern: u64) -> Vec<(u64, u64)> {
        let mut random = len * 31 + pattern + 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let key = |at: u64| match pattern {
            0 => next() % 3,
            1 => next() % 50,
            2 => at / 7,
            3 => (len - at) / 3,
            4 => next(),
            5 if next() % 40 == 0 => next() % len,
            6 if at >= len / 2 => len - at,
            _ => at,
        };
        (0..len).map(key).zip(0..).collect()
    }

    #[test]
    fn equal_items_end_in_the_order_of_go() {
        for line in GO.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [len, pattern, reversed] = [0, 1, 2].map(|at| fields[at].parse::<u64>().unwrap());
            let mut items = list(len, pattern);
            sort(&mut items, &mut |a, b| if reversed == 1 { b.0 < a.0 } else { a.0 < b.0 });
            let hash = items.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, (_, at)| {
                (hash ^ at).wrapping_mul(1_099_511_628_211)
            });
            assert_eq!(format!("{hash:016x}"), fields[3], "{line}");
        }
    }

    #[test]
    fn everything_is_sorted() {
        for len in 0..200 {
            for pattern in 0..7 {
                let mut items = list(len, pattern);
                sort(&mut items, &mut |a, b| a.0 < b.0);
                assert!(items.is_sorted_by_key(|(key, _)| *key));
            }
        }
    }

    #[test]
    fn a_list_on_which_quicksort_fails_is_sorted_by_heap() {
        let mut items: Vec<u64> = (0..500).map(|at| at * 7_919 % 501).collect();
        let len = items.len();
        Sorter { items: &mut items, less: &mut |a, b| a < b }.quicksort(0, len, 0);
        assert!(items.is_sorted());
    }
}
