//! Watchers that are behind read the history together, one slice at a time.

use super::Shard;
use crate::body::Encoder;
use crate::interest::{GroupId, WatcherKey};
use crate::response::ResponseHead;
use crate::stream::WatcherState;
use crate::{Event, History};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How much of the history one slice reads. Revisions are not split, so a slice can exceed it by
/// one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Events that are read.
    pub events: usize,
    /// Bytes of the events that a watcher wants.
    pub bytes: usize,
    /// Revisions with an event that a watcher wants. In etcd the maximum of one response.
    pub revisions: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { events: 10_000, bytes: 1024 * 1024, revisions: 1_000 }
    }
}

/// The work left after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// There is more history to read.
    More,
    /// Nothing, until watchers fall behind again or streams have room again.
    Done,
    /// The view does not contain the missing events. Call again with a newer one.
    AwaitView,
}

/// A part of the history.
#[derive(Debug, Default)]
struct HistorySlice {
    /// The events that a watcher wants.
    events: Vec<Event>,
    /// The places of each group's events.
    hits: BTreeMap<GroupId, Vec<usize>>,
    /// The revision of the last event that was read.
    last: i64,
    looked_at: usize,
    bytes: usize,
    revisions: usize,
}

impl HistorySlice {
    fn is_full(&self, budget: &Budget) -> bool {
        self.looked_at >= budget.events
            || self.bytes >= budget.bytes
            || self.revisions >= budget.revisions
    }
}

impl Shard {
    /// Reads a slice of the history for the watchers that are behind. The caller repeats it,
    /// between other work, while there is more.
    ///
    /// # Errors
    /// If the view cannot be read.
    pub fn catch_up<H: History>(&mut self, view: &H, budget: &Budget) -> Result<CatchUp, H::Error> {
        self.end_compacted(view.compact_revision());
        let newest = self.revision.min(view.revision());
        let Some((from, _)) = self.next_behind() else { return Ok(CatchUp::Done) };
        if from > newest {
            let lowest = self.behind.first().map(|(revision, _)| *revision);
            if lowest.is_none_or(|lowest| lowest > newest) {
                return Ok(CatchUp::AwaitView);
            }
            self.scan_from = 0;
            return Ok(CatchUp::More);
        }
        let (slice, until) = self.read_slice(view, from, newest, budget)?;
        self.hand_out(&slice, from, until, view)?;
        self.scan_from = if until >= newest { 0 } else { until + 1 };
        Ok(if self.behind.is_empty() { CatchUp::Done } else { CatchUp::More })
    }

    /// The next watcher at or after the end of the last slice. Going round gives every watcher a
    /// turn, even if new watchers keep starting at the front.
    fn next_behind(&self) -> Option<(i64, WatcherKey)> {
        let onward = self.behind.range((self.scan_from, 0)..).next();
        onward.or_else(|| self.behind.first()).copied()
    }

    /// Cancels the watchers whose next events were dropped by compaction.
    fn end_compacted(&mut self, compact_revision: i64) {
        while let Some((next_revision, key)) = self.behind.first().copied() {
            if next_revision >= compact_revision {
                break;
            }
            let (stream, watch_id) = (self.watchers[key].stream, self.watchers[key].id);
            self.remove(key);
            let head = ResponseHead {
                watch_id,
                canceled: true,
                compact_revision,
                ..ResponseHead::default()
            };
            self.push_head(stream, head);
        }
    }

    /// Reads from `from` on. Returns the slice and the last revision that was read completely.
    fn read_slice<H: History>(
        &self,
        view: &H,
        from: i64,
        newest: i64,
        budget: &Budget,
    ) -> Result<(HistorySlice, i64), H::Error> {
        let mut slice = HistorySlice { last: from, ..HistorySlice::default() };
        let mut until = newest;
        view.replay(from, newest, &mut |event| {
            if event.mod_revision > slice.last {
                if slice.is_full(budget) {
                    until = event.mod_revision - 1;
                    return ControlFlow::Break(());
                }
                slice.last = event.mod_revision;
            }
            slice.looked_at += 1;
            let place = slice.events.len();
            let hits = &mut slice.hits;
            let mut is_wanted = false;
            self.interests.find(&event.key, &mut |id, group| {
                if !group.behind.is_empty() && id.interest().wants(&event) {
                    hits.entry(id).or_default().push(place);
                    is_wanted = true;
                }
            });
            if is_wanted {
                let is_new = slice.events.last().map(|last| last.mod_revision);
                slice.revisions += usize::from(is_new != Some(event.mod_revision));
                slice.bytes += event.kv.len();
                slice.events.push(event);
            }
            ControlFlow::Continue(())
        })?;
        Ok((slice, until))
    }

    /// Queues the events of the slice for each watcher that is behind, and advances it.
    fn hand_out<H: History>(
        &mut self,
        slice: &HistorySlice,
        from: i64,
        until: i64,
        view: &H,
    ) -> Result<(), H::Error> {
        let mut encoder = Encoder::new(&slice.events, view);
        let concerned: Vec<(i64, WatcherKey)> =
            self.behind.range((from, 0)..(until + 1, 0)).copied().collect();
        for (next_revision, key) in concerned {
            let group = self.watchers[key].group;
            let places = slice.hits.get(&group).map_or(&[][..], |places| {
                let is_old = |place: &usize| slice.events[*place].mod_revision < next_revision;
                &places[places.partition_point(is_old)..]
            });
            if places.is_empty() {
                self.advance(key, until + 1);
                continue;
            }
            let body = encoder.body(places, group.interest().prev_kv)?;
            if self.queue_events(key, &body, self.revision) {
                self.advance(key, until + 1);
            } else {
                self.set_state(key, WatcherState::Parked);
            }
        }
        self.counts.queued_bytes += encoder.kept_bytes();
        Ok(())
    }
}
