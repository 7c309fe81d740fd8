//! One client's stream: its watchers by id, and its queue of responses.

use crate::interest::{GroupId, WatcherKey};
use crate::response::{Events, ResponseHead};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The id of a stream in its shard. It may be reused after the stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(
    /// The number in the shard.
    pub usize,
);

/// The connection that a stream belongs to; its caller numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(
    /// The number in the shard.
    pub u64,
);

/// The bytes that a queued response takes besides its events.
pub(crate) const RESPONSE_BYTES: usize = 128;

/// A queued response.
#[derive(Debug)]
pub(crate) enum Waiting {
    Events(Events),
    Notice(Box<ResponseHead>),
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) connection: ConnectionId,
    pub(crate) watchers: BTreeMap<i64, WatcherKey>,
    /// The first id to try for a watcher without a chosen id.
    pub(crate) next_id: i64,
    pub(crate) queue: VecDeque<Waiting>,
    /// The bytes of the queue. A shared body counts in each queue.
    pub(crate) bytes: usize,
    /// Watchers that are behind and for which the queue has no room.
    pub(crate) parked: BTreeSet<WatcherKey>,
    /// Whether the caller knows that the queue is not empty.
    pub(crate) announced: bool,
    pub(crate) progress_interval_ms: u64,
    pub(crate) progress_due_ms: u64,
}

/// How a watcher gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatcherState {
    /// It receives events as they happen.
    Synced,
    /// It reads history.
    Behind,
    /// It waits for room in its stream to read history.
    Parked,
}

/// Something that a watcher holds until it ends, such as a place in a limit that the caller counts.
pub type WatcherPlace = Box<dyn Any>;

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: StreamId,
    pub(crate) id: i64,
    pub(crate) group: GroupId,
    pub(crate) state: WatcherState,
    /// The requested start revision; 0 for future events.
    pub(crate) start_revision: i64,
    /// Events below this revision were sent or are not wanted. The number of a synced watcher may
    /// lag behind: it has also received everything up to the shard's revision.
    pub(crate) next_revision: i64,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    /// Whether events were sent since the last progress check.
    pub(crate) was_notified: bool,
    /// Only to be dropped with the watcher.
    pub(crate) _held: Option<WatcherPlace>,
}

impl Stream {
    /// Chooses the id of a new watcher: `id`, or any if that is 0. None if `id` is taken.
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
