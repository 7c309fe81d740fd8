//! A set of keys as disjoint ranges: the keys that a role permits to read or to write.
//!
//! Source: etcd v3.7 server/auth/range_perm_cache.go, pkg/adt/interval_tree.go.

use crate::range::KeyRange;
use bytes::Bytes;

/// A range of keys from `from` to `end`, exclusive. Without `end` it has no upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    from: Bytes,
    end: Option<Bytes>,
}

/// A set of keys.
///
/// Invariant: the intervals ascend, none is empty, and no two of them touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<Interval>);

impl Intervals {
    /// The union of the ranges. An empty range adds no key. (etcd before 3.4.28 and 3.5.10 accepts
    /// empty ranges as permissions.)
    pub(crate) fn union(ranges: impl Iterator<Item = KeyRange>) -> Intervals {
        let mut all: Vec<Interval> = ranges.filter_map(interval).collect();
        all.sort_by(|a, b| a.from.cmp(&b.from));
        let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match merged.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| *end >= next.from) => {
                    if is_later(next.end.as_ref(), last.end.as_ref()) {
                        last.end = next.end;
                    }
                }
                Some(_) | None => merged.push(next),
            }
        }
        Intervals(merged)
    }

    /// The end of the interval that contains the key. The outer `None` means that the key is not in
    /// the set, the inner one that the interval has no upper bound.
    fn end_at(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        let behind = self.0.partition_point(|interval| interval.from <= key);
        let interval = &self.0[behind.checked_sub(1)?];
        let within = interval.end.as_ref().is_none_or(|end| key < end);
        within.then_some(interval.end.as_ref())
    }
}

/// Whether the union of the sets contains the whole range. An empty range is contained if its first
/// key is.
pub(crate) fn cover<'a>(
    sets: impl Iterator<Item = &'a Intervals> + Clone,
    range: &KeyRange,
) -> bool {
    let (from, end) = match range {
        KeyRange::One(key) => return sets.into_iter().any(|set| set.end_at(key).is_some()),
        KeyRange::Span { from, end } => (from, end.as_ref()),
    };
    let mut reached = from;
    loop {
        // The intervals of one set do not touch, but those of different sets may continue each
        // other.
        let mut farthest: Option<&Bytes> = None;
        for interval_end in sets.clone().filter_map(|set| set.end_at(reached)) {
            match interval_end {
                None => return true,
                Some(interval_end) => farthest = farthest.max(Some(interval_end)),
            }
        }
        let Some(farthest) = farthest else { return false };
        if end.is_some_and(|end| end <= farthest) {
            return true;
        }
        reached = farthest;
    }
}

/// The range as an interval; `None` if it contains no key.
fn interval(range: KeyRange) -> Option<Interval> {
    let (from, end) = match range {
        KeyRange::One(key) => {
            let mut end = Vec::with_capacity(key.len() + 1);
            end.extend_from_slice(&key);
            end.push(0);
            (key, Some(Bytes::from(end)))
        }
        KeyRange::Span { from, end } => (from, end),
    };
    let is_empty = from.is_empty() || end.as_ref().is_some_and(|end| *end <= from);
    (!is_empty).then_some(Interval { from, end })
}

fn is_later(end: Option<&Bytes>, than: Option<&Bytes>) -> bool {
    match (end, than) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(end), Some(than)) => end > than,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: &'static str, end: &'static str) -> KeyRange {
        KeyRange::of_request(from.into(), end.into())
    }

    fn set(ranges: &[KeyRange]) -> Intervals {
        Intervals::union(ranges.iter().cloned())
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let merged = set(&[span("c", "e"), span("a", "c"), span("b", "d"), span("x", "\0")]);
        assert_eq!(merged.0.len(), 2);
        assert!(cover([&merged].into_iter(), &span("a", "e")));
        assert!(!cover([&merged].into_iter(), &span("a", "e\0")));
        assert!(cover([&merged].into_iter(), &span("y", "\0")));
        assert!(!cover([&merged].into_iter(), &span("a", "\0")));
    }

    #[test]
    fn cve_2026_73499_a_single_key_is_not_the_keys_behind_it() {
        let one = set(&[span("a", "")]);
        assert!(cover([&one].into_iter(), &span("a", "")));
        assert!(!cover([&one].into_iter(), &span("a\0", "")));
        assert!(cover([&one].into_iter(), &span("a", "a\0")));
        assert!(!cover([&one].into_iter(), &span("a", "\0")), "GHSA-xg4h: a key is not from-key");
    }

    #[test]
    fn sets_go_on_from_each_other() {
        let (odd, even) = (set(&[span("a", "b"), span("c", "d")]), set(&[span("b", "c")]));
        assert!(cover([&odd, &even].into_iter(), &span("a", "d")));
        assert!(!cover([&odd].into_iter(), &span("a", "d")));
        assert!(!cover([].into_iter(), &span("a", "d")));
    }

    #[test]
    fn issue_15621_empty_ranges_are_no_permission() {
        let nothing = set(&[span("b", "a"), span("", ""), span("", "\0"), span("c", "c")]);
        assert_eq!(nothing, Intervals::default());
        let some = set(&[span("b", "d")]);
        assert!(cover([&some].into_iter(), &span("c", "a")), "as its first key");
        assert!(!cover([&some].into_iter(), &span("e", "a")));
    }
}
