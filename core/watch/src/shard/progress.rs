//! Telling clients up to which revision they know everything.

use super::Shard;
use crate::StreamId;
use crate::interest::WatcherKey;
use crate::response::{Head, NO_WATCH};
use crate::stream::State;

impl Shard {
    /// Answers a client that asks how far it is: once for the whole stream, if all its watchers
    /// are there. Without watchers, or with one that is behind or waits for the future, there is
    /// no answer, as in etcd.
    pub fn request_progress(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get(stream.0) else { return };
        let mut watchers = open.watchers.values();
        if !open.watchers.is_empty() && watchers.all(|key| self.is_current(*key)) {
            self.push_progress(stream, NO_WATCH);
        }
    }

    /// Tells of progress in the streams in which it is due.
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
                let is_idle = !std::mem::take(&mut watcher.was_told);
                if watcher.progress_notify && is_idle && self.is_current(key) {
                    self.push_progress(stream, id);
                }
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do next, by the clock of its argument.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.progress.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether the watcher has all events up to the shard's revision, and wanted them.
    fn is_current(&self, key: WatcherKey) -> bool {
        let watcher = &self.watchers[key];
        watcher.state == State::Synced
            && watcher.start_revision <= self.revision
            && watcher.next_revision <= self.revision + 1
    }

    fn push_progress(&mut self, stream: StreamId, watch_id: i64) {
        let revision = self.revision;
        self.push_head(stream, Head { revision, watch_id, ..Head::default() });
    }
}
