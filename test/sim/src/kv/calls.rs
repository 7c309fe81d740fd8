//! The calls of clients: transactions of puts, deletions and reads, each with its answer; and a
//! store that shares no code with the one that is checked.

use crate::linearizable::Timed;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A key-value as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The value.
    pub value: Bytes,
    /// The revision of the first put since the last deletion.
    pub create_revision: i64,
    /// The revision of the last put.
    pub mod_revision: i64,
    /// The number of puts since the last deletion.
    pub version: i64,
}

/// A condition on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has this value.
    Value(Bytes, Bytes),
    /// It was last put at this revision; 0 means that it does not exist.
    Modified(Bytes, i64),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Puts a key.
    Put(Bytes, Bytes),
    /// Deletes a key.
    Delete(Bytes),
    /// Reads a key.
    Get(Bytes),
    /// Reads the keys from the first one up to the second one, which is excluded.
    Range(Bytes, Bytes),
}

impl Operation {
    /// The key that it writes, with the value that it puts.
    #[must_use]
    pub fn write(&self) -> Option<(&Bytes, Option<&Bytes>)> {
        match self {
            Operation::Put(key, value) => Some((key, Some(value))),
            Operation::Delete(key) => Some((key, None)),
            Operation::Get(_) | Operation::Range(..) => None,
        }
    }

    /// Whether it changed something, according to its answer.
    #[must_use]
    pub fn changes_with(&self, part: &Part) -> bool {
        match self {
            Operation::Put(..) => true,
            Operation::Delete(_) => matches!(part, Part::Deleted(1..)),
            Operation::Get(_) | Operation::Range(..) => false,
        }
    }
}

/// A call: one list of operations if all conditions hold, another one otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvCall {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// The operations if they hold.
    pub then: Vec<Operation>,
    /// The operations otherwise.
    pub otherwise: Vec<Operation>,
}

impl KvCall {
    /// One operation.
    #[must_use]
    pub fn one(operation: Operation) -> KvCall {
        KvCall { then: vec![operation], ..KvCall::default() }
    }

    /// The operations of the branch that was executed.
    #[must_use]
    pub fn executed(&self, answer: &KvAnswer) -> &[Operation] {
        if answer.succeeded { &self.then } else { &self.otherwise }
    }

    /// All operations of both branches.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.then.iter().chain(&self.otherwise)
    }
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The answer to a put.
    Put,
    /// The answer to a deletion: the number of deleted keys.
    Deleted(i64),
    /// The answer to a read: the keys in order.
    Keys(Vec<(Bytes, Seen)>),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvAnswer {
    /// The revision of the header.
    pub revision: i64,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The answers to the operations.
    pub parts: Vec<Part>,
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The client.
    pub client: u32,
    /// The call.
    pub call: KvCall,
    /// The answer, if there was one.
    pub answer: Option<KvAnswer>,
}

/// The history of all clients.
#[derive(Clone, Debug, Default)]
pub struct KvHistory {
    /// The calls.
    pub calls: Vec<Timed<Answered>>,
    /// Revisions at which other calls changed other keys, such as revocations of leases and puts
    /// with leases, each with the earliest time at which it can have happened.
    pub others: Vec<(i64, u64)>,
}

/// The change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// Its new content; `None` if it was deleted.
    pub now: Option<Seen>,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SmallStore {
    /// The revision.
    pub revision: i64,
    /// The keys.
    pub keys: BTreeMap<Bytes, Seen>,
}

impl Default for SmallStore {
    fn default() -> SmallStore {
        SmallStore { revision: 1, keys: BTreeMap::new() }
    }
}

impl SmallStore {
    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Value(key, value) => {
                self.keys.get(key).is_some_and(|seen| seen.value == *value)
            }
            Condition::Modified(key, revision) => {
                self.keys.get(key).map_or(0, |seen| seen.mod_revision) == *revision
            }
        }
    }

    /// The answer to a call, and its changes. Each operation of a transaction sees the changes of
    /// the operations before it. No transaction changes a key twice.
    #[must_use]
    pub fn answer(&self, call: &KvCall) -> (KvAnswer, Vec<KeyChange>) {
        let succeeded = call.conditions.iter().all(|condition| self.holds(condition));
        let operations = if succeeded { &call.then } else { &call.otherwise };
        let mut changes: Vec<KeyChange> = Vec::new();
        let mut parts = Vec::with_capacity(operations.len());
        for operation in operations {
            parts.push(self.operate(operation, &mut changes));
        }
        let revision = self.revision + i64::from(!changes.is_empty());
        (KvAnswer { revision, succeeded, parts }, changes)
    }

    fn operate(&self, operation: &Operation, changes: &mut Vec<KeyChange>) -> Part {
        let get = |changes: &[KeyChange], key: &Bytes| {
            let changed = changes.iter().rev().find(|change| change.key == *key);
            changed.map_or_else(|| self.keys.get(key).cloned(), |change| change.now.clone())
        };
        match operation {
            Operation::Put(key, value) => {
                let old = get(changes, key);
                let now = self.revision + 1;
                let seen = Seen {
                    value: value.clone(),
                    create_revision: old.as_ref().map_or(now, |old| old.create_revision),
                    mod_revision: now,
                    version: old.map_or(0, |old| old.version) + 1,
                };
                changes.push(KeyChange { key: key.clone(), now: Some(seen) });
                Part::Put
            }
            Operation::Delete(key) => {
                let is_there = get(changes, key).is_some();
                if is_there {
                    changes.push(KeyChange { key: key.clone(), now: None });
                }
                Part::Deleted(i64::from(is_there))
            }
            Operation::Get(key) => {
                Part::Keys(get(changes, key).map(|seen| (key.clone(), seen)).into_iter().collect())
            }
            Operation::Range(from, end) => {
                let mut found: BTreeMap<Bytes, Seen> = self
                    .keys
                    .range(from.clone()..end.clone())
                    .map(|(key, seen)| (key.clone(), seen.clone()))
                    .collect();
                for KeyChange { key, now } in changes.iter() {
                    if key < from || key >= end {
                        continue;
                    }
                    match now {
                        Some(seen) => found.insert(key.clone(), seen.clone()),
                        None => found.remove(key),
                    };
                }
                Part::Keys(found.into_iter().collect())
            }
        }
    }

    /// Makes the changes of a call.
    pub fn change(&mut self, changes: Vec<KeyChange>) {
        self.revision += i64::from(!changes.is_empty());
        for KeyChange { key, now } in changes {
            match now {
                Some(seen) => self.keys.insert(key, seen),
                None => self.keys.remove(&key),
            };
        }
    }
}
