//! Each key by itself, as a register: reads, writes, deletions and conditional writes. If the whole
//! history is linearizable, so is the history of each key. So an illegal history of one key is a
//! fault. Revisions are not checked here; they only identify the values that conditions compare
//! with.

use super::calls::{Condition, KvHistory, Operation, Part};
use crate::linearizable::{Sequential, Timed, Verdict, search};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A call of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterCall {
    /// It was read.
    Read(Option<Bytes>),
    /// It was written, or deleted.
    Write(Option<Bytes>),
    /// It was written if it had a certain value.
    Swap {
        /// The value that it had to have.
        from: Bytes,
        /// The new value.
        to: Bytes,
        /// Whether it was written, if that is known.
        done: Option<bool>,
    },
}

struct Register;

impl Sequential for Register {
    type Value = Option<Bytes>;
    type Call = RegisterCall;

    fn first(&self) -> Option<Bytes> {
        None
    }

    fn step(&self, value: &Option<Bytes>, call: &RegisterCall) -> Option<Option<Bytes>> {
        match call {
            RegisterCall::Read(read) => (read == value).then(|| value.clone()),
            RegisterCall::Write(written) => Some(written.clone()),
            RegisterCall::Swap { from, to, done } => {
                let holds = value.as_ref() == Some(from);
                let fits = done.is_none_or(|done| done == holds);
                fits.then(|| if holds { Some(to.clone()) } else { value.clone() })
            }
        }
    }
}

/// The calls of each key. A transaction without an answer that depends on another key or on a
/// revision is left out, since its effect is not known.
#[must_use]
pub fn of_keys(history: &KvHistory) -> BTreeMap<Bytes, Vec<Timed<RegisterCall>>> {
    let mut keys: BTreeMap<Bytes, Vec<Timed<RegisterCall>>> = BTreeMap::new();
    let mut unclear: Vec<Bytes> = Vec::new();
    for Timed { begun, ended, call } in &history.calls {
        let mut add = |key: &Bytes, call| {
            let timed = Timed { begun: *begun, ended: *ended, call };
            keys.entry(key.clone()).or_default().push(timed);
        };
        let swap = match (&call.call.conditions[..], &call.call.then[..]) {
            ([Condition::Value(on, from)], [Operation::Put(key, to)]) if on == key => {
                Some((key, from.clone(), to.clone()))
            }
            _ => None,
        };
        if let Some((key, from, to)) = swap {
            let done = call.answer.as_ref().map(|answer| answer.succeeded);
            add(key, RegisterCall::Swap { from, to, done });
            continue;
        }
        let Some(answer) = &call.answer else {
            for operation in call.call.operations() {
                match operation {
                    Operation::Put(key, value) if call.call.conditions.is_empty() => {
                        add(key, RegisterCall::Write(Some(value.clone())));
                    }
                    Operation::Delete(key) if call.call.conditions.is_empty() => {
                        add(key, RegisterCall::Write(None));
                    }
                    Operation::Put(key, _) | Operation::Delete(key) => unclear.push(key.clone()),
                    Operation::Get(_) | Operation::Range(..) => {}
                }
            }
            continue;
        };
        let done = if answer.succeeded { &call.call.then } else { &call.call.otherwise };
        for (operation, part) in done.iter().zip(&answer.parts) {
            match (operation, part) {
                (Operation::Put(key, value), _) => {
                    add(key, RegisterCall::Write(Some(value.clone())))
                }
                (Operation::Delete(key), _) => add(key, RegisterCall::Write(None)),
                (Operation::Get(key), Part::Keys(found)) => {
                    let value = found.first().map(|(_, seen)| seen.value.clone());
                    add(key, RegisterCall::Read(value));
                }
                (Operation::Get(_), _) | (Operation::Range(..), _) => {}
            }
        }
    }
    for key in unclear {
        keys.remove(&key);
    }
    keys
}

/// Checks each key in at most `steps_max` steps. Returns the number of undecided keys.
///
/// # Errors
/// When the history of a key is illegal.
pub fn check(history: &KvHistory, steps_max: u64) -> Result<u64, String> {
    let mut undecided = 0;
    for (key, calls) in of_keys(history) {
        match search(&Register, &calls, steps_max) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Illegal { longest, stuck } => {
                let stuck: Vec<_> = stuck.iter().take(6).map(|at| &calls[*at]).collect();
                return Err(format!(
                    "the history of the key {key:?} is not linearizable: after {} of its {} calls, \
                     none of these can be next: {stuck:?}",
                    longest.len(),
                    calls.len()
                ));
            }
        }
    }
    Ok(undecided)
}
