//! Checks that a history is linearizable, with the order of the revisions as the witness.
//!
//! Each answer has a revision, and each revision belongs to one change. So the revisions order all
//! calls that have an answer. The changes of all revisions, which the log or a watcher shows, tell
//! which call without an answer made a revision that is in no answer. The check executes the calls
//! in this order, and compares each answer and the times. That needs no search: it decides every
//! history in O(n log n).

use super::calls::{Answered, KeyChange, KvAnswer, KvCall, KvHistory, SmallStore};
use crate::linearizable::Timed;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The changes of each revision. Only revisions that are in no answer are needed.
pub type Changes = BTreeMap<i64, Vec<KeyChange>>;

/// A key, and the value that a call puts; `None` if it deletes the key.
type Write<'a> = (&'a Bytes, Option<&'a Bytes>);

/// Which calls without an answer made which revisions. A call makes at most one.
#[derive(Debug, Default)]
struct Makers {
    /// For each of these revisions, the calls that can have made it.
    candidates: Vec<Vec<usize>>,
    /// The place in `candidates` of the revision that a call makes.
    makes: BTreeMap<usize, usize>,
}

impl Makers {
    /// Chooses a maker among these calls, the preferred ones first. If all make earlier revisions, one
    /// of these gets another maker, if possible. Returns false if there is no such choice.
    fn choose(&mut self, candidates: Vec<usize>) -> bool {
        let at = self.candidates.len();
        self.candidates.push(candidates);
        self.assign(at, &mut BTreeSet::new())
    }

    /// Finds a maker for a revision: an augmenting path of a bipartite matching.
    fn assign(&mut self, at: usize, tried: &mut BTreeSet<usize>) -> bool {
        let free = |place: &&usize| !self.makes.contains_key(place);
        if let Some(place) = self.candidates[at].iter().find(free) {
            self.makes.insert(*place, at);
            return true;
        }
        for place in self.candidates[at].clone() {
            if tried.insert(place) && self.assign(self.makes[&place], tried) {
                self.makes.insert(place, at);
                return true;
            }
        }
        false
    }
}

/// The calls at one revision, as positions in the history.
#[derive(Debug, Default)]
struct AtRevision {
    /// The call that made it.
    maker: Option<usize>,
    /// The calls that changed nothing, in the order of their start times.
    readers: Vec<usize>,
    /// The earliest end of all calls at this or a later revision. The call that made this revision
    /// must have begun by then.
    deadline: u64,
}

/// The calls in the order that the revisions give.
#[derive(Debug)]
struct Order<'a> {
    calls: &'a [Timed<Answered>],
    others: BTreeMap<i64, u64>,
    changes: &'a Changes,
    /// The revision at which this value was put under this key. No two calls put the same value, so
    /// it identifies the call.
    put_at: BTreeMap<Write<'a>, i64>,
    /// By revision, up to the last one in an answer.
    revisions: Vec<AtRevision>,
    /// The calls without an answer, by each of their writes.
    unanswered: BTreeMap<Write<'a>, Vec<usize>>,
    /// The calls without an answer that were chosen as the maker of a revision.
    makers: Makers,
    store: SmallStore,
    /// The latest start time of the executed calls. None of the next calls may have ended before
    /// it.
    now: u64,
}

impl<'a> Order<'a> {
    fn of(history: &'a KvHistory, changes: &'a Changes) -> Result<Order<'a>, String> {
        let mut order = Order {
            calls: &history.calls,
            others: history.others.iter().copied().collect(),
            changes,
            put_at: BTreeMap::new(),
            revisions: Vec::new(),
            unanswered: BTreeMap::new(),
            makers: Makers::default(),
            store: SmallStore::default(),
            now: 0,
        };
        for (revision, changes) in changes {
            for KeyChange { key, now } in changes {
                if let Some(now) = now {
                    order.put_at.insert((key, Some(&now.value)), *revision);
                }
            }
        }
        let mut by_begin: Vec<usize> = (0..history.calls.len()).collect();
        by_begin.sort_by_key(|place| history.calls[*place].begun);
        for place in by_begin {
            order.place(place)?;
        }
        let mut deadline = u64::MAX;
        for at in order.revisions.iter_mut().rev() {
            let ends = at.readers.iter().chain(&at.maker).filter_map(|it| history.calls[*it].ended);
            deadline = ends.fold(deadline, u64::min);
            at.deadline = deadline;
        }
        Ok(order)
    }

    fn place(&mut self, place: usize) -> Result<(), String> {
        let Answered { call, answer, .. } = &self.calls[place].call;
        let Some(answer) = answer else {
            for write in call.operations().filter_map(|operation| operation.write()) {
                self.unanswered.entry(write).or_default().push(place);
            }
            return Ok(());
        };
        let revision = usize::try_from(answer.revision)
            .map_err(|_| self.fault(place, "a revision below zero"))?;
        if self.revisions.len() <= revision {
            self.revisions.resize_with(revision + 1, AtRevision::default);
        }
        let at = &mut self.revisions[revision];
        if !changed(call, answer) {
            at.readers.push(place);
        } else if at.maker.replace(place).is_some() || self.others.contains_key(&answer.revision) {
            return Err(self.fault(place, "a revision that was made twice, by others and"));
        }
        Ok(())
    }

    fn fault(&self, place: usize, why: &str) -> String {
        format!("{why}: {:?}", self.calls[place])
    }

    /// Executes all calls, revision by revision.
    fn check(&mut self) -> Result<(), String> {
        for (at, AtRevision { maker, readers, deadline }) in
            std::mem::take(&mut self.revisions).into_iter().enumerate()
        {
            let revision = i64::try_from(at).unwrap_or(i64::MAX);
            if revision > SmallStore::default().revision {
                self.make(revision, maker, deadline)?;
            }
            for place in readers {
                self.execute(place)?;
            }
        }
        Ok(())
    }

    /// Executes the call that made a revision.
    fn make(&mut self, revision: i64, maker: Option<usize>, deadline: u64) -> Result<(), String> {
        if let Some(place) = maker {
            return self.execute(place);
        }
        if let Some(begun) = self.others.get(&revision) {
            self.now = self.now.max(*begun);
            self.store.revision = revision;
            return Ok(());
        }
        let unknown = || format!("nothing is known to have made revision {revision}");
        let changes = self.changes.get(&revision).filter(|changes| !changes.is_empty());
        let changes = changes.ok_or_else(unknown)?;
        let candidates = self.unanswered_makers(revision, changes, deadline);
        if !self.makers.choose(candidates) {
            return Err(format!(
                "no call that had begun can have made revision {revision}: {changes:?}"
            ));
        }
        self.store.change(changes.clone());
        Ok(())
    }

    /// The calls without an answer that make these changes now, and none of whose values was put at
    /// another revision. With regard to time, any of them will do: all had begun when the first call
    /// at this or a later revision ended. A call without conditions can make the same changes later,
    /// so it comes last.
    fn unanswered_makers(
        &self,
        revision: i64,
        changes: &'a [KeyChange],
        deadline: u64,
    ) -> Vec<usize> {
        let Some(first) = changes.first() else { return Vec::new() };
        let write = (&first.key, first.now.as_ref().map(|now| &now.value));
        let makes = |place: &usize| {
            let Timed { begun, call, .. } = &self.calls[*place];
            let mut writes = call.call.operations().filter_map(|operation| operation.write());
            *begun <= deadline
                && writes.all(|write| self.put_at.get(&write).is_none_or(|at| *at == revision))
                && self.store.answer(&call.call).1 == changes
        };
        let all = self.unanswered.get(&write).into_iter().flatten().copied();
        let mut fitting: Vec<usize> = all.filter(makes).collect();
        fitting.sort_by_key(|place| Reverse(self.calls[*place].call.call.conditions.len()));
        fitting
    }

    /// Executes a call that has an answer, and compares the answer and the time.
    fn execute(&mut self, place: usize) -> Result<(), String> {
        let Timed { begun, ended, call: Answered { call, answer, .. } } = &self.calls[place];
        let (expected, changes) = self.store.answer(call);
        if answer.as_ref() != Some(&expected) {
            return Err(self.fault(place, &format!("the answer should be {expected:?}, to")));
        }
        self.now = self.now.max(*begun);
        if ended.is_some_and(|ended| ended < self.now) {
            let why = "an answer came before a call began that has this or an earlier revision";
            return Err(self.fault(place, why));
        }
        self.store.change(changes);
        Ok(())
    }
}

/// Whether a call changed something, according to its answer.
fn changed(call: &KvCall, answer: &KvAnswer) -> bool {
    let mut executed = call.executed(answer).iter().zip(&answer.parts);
    executed.any(|(operation, part)| operation.changes_with(part))
}

/// Checks a history against the order of its revisions.
///
/// # Errors
/// The first call in that order whose answer or time does not fit, or the first revision that no
/// call can have made.
pub fn check(history: &KvHistory, changes: &Changes) -> Result<(), String> {
    Order::of(history, changes)?.check().map_err(|why| format!("not linearizable: {why}"))
}
