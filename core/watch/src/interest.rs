//! Finds the watchers of a key. Watchers with the same keys and the same interest form a group.

use crate::KeyRange;
use crate::interval::IntervalMap;
use crate::request::Interest;
use bytes::Bytes;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};

/// The key of a watcher in the shard.
pub(crate) type WatcherKey = usize;

/// The keys and ranges that are watched.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    single: BTreeMap<Bytes, usize>,
    spans: IntervalMap,
    ranges: Slab<RangeGroups>,
}

/// One watched range and its groups of watchers.
#[derive(Debug)]
struct RangeGroups {
    keys: KeyRange,
    groups: BTreeMap<Interest, Group>,
}

/// Watchers of the same keys with the same interest.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The number of watchers, including parked ones.
    members: usize,
    /// Watchers that receive events as they happen.
    pub(crate) synced: BTreeSet<WatcherKey>,
    /// Watchers that read history and have room for it.
    pub(crate) behind: BTreeSet<WatcherKey>,
}

/// The id of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId {
    range: usize,
    interest: Interest,
}

impl GroupId {
    pub(crate) fn interest(self) -> Interest {
        self.interest
    }
}

impl Interests {
    /// Adds a member to the group with these keys and this interest.
    pub(crate) fn join(&mut self, keys: &KeyRange, interest: Interest) -> GroupId {
        let known = match keys {
            KeyRange::One(key) => self.single.get(key).copied(),
            KeyRange::Span { from, end } => self.spans.get(from, end),
        };
        let range = known.unwrap_or_else(|| self.insert(keys));
        let entry = self.ranges.get_mut(range).expect("the maps refer to existing ranges");
        entry.groups.entry(interest).or_default().members += 1;
        GroupId { range, interest }
    }

    fn insert(&mut self, keys: &KeyRange) -> usize {
        let range = self.ranges.insert(RangeGroups { keys: keys.clone(), groups: BTreeMap::new() });
        match keys {
            KeyRange::One(key) => {
                self.single.insert(key.clone(), range);
            }
            KeyRange::Span { from, end } => self.spans.insert(from.clone(), end.clone(), range),
        }
        range
    }

    /// Removes a member from its group.
    pub(crate) fn leave(&mut self, id: GroupId, watcher: WatcherKey) {
        let group = self.group(id);
        group.synced.remove(&watcher);
        group.behind.remove(&watcher);
        group.members -= 1;
        if group.members > 0 {
            return;
        }
        let range = &mut self.ranges[id.range];
        range.groups.remove(&id.interest);
        if range.groups.is_empty() {
            let range = self.ranges.remove(id.range);
            match &range.keys {
                KeyRange::One(key) => {
                    self.single.remove(key);
                }
                KeyRange::Span { from, end } => self.spans.remove(from, end),
            }
        }
    }

    /// A group, which must have members.
    pub(crate) fn group(&mut self, id: GroupId) -> &mut Group {
        let range = self.ranges.get_mut(id.range);
        let group = range.and_then(|range| range.groups.get_mut(&id.interest));
        group.expect("a group exists as long as it has members")
    }

    /// Calls `visit` with each group that watches `key`.
    pub(crate) fn find(&self, key: &[u8], visit: &mut dyn FnMut(GroupId, &Group)) {
        let mut visit_groups = |range: usize| {
            for (interest, group) in &self.ranges[range].groups {
                visit(GroupId { range, interest: *interest }, group);
            }
        };
        if let Some(range) = self.single.get(key) {
            visit_groups(*range);
        }
        self.spans.stab(key, &mut visit_groups);
    }

    /// Whether there are no watchers.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}
