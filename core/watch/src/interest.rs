//! Who wants which keys: watchers in groups of the same keys and the same interest, and for a key
//! the groups that want it.

use crate::KeyRange;
use crate::interval::IntervalMap;
use crate::request::Interest;
use bytes::Bytes;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};

/// A watcher's place in the shard.
pub(crate) type WatcherKey = usize;

/// All ranges that are watched.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    single: BTreeMap<Bytes, usize>,
    spans: IntervalMap,
    ranges: Slab<Watched>,
}

/// One range that is watched.
#[derive(Debug)]
struct Watched {
    keys: KeyRange,
    groups: BTreeMap<Interest, Group>,
}

/// Watchers of the same keys with the same interest.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// How many watchers it has, the parked ones too.
    members: usize,
    /// Those that get events as they come.
    pub(crate) synced: BTreeSet<WatcherKey>,
    /// Those that read history, and have room for what they read.
    pub(crate) behind: BTreeSet<WatcherKey>,
}

/// The name of a group.
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
    /// Adds a member to the group of these keys and this interest.
    pub(crate) fn join(&mut self, keys: &KeyRange, interest: Interest) -> GroupId {
        let known = match keys {
            KeyRange::One(key) => self.single.get(key).copied(),
            KeyRange::Span { from, end } => self.spans.get(from, end),
        };
        let range = known.unwrap_or_else(|| self.insert(keys));
        let watched = self.ranges.get_mut(range);
        let watched = watched.expect("both maps name ranges that exist");
        watched.groups.entry(interest).or_default().members += 1;
        GroupId { range, interest }
    }

    fn insert(&mut self, keys: &KeyRange) -> usize {
        let watched = Watched { keys: keys.clone(), groups: BTreeMap::new() };
        let range = self.ranges.insert(watched);
        match keys {
            KeyRange::One(key) => {
                self.single.insert(key.clone(), range);
            }
            KeyRange::Span { from, end } => self.spans.insert(from.clone(), end.clone(), range),
        }
        range
    }

    /// Takes a member out of its group.
    pub(crate) fn leave(&mut self, id: GroupId, watcher: WatcherKey) {
        let group = self.group(id);
        group.synced.remove(&watcher);
        group.behind.remove(&watcher);
        group.members -= 1;
        if group.members > 0 {
            return;
        }
        let watched = &mut self.ranges[id.range];
        watched.groups.remove(&id.interest);
        if watched.groups.is_empty() {
            let watched = self.ranges.remove(id.range);
            match &watched.keys {
                KeyRange::One(key) => {
                    self.single.remove(key);
                }
                KeyRange::Span { from, end } => self.spans.remove(from, end),
            }
        }
    }

    /// A group that has members.
    pub(crate) fn group(&mut self, id: GroupId) -> &mut Group {
        let watched = self.ranges.get_mut(id.range);
        let group = watched.and_then(|watched| watched.groups.get_mut(&id.interest));
        group.expect("a group exists as long as it has members")
    }

    /// Tells `visit` all groups that watch `key`.
    pub(crate) fn find(&self, key: &[u8], visit: &mut dyn FnMut(GroupId, &Group)) {
        let mut tell = |range: usize| {
            for (interest, group) in &self.ranges[range].groups {
                visit(GroupId { range, interest: *interest }, group);
            }
        };
        if let Some(range) = self.single.get(key) {
            tell(*range);
        }
        self.spans.stab(key, &mut tell);
    }

    /// True when nobody watches anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}
