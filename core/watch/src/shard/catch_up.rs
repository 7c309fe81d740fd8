//! Watchers that are behind: they read the history together, a slice at a time.

use super::Shard;
use crate::body::Encoder;
use crate::interest::{GroupId, WatcherKey};
use crate::response::Head;
use crate::stream::State;
use crate::{Event, History};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How much of the history one slice reads. A revision is never cut, so a slice can be longer by
/// one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Events that are looked at.
    pub events: usize,
    /// Bytes of the events that somebody wants.
    pub bytes: usize,
    /// Revisions in which somebody wants something. In etcd the most that one response has.
    pub revisions: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { events: 10_000, bytes: 1024 * 1024, revisions: 1_000 }
    }
}

/// What is left to do after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// More of the same.
    More,
    /// Nothing until watchers fall behind again, or streams have room again.
    Done,
    /// The view is older than what the watchers lack: come again with a newer one.
    AwaitView,
}

/// A part of the history that was read.
#[derive(Debug, Default)]
struct Slice {
    /// The events that somebody wants.
    events: Vec<Event>,
    /// For each group the places of its events.
    hits: BTreeMap<GroupId, Vec<usize>>,
    /// The revision of the last event that was read.
    last: i64,
    looked_at: usize,
    bytes: usize,
    revisions: usize,
}

impl Slice {
    fn is_full(&self, budget: &Budget) -> bool {
        self.looked_at >= budget.events
            || self.bytes >= budget.bytes
            || self.revisions >= budget.revisions
    }
}

impl Shard {
    /// Reads a slice of the history for the watchers that are behind. To be called again, between
    /// other work, while there is more.
    ///
    /// # Errors
    /// When the view cannot be read.
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

    /// The first watcher at or behind the place where the last slice ended, so that all have
    /// their turn however many start at the front anew.
    fn next_behind(&self) -> Option<(i64, WatcherKey)> {
        let onward = self.behind.range((self.scan_from, 0)..).next();
        onward.or_else(|| self.behind.first()).copied()
    }

    /// Ends the watchers whose next events are gone.
    fn end_compacted(&mut self, compact_revision: i64) {
        while let Some((next_revision, key)) = self.behind.first().copied() {
            if next_revision >= compact_revision {
                break;
            }
            let (stream, watch_id) = (self.watchers[key].stream, self.watchers[key].id);
            self.remove(key);
            let head = Head { watch_id, canceled: true, compact_revision, ..Head::default() };
            self.push_head(stream, head);
        }
    }

    /// Reads on from `from`; returns what was found, and the last revision that was read whole.
    fn read_slice<H: History>(
        &self,
        view: &H,
        from: i64,
        newest: i64,
        budget: &Budget,
    ) -> Result<(Slice, i64), H::Error> {
        let mut slice = Slice { last: from, ..Slice::default() };
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

    /// Tells each watcher that is behind what the slice has for it, and moves it on.
    fn hand_out<H: History>(
        &mut self,
        slice: &Slice,
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
            if self.tell(key, &body, self.revision) {
                self.advance(key, until + 1);
            } else {
                self.set_state(key, State::Parked);
            }
        }
        self.counts.queued_bytes += encoder.kept_bytes();
        Ok(())
    }
}
