//! The set of ranges that a transaction deletes.
//!
//! A range whose end is not above its begin is empty. A range to the end of the key space (`\0`)
//! is treated as empty too, because etcd takes it for an inverted interval and permits puts in it.

use std::collections::{BTreeMap, BTreeSet};

/// A set of keys and ranges.
///
/// Invariant: the ranges are not empty, and neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Intervals<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// Begin to end; the end is exclusive.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Intervals<'a> {
    /// Adds the keys that a deletion with these two fields deletes.
    pub(super) fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.keys.insert(key);
            return;
        }
        if range_end <= key {
            return;
        }
        let (mut begin, mut end) = (key, range_end);
        if let Some((&before, &before_end)) = self.ranges.range(..=begin).next_back()
            && before_end >= begin
        {
            (begin, end) = (before, end.max(before_end));
        }
        while let Some((&inner, &inner_end)) = self.ranges.range(begin..).next()
            && inner <= end
        {
            end = end.max(inner_end);
            self.ranges.remove(inner);
        }
        self.ranges.insert(begin, end);
    }

    /// Adds all of another set.
    pub(super) fn union(&mut self, mut other: Intervals<'a>) {
        if other.keys.len() + other.ranges.len() > self.keys.len() + self.ranges.len() {
            std::mem::swap(self, &mut other);
        }
        self.keys.append(&mut other.keys);
        for (begin, end) in other.ranges {
            self.insert(begin, end);
        }
    }

    /// True if the key is deleted.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
            || self.ranges.range(..=key).next_back().is_some_and(|(_, end)| key < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_a_plain_list_of_them_holds() {
        let names: Vec<Vec<u8>> =
            (0..40u8).map(|at| if at % 2 == 0 { vec![at] } else { vec![at - 1, 0] }).collect();
        let mut state = 7usize;
        let mut next = || {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
            &names[(state >> 8) % names.len()][..]
        };
        for _ in 0..500 {
            let list: Vec<(&[u8], &[u8])> = (0..6).map(|_| (next(), next())).collect();
            let mut intervals = Intervals::default();
            let mut second = Intervals::default();
            for (at, (begin, end)) in list.iter().enumerate() {
                let into = if at % 2 == 0 { &mut intervals } else { &mut second };
                into.insert(begin, end);
            }
            intervals.union(second);
            for name in &names {
                let plain = list.iter().any(|(begin, end)| *begin <= &name[..] && &name[..] < *end);
                assert_eq!(intervals.contains(name), plain, "{name:?} in {list:?}");
            }
        }
    }
}
