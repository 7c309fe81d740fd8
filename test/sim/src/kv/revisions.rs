//! Rules for the revisions in etcd's headers, which can be checked without a search. Each rule is
//! necessary for linearizability:
//!
//! - each change has a revision of its own, and no other change has it;
//! - the order of revisions respects time: a call that begins after another one ended has a revision
//!   that is not lower, and a higher one if it changes something. A linearizable read therefore
//!   contains every write that was acknowledged before it began;
//! - a read returns a key-value that one call put at the key-value's revision, and misses no
//!   acknowledged change of the key between that revision and its own.

use super::calls::{Answered, KvAnswer, KvCall, KvHistory, Operation, Part, Seen};
use crate::linearizable::Timed;
use bytes::Bytes;
use std::collections::BTreeMap;

/// An acknowledged change of a key.
#[derive(Clone, Debug)]
struct Acknowledged<'a> {
    place: usize,
    /// The value; `None` for a deletion.
    value: Option<&'a Bytes>,
}

/// Changes without an answer, of one key.
#[derive(Debug, Default)]
struct Unknown<'a> {
    /// The positions of the calls that put a value.
    puts: BTreeMap<&'a Bytes, Vec<usize>>,
    /// The start times of the calls that delete the key.
    deletions: Vec<u64>,
}

#[derive(Debug, Default)]
struct Rules<'a> {
    calls: &'a [Timed<Answered>],
    /// The call that made each revision.
    makers: BTreeMap<i64, usize>,
    /// The acknowledged changes of each key, by revision.
    changes: BTreeMap<&'a Bytes, BTreeMap<i64, Acknowledged<'a>>>,
    unknown: BTreeMap<&'a Bytes, Unknown<'a>>,
    /// The revisions of calls without an answer whose values were read.
    revealed: BTreeMap<usize, i64>,
    /// The key-values that were read, by key and revision.
    seen: BTreeMap<(&'a Bytes, i64), &'a Seen>,
}

/// The keys that a call changed, and their new values.
fn changed<'a>(call: &'a KvCall, answer: &'a KvAnswer) -> Vec<(&'a Bytes, Option<&'a Bytes>)> {
    let operations = call.executed(answer).iter().zip(&answer.parts);
    let changes = operations.filter(|(operation, part)| operation.changes_with(part));
    changes.filter_map(|(operation, _)| operation.write()).collect()
}

impl<'a> Rules<'a> {
    fn of(history: &'a KvHistory) -> Result<Rules<'a>, String> {
        let mut rules = Rules { calls: &history.calls, ..Rules::default() };
        let others: BTreeMap<i64, u64> = history.others.iter().copied().collect();
        for (place, Timed { begun, call, .. }) in history.calls.iter().enumerate() {
            let Some(answer) = &call.answer else {
                rules.note_unknown(place, *begun, &call.call);
                continue;
            };
            let changes = changed(&call.call, answer);
            if changes.is_empty() {
                continue;
            }
            let before = rules.makers.insert(answer.revision, place);
            if before.is_some() || others.contains_key(&answer.revision) {
                return Err(format!(
                    "revision {} was made twice: by {:?} and {:?}",
                    answer.revision,
                    call,
                    before.map(|place| &history.calls[place])
                ));
            }
            for (key, value) in changes {
                let acknowledged = Acknowledged { place, value };
                rules.changes.entry(key).or_default().insert(answer.revision, acknowledged);
            }
        }
        Ok(rules)
    }

    fn note_unknown(&mut self, place: usize, begun: u64, call: &'a KvCall) {
        for operation in call.operations() {
            match operation {
                Operation::Put(key, value) => {
                    let unknown = self.unknown.entry(key).or_default();
                    unknown.puts.entry(value).or_default().push(place);
                }
                Operation::Delete(key) => {
                    self.unknown.entry(key).or_default().deletions.push(begun);
                }
                Operation::Get(_) | Operation::Range(..) => {}
            }
        }
    }

    fn fault(&self, place: usize, why: &str) -> String {
        format!("{why}: {:?}", self.calls[place])
    }

    /// Checks that revisions respect time.
    fn check_time(&self) -> Result<(), String> {
        let mut by_begin: Vec<usize> = (0..self.calls.len()).collect();
        by_begin.sort_by_key(|place| self.calls[*place].begun);
        let answered = self.calls.iter().enumerate().filter_map(|(place, timed)| {
            Some((timed.ended?, place, timed.call.answer.as_ref()?.revision))
        });
        let mut by_end: Vec<(u64, usize, i64)> = answered.collect();
        by_end.sort_unstable();
        let mut ended = by_end.into_iter().peekable();
        let mut newest = (0, 0);
        for place in by_begin {
            let timed = &self.calls[place];
            while let Some((_, at, revision)) = ended.next_if(|(end, ..)| *end < timed.begun) {
                newest = newest.max((revision, at));
            }
            let Some(answer) = &timed.call.answer else { continue };
            let changes = !changed(&timed.call.call, answer).is_empty();
            if answer.revision < newest.0 || (changes && answer.revision == newest.0) {
                return Err(format!(
                    "revision {} does not follow revision {}, which {:?} had seen before it \
                     began: {timed:?}",
                    answer.revision, newest.0, self.calls[newest.1]
                ));
            }
        }
        Ok(())
    }

    /// Checks that every read fits the writes.
    fn check_reads(&mut self) -> Result<(), String> {
        for place in 0..self.calls.len() {
            let call = &self.calls[place].call;
            let Some(answer) = &call.answer else { continue };
            let own: Vec<&Bytes> =
                changed(&call.call, answer).into_iter().map(|(key, _)| key).collect();
            for (operation, part) in call.call.executed(answer).iter().zip(&answer.parts) {
                let Part::Keys(keys) = part else { continue };
                for (key, seen) in keys.iter().filter(|(key, _)| !own.contains(&key)) {
                    self.check_seen(place, key, seen, answer.revision)?;
                }
                match operation {
                    Operation::Get(key) if keys.is_empty() && !own.contains(&key) => {
                        self.check_absent(place, key, answer.revision)?;
                    }
                    Operation::Range(from, end) => {
                        let written: Vec<&Bytes> = self
                            .changes
                            .range::<Bytes, _>(from..end)
                            .map(|(key, _)| *key)
                            .collect();
                        for key in written {
                            if !own.contains(&key) && !keys.iter().any(|(it, _)| it == key) {
                                self.check_absent(place, key, answer.revision)?;
                            }
                        }
                    }
                    Operation::Get(_) | Operation::Put(..) | Operation::Delete(_) => {}
                }
            }
        }
        Ok(())
    }

    fn check_seen(
        &mut self,
        place: usize,
        key: &'a Bytes,
        seen: &'a Seen,
        revision: i64,
    ) -> Result<(), String> {
        let at = seen.mod_revision;
        if at > revision || seen.create_revision > at || seen.version < 1 {
            return Err(self.fault(place, "a key has revisions that contradict each other"));
        }
        let known = *self.seen.entry((key, at)).or_insert(seen);
        if known != seen {
            return Err(self.fault(place, &format!("two values of a revision, {known:?} and")));
        }
        if let Some(changes) = self.changes.get(key) {
            if let Some(newer) = changes.range(at + 1..revision + 1).next() {
                let newer = self.fault(newer.1.place, "an acknowledged write is not seen");
                return Err(self.fault(place, &format!("{newer}, by")));
            }
            match changes.get(&at) {
                Some(change) if change.value == Some(&seen.value) => return Ok(()),
                Some(_) => return Err(self.fault(place, "a value that was not written")),
                None => {}
            }
        }
        if self.makers.contains_key(&at) {
            return Err(self.fault(place, "a revision that was made by a write of another key"));
        }
        self.reveal(place, key, &seen.value, at)
    }

    /// Records that a call without an answer wrote this value at this revision.
    fn reveal(&mut self, place: usize, key: &Bytes, value: &Bytes, at: i64) -> Result<(), String> {
        let end = self.calls[place].ended.unwrap_or(u64::MAX);
        let candidates = self.unknown.get(key).and_then(|unknown| unknown.puts.get(value));
        let fitting = candidates.into_iter().flatten().copied().find(|writer| {
            self.calls[*writer].begun <= end
                && self.revealed.get(writer).is_none_or(|known| *known == at)
        });
        match fitting {
            Some(writer) => {
                self.revealed.insert(writer, at);
                Ok(())
            }
            None => Err(self.fault(place, "a value that nobody wrote at its revision")),
        }
    }

    /// Checks that a missing key was never written, or was deleted.
    fn check_absent(&self, place: usize, key: &Bytes, revision: i64) -> Result<(), String> {
        let Some(changes) = self.changes.get(key) else { return Ok(()) };
        let Some((_, last)) = changes.range(..=revision).next_back() else { return Ok(()) };
        let end = self.calls[place].ended.unwrap_or(u64::MAX);
        let may_be_deleted = self
            .unknown
            .get(key)
            .is_some_and(|unknown| unknown.deletions.iter().any(|begun| *begun <= end));
        if last.value.is_some() && !may_be_deleted {
            let lost = self.fault(last.place, "an acknowledged write is lost");
            return Err(self.fault(place, &format!("{lost}, for")));
        }
        Ok(())
    }
}

/// Checks a history.
///
/// # Errors
/// When a rule is violated. The error names the rule and the calls.
pub fn check(history: &KvHistory) -> Result<(), String> {
    let mut rules = Rules::of(history)?;
    rules.check_time()?;
    rules.check_reads()
}
