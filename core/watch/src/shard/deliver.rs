//! Delivery of new events to synced watchers.

use super::Shard;
use crate::body::{Body, Encoder};
use crate::interest::{GroupId, WatcherKey};
use crate::response::Events;
use crate::stream::{Waiting, WatcherState};
use crate::{EventBatch, History};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Shard {
    /// Handles the events of the next revision. `view` contains that revision; it is read for the
    /// previous values that watchers want.
    ///
    /// A batch that was fed or skipped before is ignored. If batches before this one are missing,
    /// this one is skipped too: synced watchers read the history up to it.
    ///
    /// # Errors
    /// If the view cannot be read.
    pub fn on_events<H: History>(&mut self, batch: &EventBatch, view: &H) -> Result<(), H::Error> {
        let revision = batch.revision;
        if revision <= self.revision {
            return Ok(());
        }
        if revision > self.revision + 1 {
            self.skip_to(revision);
            return Ok(());
        }
        self.revision = revision;
        if self.interests.is_empty() {
            return Ok(());
        }
        let mut hits: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (place, event) in batch.events.iter().enumerate() {
            self.interests.find(&event.key, &mut |id, group| {
                if !group.synced.is_empty() && id.interest().wants(event) {
                    hits.entry(id).or_default().push(place);
                }
            });
        }
        // Watchers with a future start revision are not due yet.
        let mut encoder = Encoder::new(&batch.events, view);
        let mut due: Vec<WatcherKey> = Vec::new();
        for (id, places) in &hits {
            let synced = &self.interests.group(*id).synced;
            due.extend(synced.iter().filter(|key| self.watchers[**key].next_revision <= revision));
            if due.is_empty() {
                continue;
            }
            let body = encoder.body(places, id.interest().prev_kv)?;
            for key in due.drain(..) {
                let queued = self.queue_events(key, &body, revision);
                self.watchers[key].next_revision = if queued { revision + 1 } else { revision };
                if !queued {
                    self.set_state(key, WatcherState::Parked);
                }
            }
        }
        self.counts.queued_bytes += encoder.kept_bytes();
        Ok(())
    }

    /// Handles events that will never be fed to the shard because they were dropped: the queue to
    /// the shard was full, or there were no watchers. All synced watchers fall behind and read the
    /// missing events from the history with [`catch_up`](Self::catch_up).
    ///
    /// `view` must contain every dropped revision. Batches up to its revision that are still
    /// queued may be fed later; they are ignored.
    pub fn events_lost<H: History>(&mut self, view: &H) {
        self.skip_to(view.revision());
    }

    /// Marks the events up to `revision` as seen although they were not fed.
    fn skip_to(&mut self, revision: i64) {
        if revision <= self.revision {
            return;
        }
        let seen = self.revision;
        self.revision = revision;
        let keys: Vec<WatcherKey> = self.watchers.iter().map(|(key, _)| key).collect();
        for key in keys {
            let watcher = &self.watchers[key];
            if watcher.state == WatcherState::Synced {
                let next_revision = watcher.next_revision.max(seen + 1);
                self.advance(key, next_revision);
            }
        }
    }

    /// Queues a body for a watcher. False if there is no room.
    pub(super) fn queue_events(
        &mut self,
        key: WatcherKey,
        body: &Arc<Body>,
        revision: i64,
    ) -> bool {
        let watcher = &self.watchers[key];
        let (stream, watch_id) = (watcher.stream, watcher.id);
        let fragment_from = watcher.fragment.then_some(self.limits.fragment_from);
        if !self.has_room(stream, body.events.len()) {
            return false;
        }
        self.watchers[key].was_notified = true;
        let body = Arc::clone(body);
        let events = Events { watch_id, revision, body, sent: 0, fragment_from };
        self.push(stream, Waiting::Events(events));
        true
    }
}
