//! Seeded requests: puts with and without leases, deletions of keys and ranges, transactions,
//! grants and revocations of leases, compactions. Some of them are rejected.

use crate::seed::Seed;
use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A key that only the first request changes, so that the store is never empty.
const ANCHOR: &[u8] = b"anchor";
const LEASES: u64 = 12;
const KEYS: u64 = 60;

/// A source of requests.
#[derive(Debug)]
pub struct Workload {
    seed: Seed,
    made: u64,
}

impl Workload {
    /// The source for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Workload {
        Workload { seed: Seed::new(seed ^ 0x776f_726b), made: 0 }
    }

    fn key(&mut self) -> Bytes {
        key_of(self.seed.below(KEYS))
    }

    fn put(&mut self, key: Bytes) -> PutRequest {
        // Most values are short; some are longer than a sector or a page.
        let len = match self.seed.below(20) {
            0 => 5_000 + self.seed.place(9_000),
            1..=3 => 300 + self.seed.place(1_000),
            _ => self.seed.place(60),
        };
        let fill = u8::try_from(self.seed.below(256)).unwrap_or_default();
        let mut value = format!("{}:", self.made).into_bytes();
        value.resize(value.len() + len, fill);
        let lease = if self.seed.one_in(5) { self.lease() } else { 0 };
        let prev_kv = self.seed.one_in(4);
        PutRequest { key, value: value.into(), lease, prev_kv, ..PutRequest::default() }
    }

    fn lease(&mut self) -> i64 {
        1 + i64::try_from(self.seed.below(LEASES)).unwrap_or_default()
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let from = self.seed.below(KEYS);
        let one = self.seed.below(3) > 0;
        let end = if one { Bytes::new() } else { key_of(from + 1 + self.seed.below(6)) };
        DeleteRangeRequest { key: key_of(from), range_end: end, prev_kv: self.seed.one_in(3) }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let number = i64::try_from(self.seed.below(4)).unwrap_or_default();
        let (target, union) = match self.seed.below(4) {
            0 => (CompareTarget::Version, TargetUnion::Version(number)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(number * 100)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(number * 200)),
            _ => (CompareTarget::Value, TargetUnion::Value(Bytes::from_static(b"5"))),
        };
        let result = match self.seed.below(4) {
            0 => CompareResult::Equal,
            1 => CompareResult::NotEqual,
            2 => CompareResult::Less,
            _ => CompareResult::Greater,
        };
        Compare {
            result: result.into(),
            target: target.into(),
            key,
            target_union: Some(union),
            ..Compare::default()
        }
    }

    /// Operations on distinct keys, as etcd requires.
    fn ops(&mut self) -> Vec<RequestOp> {
        let first = self.seed.below(KEYS);
        let count = self.seed.below(6);
        let ops = (0..count).map(|n| {
            let key = key_of((first + n) % KEYS);
            let request = match self.seed.below(5) {
                0 => {
                    let (range_end, prev_kv) = (Bytes::new(), self.seed.one_in(2));
                    Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv })
                }
                1 => Request::RequestRange(RangeRequest { key, ..RangeRequest::default() }),
                _ => Request::RequestPut(self.put(key)),
            };
            RequestOp { request: Some(request) }
        });
        ops.collect()
    }

    /// The next request, given the current revision.
    pub fn next(&mut self, revision: i64) -> InternalRaftRequest {
        self.made += 1;
        let mut request = InternalRaftRequest::default();
        if self.made == 1 {
            let put = self.put(Bytes::from_static(ANCHOR));
            request.put = Some(PutRequest { lease: 0, ..put });
            return request;
        }
        match self.seed.below(100) {
            0..55 => {
                let key = self.key();
                request.put = Some(self.put(key));
            }
            55..70 => request.delete_range = Some(self.delete()),
            70..85 => {
                let compare = (0..self.seed.below(3)).map(|_| self.compare()).collect();
                let (success, failure) = (self.ops(), self.ops());
                request.txn = Some(TxnRequest { compare, success, failure });
            }
            85..91 => {
                let ttl = if self.seed.one_in(3) { 3 } else { 3_600 };
                request.lease_grant = Some(LeaseGrantRequest { id: self.lease(), ttl });
            }
            91..95 => request.lease_revoke = Some(LeaseRevokeRequest { id: self.lease() }),
            _ => {
                let back = i64::try_from(self.seed.below(80)).unwrap_or_default();
                let physical = self.seed.one_in(2);
                let revision = (revision + 2 - back).max(1);
                request.compaction = Some(CompactionRequest { revision, physical });
            }
        }
        request
    }
}

fn key_of(number: u64) -> Bytes {
    // The keys have different lengths, so that pages do not fill evenly.
    let tail = usize::try_from(number * number % 97).unwrap_or_default();
    format!("key/{number:03}/{}", "x".repeat(tail)).into()
}
