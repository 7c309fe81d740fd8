//! A simple model of the store: a list of all versions ever written, and maps. It shares no code
//! with the store that is checked against it.

use bytes::Bytes;
use prost::Message as _;
use proto::answer::{
    Answer, DeleteAnswer, GrantAnswer, OpAnswer, PutAnswer, RangeAnswer, TxnAnswer,
};
use proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RequestOp, TxnRequest,
};
use proto::mvccpb::KeyValue;
use state::Reject;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A version of a key.
#[derive(Clone, Debug)]
pub struct Version {
    /// The revision, both parts.
    pub at: (i64, i64),
    /// Whether it is a deletion.
    pub tombstone: bool,
    /// The stored key-value.
    pub kv: KeyValue,
}

impl Version {
    /// The key under which it is stored.
    #[must_use]
    pub fn stored_key(&self) -> Vec<u8> {
        let mut key = self.at.0.to_be_bytes().to_vec();
        key.push(b'_');
        key.extend(self.at.1.to_be_bytes());
        if self.tombstone {
            key.push(b't');
        }
        key
    }
}

/// The state after an entry.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The number of versions that were written so far.
    pub versions: usize,
    /// The current revision.
    pub revision: i64,
    /// The compact revision; −1 for none.
    pub compacted: i64,
    /// The leases with their granted TTLs in seconds.
    pub leases: Arc<BTreeMap<i64, i64>>,
}

/// The model.
#[derive(Debug)]
pub struct Twin {
    history: Vec<Version>,
    live: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    compacted: i64,
    leases: Arc<BTreeMap<i64, i64>>,
    lease_ttl_s_min: i64,
}

/// The changes of one entry, which share a revision.
struct Writing<'a> {
    twin: &'a mut Twin,
    main: i64,
    sub: i64,
}

impl Writing<'_> {
    fn revision(&self) -> i64 {
        if self.sub > 0 { self.main } else { self.main - 1 }
    }

    fn push(&mut self, tombstone: bool, kv: KeyValue) {
        self.twin.history.push(Version { at: (self.main, self.sub), tombstone, kv });
        self.sub += 1;
    }

    fn put(&mut self, request: &PutRequest) -> PutAnswer {
        let old = self.twin.live.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            create_revision: old.as_ref().map_or(self.main, |old| old.create_revision),
            mod_revision: self.main,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            lease: request.lease,
        };
        self.push(false, kv.clone());
        self.twin.live.insert(request.key.clone(), kv);
        let prev = old.filter(|_| request.prev_kv).map(|old| old.encode_to_vec().into());
        PutAnswer { revision: self.main, prev }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteAnswer {
        let gone: Vec<KeyValue> = if request.range_end.is_empty() {
            self.twin.live.get(&request.key).cloned().into_iter().collect()
        } else {
            let range = request.key.clone()..request.range_end.clone();
            self.twin.live.range(range).map(|(_, kv)| kv.clone()).collect()
        };
        for kv in &gone {
            self.twin.live.remove(&kv.key);
            self.push(true, KeyValue { key: kv.key.clone(), ..KeyValue::default() });
        }
        let prevs = gone.iter().filter(|_| request.prev_kv).map(|kv| kv.encode_to_vec().into());
        DeleteAnswer {
            revision: self.revision(),
            prevs: prevs.collect(),
            deleted: i64::try_from(gone.len()).unwrap_or(i64::MAX),
        }
    }

    fn op(&mut self, op: &RequestOp) -> OpAnswer {
        match op.request.as_ref() {
            Some(Request::RequestPut(put)) => OpAnswer::Put(self.put(put)),
            Some(Request::RequestDeleteRange(delete)) => OpAnswer::Delete(self.delete(delete)),
            Some(Request::RequestRange(range)) => {
                let found = self.twin.live.get(&range.key);
                OpAnswer::Range(RangeAnswer {
                    revision: self.revision(),
                    kvs: found.map(|kv| kv.encode_to_vec().into()).into_iter().collect(),
                    more: false,
                    count: i64::from(found.is_some()),
                })
            }
            Some(Request::RequestTxn(_)) | None => {
                unreachable!("the workload has no nested transactions")
            }
        }
    }

    fn end(self) -> i64 {
        let revision = self.revision();
        self.twin.revision = revision;
        revision
    }
}

impl Twin {
    /// An empty store.
    #[must_use]
    pub fn new(lease_ttl_s_min: i64) -> Twin {
        Twin {
            history: Vec::new(),
            live: BTreeMap::new(),
            revision: 1,
            compacted: -1,
            leases: Arc::default(),
            lease_ttl_s_min,
        }
    }

    /// Every version that was ever written, oldest first.
    #[must_use]
    pub fn history(&self) -> &[Version] {
        &self.history
    }

    /// The current state.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            versions: self.history.len(),
            revision: self.revision,
            compacted: self.compacted,
            leases: Arc::clone(&self.leases),
        }
    }

    fn writing(&mut self) -> Writing<'_> {
        let main = self.revision + 1;
        Writing { twin: self, main, sub: 0 }
    }

    /// Applies a request and returns its expected answer.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn apply(&mut self, request: &InternalRaftRequest) -> Result<Answer, Reject> {
        if let Some(put) = &request.put {
            self.check_lease(put.lease)?;
            let mut writing = self.writing();
            let answer = writing.put(put);
            writing.end();
            return Ok(Answer::Put(answer));
        }
        if let Some(delete) = &request.delete_range {
            let mut writing = self.writing();
            let answer = writing.delete(delete);
            writing.end();
            return Ok(Answer::Delete(answer));
        }
        if let Some(txn) = &request.txn {
            return self.txn(txn).map(Answer::Txn);
        }
        if let Some(compaction) = &request.compaction {
            if compaction.revision <= self.compacted {
                return Err(Reject::Compacted);
            }
            if compaction.revision > self.revision {
                return Err(Reject::FutureRevision);
            }
            self.compacted = compaction.revision;
            return Ok(Answer::Compact { revision: self.revision });
        }
        if let Some(grant) = request.lease_grant {
            if self.leases.contains_key(&grant.id) {
                return Err(Reject::LeaseExists);
            }
            let ttl_s = grant.ttl.max(self.lease_ttl_s_min);
            Arc::make_mut(&mut self.leases).insert(grant.id, ttl_s);
            let answer = GrantAnswer { revision: self.revision, id: grant.id, ttl_s };
            return Ok(Answer::LeaseGrant(answer));
        }
        if let Some(revoke) = request.lease_revoke {
            Arc::make_mut(&mut self.leases).remove(&revoke.id).ok_or(Reject::LeaseNotFound)?;
            let held = self.live.values().filter(|kv| kv.lease == revoke.id);
            let keys: Vec<Bytes> = held.map(|kv| kv.key.clone()).collect();
            let mut writing = self.writing();
            for key in keys {
                writing.delete(&DeleteRangeRequest { key, ..DeleteRangeRequest::default() });
            }
            return Ok(Answer::LeaseRevoke { revision: writing.end() });
        }
        Ok(Answer::Done)
    }

    fn check_lease(&self, lease: i64) -> Result<(), Reject> {
        let is_there = lease == 0 || self.leases.contains_key(&lease);
        if is_there { Ok(()) } else { Err(Reject::LeaseNotFound) }
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnAnswer, Reject> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                self.check_lease(put.lease)?;
            }
        }
        let mut writing = self.writing();
        let responses = ops.iter().map(|op| writing.op(op)).collect();
        Ok(TxnAnswer { revision: writing.end(), succeeded, responses })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.live.get(&compare.key);
        let number = |of: fn(&KeyValue) -> i64| kv.map_or(0, of);
        let order = match &compare.target_union {
            Some(TargetUnion::Version(than)) => number(|kv| kv.version).cmp(than),
            Some(TargetUnion::ModRevision(than)) => number(|kv| kv.mod_revision).cmp(than),
            Some(TargetUnion::CreateRevision(than)) => number(|kv| kv.create_revision).cmp(than),
            Some(TargetUnion::Lease(than)) => number(|kv| kv.lease).cmp(than),
            Some(TargetUnion::Value(than)) => match kv {
                Some(kv) => kv.value.cmp(than),
                None => return false,
            },
            None => return false,
        };
        match compare.result() {
            CompareResult::Equal => order == Ordering::Equal,
            CompareResult::NotEqual => order != Ordering::Equal,
            CompareResult::Greater => order == Ordering::Greater,
            CompareResult::Less => order == Ordering::Less,
        }
    }
}

/// The live keys after these versions.
#[must_use]
pub fn live(history: &[Version]) -> BTreeMap<&[u8], &Version> {
    let mut live = BTreeMap::new();
    for version in history {
        if version.tombstone {
            live.remove(&version.kv.key[..]);
        } else {
            live.insert(&version.kv.key[..], version);
        }
    }
    live
}

/// The versions that a finished compaction keeps: all later ones, and those that are live at its
/// revision. Tombstones at exactly that revision are left out, since only some versions of etcd
/// keep them.
#[must_use]
pub fn kept(history: &[Version], compacted: i64) -> Vec<&Version> {
    let before = history.partition_point(|version| version.at.0 <= compacted);
    let living = live(&history[..before]);
    let stays = |version: &&Version| {
        version.at.0 > compacted
            || living.get(&version.kv.key[..]).is_some_and(|living| living.at == version.at)
    };
    history.iter().filter(stays).collect()
}

/// HashKV at the current revision. It covers the kept versions, except those that are older than
/// the compaction and not live now.
#[must_use]
pub fn hash_kv(history: &[Version], compacted: i64) -> u32 {
    let living = live(history);
    let mut hash = crc32c::crc32c(b"key");
    for version in kept(history, compacted) {
        let lives = living.get(&version.kv.key[..]).is_some_and(|living| living.at == version.at);
        if version.at.0 > compacted || lives {
            hash = crc32c::crc32c_append(hash, &version.stored_key());
            hash = crc32c::crc32c_append(hash, &version.kv.encode_to_vec());
        }
    }
    hash
}
