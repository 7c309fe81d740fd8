//! Searches for an order of whole calls in which the store gives all answers with their revisions.
//! Each revision belongs to one change, so the search has few choices except for calls without an
//! answer.

use super::calls::{Answered, KeyChange, KvAnswer, KvCall, KvHistory, Operation, Part, SmallStore};
use crate::linearizable::{Sequential, Timed, Verdict, search};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// One step of the history.
enum WholeStep {
    Call(KvCall, Option<KvAnswer>),
    /// Another call made this revision.
    Other(i64),
}

/// The store, with facts about its revisions from the answers. Without these, the search would try
/// each call without an answer at each revision.
#[derive(Default)]
struct WholeStore {
    /// The revisions that calls with an answer made.
    made: BTreeSet<i64>,
    /// The key and the value that were put at a revision, if they were read.
    read: BTreeMap<i64, (Bytes, Bytes)>,
    /// The revision at which a value that was read had been put.
    put_at: BTreeMap<(Bytes, Bytes), i64>,
    /// For each key, from the revision that a read showed to the revision of that read: in between
    /// the key did not change.
    unchanged: BTreeMap<Bytes, BTreeMap<i64, i64>>,
    /// The last revision in an answer.
    last: i64,
}

impl WholeStore {
    fn of(history: &KvHistory) -> WholeStore {
        let mut store = WholeStore::default();
        for Timed { call: Answered { call, answer, .. }, .. } in &history.calls {
            let Some(answer) = answer else { continue };
            store.last = store.last.max(answer.revision);
            let operations = if answer.succeeded { &call.then } else { &call.otherwise };
            for (operation, part) in operations.iter().zip(&answer.parts) {
                match (operation, part) {
                    (Operation::Put(..), _) | (Operation::Delete(_), Part::Deleted(1..)) => {
                        store.made.insert(answer.revision);
                    }
                    (_, Part::Keys(keys)) => {
                        for (key, seen) in keys {
                            let (at, read) = (seen.mod_revision, (key.clone(), seen.value.clone()));
                            store.put_at.insert(read.clone(), at);
                            store.read.entry(at).or_insert(read);
                            let of_key = store.unchanged.entry(key.clone()).or_default();
                            let until = of_key.entry(at).or_insert(at);
                            *until = answer.revision.max(*until);
                        }
                    }
                    _ => {}
                }
            }
        }
        store
    }

    fn permits_change(&self, revision: i64, KeyChange { key, now }: &KeyChange) -> bool {
        let is_elsewhere = now.as_ref().is_some_and(|now| {
            let read = (key.clone(), now.value.clone());
            self.put_at.get(&read).is_some_and(|at| *at != revision)
        });
        let before = self.unchanged.get(key).and_then(|it| it.range(..revision).next_back());
        !is_elsewhere && before.is_none_or(|(_, until)| *until < revision)
    }

    /// Whether a call without an answer may have made these changes.
    fn permits(&self, revision: i64, changes: &[KeyChange]) -> bool {
        let fits = |(key, value): &(Bytes, Bytes)| {
            changes.iter().any(|change| {
                change.key == *key && change.now.as_ref().is_some_and(|now| now.value == *value)
            })
        };
        revision <= self.last
            && changes.iter().all(|change| self.permits_change(revision, change))
            && !self.made.contains(&revision)
            && self.read.get(&revision).is_none_or(fits)
    }
}

impl Sequential for WholeStore {
    type Value = SmallStore;
    type Call = WholeStep;

    fn first(&self) -> SmallStore {
        SmallStore::default()
    }

    fn step(&self, store: &SmallStore, step: &WholeStep) -> Option<SmallStore> {
        match step {
            WholeStep::Other(revision) => (store.revision + 1 == *revision)
                .then(|| SmallStore { revision: *revision, keys: store.keys.clone() }),
            WholeStep::Call(call, expected) => {
                if let Some(expected) = expected
                    && expected.revision - store.revision > 1
                {
                    return None;
                }
                let (answer, changes) = store.answer(call);
                if expected.as_ref().is_some_and(|expected| *expected != answer) {
                    return None;
                }
                // A call without an answer that changes nothing can be treated as not executed.
                let is_permitted =
                    || !changes.is_empty() && self.permits(answer.revision, &changes);
                if expected.is_none() && !is_permitted() {
                    return None;
                }
                let mut store = store.clone();
                store.change(changes);
                Some(store)
            }
        }
    }
}

/// Searches for an order, in at most `steps_max` steps.
///
/// # Errors
/// When there is none.
pub fn check(history: &KvHistory, steps_max: u64) -> Result<Verdict, String> {
    let calls = history.calls.iter().map(|Timed { begun, ended, call }| {
        let Answered { call, answer, .. } = call;
        Timed { begun: *begun, ended: *ended, call: WholeStep::Call(call.clone(), answer.clone()) }
    });
    let others = history.others.iter().map(|(revision, begun)| Timed {
        begun: *begun,
        ended: None,
        call: WholeStep::Other(*revision),
    });
    let steps: Vec<_> = calls.chain(others).collect();
    match search(&WholeStore::of(history), &steps, steps_max) {
        Verdict::Illegal { longest, stuck } => {
            let show = |place: &usize| match history.calls.get(*place) {
                Some(timed) => format!("{timed:?}"),
                None => "a change of other keys".to_owned(),
            };
            let stuck: Vec<String> = stuck.iter().take(6).map(show).collect();
            Err(format!(
                "not linearizable: after {} calls in the order of their revisions, none of these \
                 can be next: {}",
                longest.len(),
                stuck.join("; ")
            ))
        }
        decided @ (Verdict::Linearizable | Verdict::Undecided) => Ok(decided),
    }
}
