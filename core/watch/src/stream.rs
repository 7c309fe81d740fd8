//! One client's stream: its watchers by id, and the responses that wait to be sent.

use crate::interest::{GroupId, WatcherKey};
use crate::response::{Events, Head};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A stream of a shard. The number is used again after the stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(
    /// The shard's own number for it.
    pub usize,
);

/// What a waiting response takes besides its events, in bytes.
pub(crate) const RESPONSE_BYTES: usize = 128;

/// A response that waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    Events(Events),
    Head(Box<Head>),
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) watchers: BTreeMap<i64, WatcherKey>,
    /// The id to try first for a watcher that brings none.
    pub(crate) next_id: i64,
    pub(crate) queue: VecDeque<Waiting>,
    /// What the queue takes, in bytes; bodies count in each queue that they are in.
    pub(crate) bytes: usize,
    /// Watchers that are behind and had no room.
    pub(crate) parked: BTreeSet<WatcherKey>,
    /// Whether the caller was told that there is something to send.
    pub(crate) announced: bool,
    pub(crate) progress_interval_ms: u64,
    pub(crate) progress_due_ms: u64,
}

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It gets events as they come.
    Synced,
    /// It reads history.
    Behind,
    /// It will read history when its stream has room again.
    Parked,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: StreamId,
    pub(crate) id: i64,
    pub(crate) group: GroupId,
    pub(crate) state: State,
    /// From which revision on events are wanted, as asked for; 0 for those to come.
    pub(crate) start_revision: i64,
    /// Events below this revision were sent, or are not wanted. Of a synced watcher that also
    /// holds for all revisions that the shard has seen, and the number may lag.
    pub(crate) next_revision: i64,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    /// Whether events were sent since the last look at progress.
    pub(crate) was_told: bool,
}

impl Stream {
    /// The id for a watcher that wants `id`, or any if that is 0; none if it is taken.
    pub(crate) fn choose_id(&mut self, id: i64) -> Option<i64> {
        if id != 0 {
            return (!self.watchers.contains_key(&id)).then_some(id);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }
}
