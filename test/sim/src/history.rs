//! The history of a run: each entry that the member applied, with the state that the twin computes
//! after it. The run is checked against it continuously, and every crash image afterwards.

use crate::driver::Observation;
use crate::twin::{self, Moment, Twin};
use bytes::Bytes;
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::InternalRaftRequest;
use proto::{Entry, EntryKind, Index};
use state::Reject;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The expected content of a member once an entry is applied, compaction is finished, and
/// everything is in the file.
#[derive(Debug)]
pub struct Expected {
    /// The pairs of the bucket `key`, without tombstones at the compact revision.
    pub pairs: Vec<(Vec<u8>, Bytes)>,
    /// The live key-values, encoded, in order of key.
    pub live: Vec<Bytes>,
    /// The keys of each lease.
    pub keys_of_leases: BTreeMap<i64, Vec<Bytes>>,
    /// HashKV at the current revision.
    pub hash: u32,
}

/// An applied entry and the twin's state after it.
#[derive(Debug)]
struct Applied {
    entry: Entry,
    moment: Moment,
    expected: OnceLock<Expected>,
}

/// A request that was applied, and its expected answer.
#[derive(Debug)]
struct Request {
    index: Index,
    answer: Result<Answer, Reject>,
    is_physical_compaction: bool,
}

/// All entries that were applied.
#[derive(Debug)]
pub struct History {
    twin: Twin,
    start: Moment,
    /// The entries from index 1 on.
    applied: Vec<Applied>,
    /// Entries that were handed to the log, by index.
    appended: BTreeMap<Index, Entry>,
    requests: BTreeMap<u64, Request>,
    acknowledged: Index,
    /// The last entry and the revision of the moment that was published last.
    published: (Index, i64),
    compactions: u64,
    own: u64,
}

impl History {
    /// An empty history.
    #[must_use]
    pub fn new(lease_ttl_s_min: i64) -> History {
        let twin = Twin::new(lease_ttl_s_min);
        History {
            start: twin.moment(),
            twin,
            applied: Vec::new(),
            appended: BTreeMap::new(),
            requests: BTreeMap::new(),
            acknowledged: Index(0),
            published: (Index(0), 0),
            compactions: 0,
            own: 0,
        }
    }

    /// Adds the observations of a member, and checks them.
    ///
    /// # Errors
    /// When an entry changes its content, an answer is wrong, or an answer, an event or a linearizable
    /// moment comes too early.
    pub fn learn(&mut self, observations: Vec<Observation>) -> Result<(), String> {
        for observation in observations {
            match observation {
                Observation::Appending(entries) => {
                    for entry in entries {
                        self.appended.split_off(&entry.index);
                        self.appended.insert(entry.index, entry);
                    }
                }
                Observation::Applying(entry) => self.apply(entry)?,
                Observation::Answer(id, answer) => self.answered(id, &answer)?,
                Observation::Reply(_) => {}
                Observation::Moment { applied, revision, is_linearizable } => {
                    if is_linearizable && applied < self.acknowledged {
                        return Err(format!(
                            "a moment after entry {applied} counts as linearizable, and entry {} \
                             was acknowledged",
                            self.acknowledged
                        ));
                    }
                    self.published = (applied, revision);
                }
                Observation::Events(revisions) => {
                    if let Some(revision) = revisions.iter().find(|it| **it > self.published.1) {
                        return Err(format!(
                            "events of revision {revision} were sent before a moment with it"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the history after the member has stopped: entries that were appended and not applied may
    /// be in the log, and count as applied.
    ///
    /// # Errors
    /// As [`History::learn`].
    pub fn end(&mut self) -> Result<(), String> {
        let next = self.last().next();
        for entry in self.appended.split_off(&next).into_values() {
            self.apply(entry)?;
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) -> Result<(), String> {
        if let Some(known) = self.entry(entry.index) {
            // The entry was applied again after a restart.
            return if *known == entry {
                Ok(())
            } else {
                Err(format!("entry {} was {known:?}, and is {entry:?}", entry.index))
            };
        }
        if entry.index != self.last().next() {
            return Err(format!("entry {} is applied after {}", entry.index, self.last()));
        }
        if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
            let request = InternalRaftRequest::decode(entry.data.clone())
                .map_err(|error| format!("entry {}: {error}", entry.index))?;
            let answer = self.twin.apply(&request);
            // A leader's own proposals are not requests of clients.
            let is_own = request.cluster_version_set.is_some()
                || request.cluster_member_attr_set.is_some()
                || request.v2.is_some();
            self.own += u64::from(is_own);
            let is_physical_compaction = request.compaction.is_some_and(|asked| asked.physical);
            self.compactions += u64::from(request.compaction.is_some() && answer.is_ok());
            let id = request.header.map_or(0, |header| header.id);
            let index = entry.index;
            self.requests.insert(id, Request { index, answer, is_physical_compaction });
        }
        let (moment, expected) = (self.twin.moment(), OnceLock::new());
        self.applied.push(Applied { entry, moment, expected });
        Ok(())
    }

    fn answered(&mut self, id: u64, answer: &Result<Answer, Reject>) -> Result<(), String> {
        if id == 0 {
            // An entry of the first configuration of the cluster, for which no client waits.
            return Ok(());
        }
        let Some(request) = self.requests.get(&id) else {
            return Err(format!("request {id} is answered and was never applied"));
        };
        // A physical compaction is answered when it is finished, with the revision at that time.
        let may_differ = request.is_physical_compaction
            && matches!((&request.answer, answer), (Ok(_), Ok(Answer::Compact { .. })));
        if request.answer != *answer && !may_differ {
            return Err(format!(
                "entry {} is answered {answer:?}, and must be {:?}",
                request.index, request.answer
            ));
        }
        if request.index > self.published.0 {
            return Err(format!("entry {} is answered before a moment with it", request.index));
        }
        self.acknowledged = self.acknowledged.max(request.index);
        Ok(())
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.applied.len() as u64)
    }

    /// The last entry whose request was answered.
    #[must_use]
    pub fn acknowledged(&self) -> Index {
        self.acknowledged
    }

    /// The number of requests that were applied, including revocations of expired leases.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.len() as u64 - self.own
    }

    /// The number of compactions that were accepted.
    #[must_use]
    pub fn compactions(&self) -> u64 {
        self.compactions
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.twin.moment().revision
    }

    fn at(&self, index: Index) -> Option<&Applied> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.applied.get(place)
    }

    /// An entry.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.at(index).map(|applied| &applied.entry)
    }

    /// The twin's state after an entry, and the content that a member must then have.
    #[must_use]
    pub fn after(&self, index: Index) -> Option<(&Moment, &Expected)> {
        let applied = self.at(index)?;
        let expected = applied.expected.get_or_init(|| self.expect(&applied.moment));
        Some((&applied.moment, expected))
    }

    /// As [`History::after`], of an empty store.
    #[must_use]
    pub fn start(&self) -> (Moment, Expected) {
        (self.start.clone(), self.expect(&self.start))
    }

    fn expect(&self, moment: &Moment) -> Expected {
        let history = &self.twin.history()[..moment.versions];
        let kept = twin::kept(history, moment.compacted);
        let pairs =
            kept.iter().map(|kept| (kept.stored_key(), kept.kv.encode_to_vec().into())).collect();
        let living = twin::live(history);
        let mut keys_of_leases: BTreeMap<i64, Vec<Bytes>> =
            moment.leases.keys().map(|lease| (*lease, Vec::new())).collect();
        for version in living.values() {
            if let Some(keys) = keys_of_leases.get_mut(&version.kv.lease) {
                keys.push(version.kv.key.clone());
            }
        }
        Expected {
            pairs,
            live: living.values().map(|version| version.kv.encode_to_vec().into()).collect(),
            keys_of_leases,
            hash: twin::hash_kv(history, moment.compacted),
        }
    }
}
