//! The model of the whole cluster: the one log that all members must apply, and a simple store that
//! applies it. All members, answers, reads and events are compared with it.

use super::clock::SECOND;
use super::roster::Roster;
use crate::kv::calls::{Operation, Part, Seen};
use crate::twin::{self, Twin};
use bytes::Bytes;
use executor::RequestFailure;
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::InternalRaftRequest;
use proto::mvccpb::KeyValue;
use proto::{ConfChange, Entry, EntryId, EntryKind, Index};
use state::Reject;
use std::collections::BTreeMap;

/// A version of a key: its revision, and the encoded key-value; `None` for a deletion.
type KeyVersion = (i64, Option<KeyValue>);

/// An event that watchers get: its revision and key, and the value if it is a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownEvent {
    pub(crate) revision: i64,
    pub(crate) key: Bytes,
    pub(crate) put: Option<KeyValue>,
}

#[derive(Debug)]
struct Expected {
    index: Index,
    answer: Result<Answer, Reject>,
    is_physical_compaction: bool,
}

/// The model.
#[derive(Debug)]
pub(crate) struct Oracle {
    twin: Twin,
    /// The ids and digests of the entries from index 1 on.
    entries: Vec<(EntryId, u64)>,
    expected: BTreeMap<u64, Expected>,
    keys: BTreeMap<Bytes, Vec<KeyVersion>>,
    events: Vec<KnownEvent>,
    /// When each revision was made, for the histories of clients.
    made: Vec<u64>,
    /// The members after the last entry.
    pub(crate) roster: Roster,
    pub(crate) changes: u64,
    pub(crate) compactions: u64,
}

/// A key-value in the form of the histories.
pub(crate) fn seen(kv: &KeyValue) -> Seen {
    Seen {
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

/// A hash that distinguishes entries. It need not resist attacks.
fn digest(entry: &Entry) -> u64 {
    let kind = match entry.kind {
        EntryKind::Normal => 1,
        EntryKind::ConfChange => 2,
        EntryKind::ConfChangeV2 => 3,
    };
    let sum = u64::from(crc32c::crc32c(&entry.data));
    (sum << 32) ^ ((entry.data.len() as u64) << 8) ^ kind
}

impl Oracle {
    pub(crate) fn new(lease_ttl_s_min: i64) -> Oracle {
        Oracle {
            twin: Twin::new(lease_ttl_s_min),
            entries: Vec::new(),
            expected: BTreeMap::new(),
            keys: BTreeMap::new(),
            events: Vec::new(),
            made: vec![0, 0],
            roster: Roster::default(),
            changes: 0,
            compactions: 0,
        }
    }

    /// The last entry that any member got to apply.
    pub(crate) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The revision after it.
    pub(crate) fn revision(&self) -> i64 {
        self.twin.moment().revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.twin.moment().compacted
    }

    /// The leases after it, with their TTLs in seconds.
    pub(crate) fn leases(&self) -> BTreeMap<i64, i64> {
        (*self.twin.moment().leases).clone()
    }

    /// HashKV after it, once compaction is finished.
    pub(crate) fn hash_kv(&self) -> u32 {
        twin::hash_kv(self.twin.history(), self.twin.moment().compacted)
    }

    /// When a revision was made.
    pub(crate) fn made_at(&self, revision: i64) -> u64 {
        usize::try_from(revision).ok().and_then(|at| self.made.get(at)).copied().unwrap_or(0)
    }

    /// Called when a member gets a committed entry to apply. Returns the lease that the entry
    /// revokes, if it is the first member.
    ///
    /// # Errors
    /// When another member got another entry at this index, or the request was committed before.
    pub(crate) fn committed(&mut self, entry: &Entry, now: u64) -> Result<Option<i64>, String> {
        let found = (entry.id(), digest(entry));
        let place = usize::try_from(entry.index.0 - 1).unwrap_or(usize::MAX);
        match self.entries.get(place) {
            Some(known) if *known == found => return Ok(None),
            Some(known) => {
                return Err(format!(
                    "state machine safety: entry {} is of term {} at one member, and {entry:?} at \
                     another",
                    entry.index, known.0.term
                ));
            }
            None if place == self.entries.len() => {}
            None => {
                return Err(format!(
                    "entry {} is applied, and {} is the last one before it",
                    entry.index,
                    self.last()
                ));
            }
        }
        self.entries.push(found);
        match entry.kind {
            EntryKind::Normal if entry.data.is_empty() => Ok(None),
            EntryKind::Normal => self.request(entry, now),
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                self.change(entry)?;
                Ok(None)
            }
        }
    }

    fn change(&mut self, entry: &Entry) -> Result<(), String> {
        let wrong = |why: String| format!("entry {}: {why}", entry.index);
        let change = ConfChange::decode(entry.data.clone());
        let change = change.map_err(|error| wrong(error.to_string()))?;
        let told = self.roster.change(&change).map_err(wrong)?;
        self.changes += 1;
        let answer = told.map(|()| Answer::Done);
        let expected = Expected { index: entry.index, answer, is_physical_compaction: false };
        self.expect(change.id, expected)
    }

    /// Records the answer that the proposer of a request must get; 0 is no id.
    fn expect(&mut self, id: u64, expected: Expected) -> Result<(), String> {
        if id == 0 {
            return Ok(());
        }
        let index = expected.index;
        match self.expected.insert(id, expected) {
            None => Ok(()),
            Some(before) => Err(format!(
                "the request {id:x} is applied twice: at entry {} and at {index}",
                before.index
            )),
        }
    }

    fn request(&mut self, entry: &Entry, now: u64) -> Result<Option<i64>, String> {
        let request = InternalRaftRequest::decode(entry.data.clone())
            .map_err(|error| format!("entry {}: {error}", entry.index))?;
        let before = self.twin.history().len();
        let answer = self.twin.apply(&request);
        self.note_changes(before, now);
        let id = request.header.as_ref().map_or(0, |header| header.id);
        let compaction = request.compaction.filter(|_| answer.is_ok());
        self.compactions += u64::from(compaction.is_some());
        let revoked = request.lease_revoke.filter(|_| answer.is_ok()).map(|revoke| revoke.id);
        let is_physical_compaction = compaction.is_some_and(|compaction| compaction.physical);
        let expected = Expected { index: entry.index, answer, is_physical_compaction };
        self.expect(id, expected)?;
        Ok(revoked)
    }

    /// Adds the changes of the last request.
    fn note_changes(&mut self, before: usize, now: u64) {
        for version in &self.twin.history()[before..] {
            let revision = version.at.0;
            let put = (!version.tombstone).then(|| version.kv.clone());
            let key = version.kv.key.clone();
            self.keys.entry(key.clone()).or_default().push((revision, put.clone()));
            self.events.push(KnownEvent { revision, key, put });
        }
        let revision = usize::try_from(self.twin.moment().revision).unwrap_or_default();
        self.made.resize(self.made.len().max(revision + 1), now);
    }

    /// Checks the result of a request at a member. All members must have the same result.
    ///
    /// # Errors
    /// When the result is wrong, or the request was never committed.
    pub(crate) fn check_result(
        &self,
        id: u64,
        result: &Result<Answer, RequestFailure>,
    ) -> Result<(), String> {
        let found = match result {
            Err(RequestFailure::TooManyRequests) => return Ok(()),
            Err(RequestFailure::Rejected(reject)) => Err(reject),
            Ok(answer) => Ok(answer),
        };
        let Some(expected) = self.expected.get(&id) else {
            // The entries of a new cluster have no ids.
            return match found {
                _ if id == 0 => Ok(()),
                _ => Err(format!("the request {id:x} is answered and was never committed")),
            };
        };
        let may_differ = expected.is_physical_compaction
            && matches!((&expected.answer, &found), (Ok(_), Ok(Answer::Compact { .. })));
        if expected.answer.as_ref() == found || may_differ {
            return Ok(());
        }
        Err(format!(
            "entry {} is answered {found:?}, and must be {:?}",
            expected.index, expected.answer
        ))
    }

    /// A key at a revision.
    pub(crate) fn key_at(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(at, _)| *at <= revision);
        versions[..after].last()?.1.as_ref()
    }

    /// Checks the result of a read at a revision.
    ///
    /// # Errors
    /// When the model has other data at that revision.
    pub(crate) fn check_read(
        &self,
        operations: &[Operation],
        revision: i64,
        parts: &[Part],
    ) -> Result<(), String> {
        if revision > self.revision() {
            return Err(format!(
                "a read shows revision {revision}, and {} is the last that was committed",
                self.revision()
            ));
        }
        for (operation, part) in operations.iter().zip(parts) {
            let Part::Keys(found) = part else { continue };
            let expected = self.expected_read(operation, revision);
            if *found != expected {
                return Err(format!(
                    "{operation:?} at revision {revision} returns {found:?}, and should return \
                     {expected:?}"
                ));
            }
        }
        Ok(())
    }

    fn expected_read(&self, operation: &Operation, revision: i64) -> Vec<(Bytes, Seen)> {
        match operation {
            Operation::Get(key) => {
                let kv = self.key_at(key, revision);
                kv.map(|kv| (key.clone(), seen(kv))).into_iter().collect()
            }
            Operation::Range(from, end) => self
                .keys
                .range::<Bytes, _>(from..end)
                .filter_map(|(key, _)| Some((key.clone(), seen(self.key_at(key, revision)?))))
                .collect(),
            Operation::Put(..) | Operation::Delete(_) => Vec::new(),
        }
    }

    /// The events from a revision on, oldest first.
    pub(crate) fn events_from(&self, revision: i64) -> &[KnownEvent] {
        let first = self.events.partition_point(|event| event.revision < revision);
        &self.events[first..]
    }

    /// A short description of the state, for failures.
    pub(crate) fn describe(&self, now: u64) -> String {
        format!(
            "at {}.{:06} s, entry {}, revision {}",
            now / SECOND,
            now % SECOND,
            self.last(),
            self.revision()
        )
    }
}
