//! Progress responses: the revision up to which a client has received everything.

use super::Shard;
use crate::StreamId;
use crate::interest::WatcherKey;
use crate::response::{NO_WATCH, ResponseHead};
use crate::stream::WatcherState;

impl Shard {
    /// Handles a progress request: one response for the whole stream if all its watchers are
    /// current. Without watchers, or with one that is behind or starts in the future, there is no
    /// response, as in etcd.
    pub fn request_progress(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get(stream.0) else { return };
        let mut watchers = open.watchers.values();
        if !open.watchers.is_empty() && watchers.all(|key| self.is_current(*key)) {
            self.push_progress(stream, NO_WATCH);
        }
    }

    /// Queues progress responses in the streams that are due, as far as they have room. A client
    /// that does not read needs no progress response.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some((due_ms, stream)) = self.progress.first().copied() {
            if due_ms > now_ms {
                break;
            }
            self.progress.pop_first();
            let open = &mut self.streams[stream.0];
            open.progress_due_ms = now_ms.saturating_add(open.progress_interval_ms);
            self.progress.insert((open.progress_due_ms, stream));
            let watchers: Vec<(i64, WatcherKey)> =
                open.watchers.iter().map(|(id, key)| (*id, *key)).collect();
            for (id, key) in watchers {
                let watcher = &mut self.watchers[key];
                let is_idle = !std::mem::take(&mut watcher.was_notified);
                let is_due = watcher.progress_notify && is_idle;
                if is_due && self.is_current(key) && self.has_room(stream, 0) {
                    self.push_progress(stream, id);
                }
            }
        }
    }

    /// The time of the next [`tick`](Self::tick), by the clock of its argument.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.progress.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether the watcher has received all events up to the shard's revision, and its start is not
    /// later.
    fn is_current(&self, key: WatcherKey) -> bool {
        let watcher = &self.watchers[key];
        watcher.state == WatcherState::Synced
            && watcher.start_revision <= self.revision
            && watcher.next_revision <= self.revision + 1
    }

    fn push_progress(&mut self, stream: StreamId, watch_id: i64) {
        let revision = self.revision;
        self.push_head(stream, ResponseHead { revision, watch_id, ..ResponseHead::default() });
    }
}
