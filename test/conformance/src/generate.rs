//! Random requests, determined by a seed. There are few keys, so that requests affect each other.

use bytes::Bytes;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::TargetUnion, request_op::Request,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A step of the client.
#[derive(Clone, Debug)]
pub enum Step {
    /// KV.Range.
    Range(RangeRequest),
    /// KV.Put.
    Put(PutRequest),
    /// KV.DeleteRange.
    Delete(DeleteRangeRequest),
    /// KV.Txn.
    Txn(TxnRequest),
    /// KV.Compact at this revision, physically.
    Compact(i64),
    /// A lease request.
    Lease(LeaseStep),
    /// A new watcher.
    Watch(proto::etcdserverpb::WatchCreateRequest),
    /// Cancels a watcher, given by its position among the live ones.
    Unwatch(usize),
}

/// A lease request.
#[derive(Clone, Copy, Debug)]
pub enum LeaseStep {
    /// Lease.LeaseGrant of this id and TTL in seconds.
    Grant(i64, i64),
    /// Lease.LeaseRevoke.
    Revoke(i64),
    /// Lease.LeaseTimeToLive with keys.
    TimeToLive(i64),
    /// Lease.LeaseLeases.
    Leases,
    /// Lease.LeaseKeepAlive, once.
    KeepAlive(i64),
}

/// The generator of steps.
#[derive(Debug)]
pub struct Generator {
    rng: StdRng,
    /// The last revision seen in a response.
    pub revision: i64,
    /// The last revision compacted.
    pub compacted: i64,
}

impl Generator {
    /// A generator; the same seed and responses give the same steps.
    #[must_use]
    pub fn new(seed: u64) -> Generator {
        Generator { rng: StdRng::seed_from_u64(seed), revision: 1, compacted: 0 }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        match self.rng.random_range(0..1000) {
            0..330 => Step::Put(self.put()),
            330..600 => Step::Range(self.range()),
            600..690 => Step::Delete(self.delete()),
            690..900 => Step::Txn(self.txn(0)),
            900..905 => Step::Compact(self.compaction()),
            905..960 => Step::Lease(self.lease_step()),
            960..980 => Step::Watch(self.watch()),
            _ => Step::Unwatch(self.rng.random_range(0..64)),
        }
    }

    fn lease_step(&mut self) -> LeaseStep {
        let id = self.lease();
        match self.rng.random_range(0..55) {
            0..20 => LeaseStep::Grant(id, self.rng.random_range(3_600..100_000)),
            20..30 => LeaseStep::Revoke(id),
            30..45 => LeaseStep::TimeToLive(id),
            45..50 => LeaseStep::Leases,
            _ => LeaseStep::KeepAlive(id),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        let number = self.rng.random_range(0..40);
        let key =
            if self.chance(10) { format!("k{number:02}/sub") } else { format!("k{number:02}") };
        key.into()
    }

    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.random_range(0..10) {
            0..4 => Bytes::new(),
            4..6 => Bytes::from_static(b"\0"),
            6..8 => self.key(),
            _ => {
                let mut end = key.to_vec();
                if let Some(last) = end.last_mut() {
                    *last += 1;
                }
                end.into()
            }
        }
    }

    fn value(&mut self) -> Bytes {
        let len = match self.rng.random_range(0..20) {
            0 => 0,
            1 => self.rng.random_range(1_000..6_000),
            _ => self.rng.random_range(1..40),
        };
        (0..len).map(|_| self.rng.random::<u8>()).collect::<Vec<u8>>().into()
    }

    fn lease(&mut self) -> i64 {
        self.rng.random_range(1..12)
    }

    /// Usually 0, otherwise a revision near the existing ones.
    fn read_revision(&mut self) -> i64 {
        if self.chance(75) {
            return 0;
        }
        let low = (self.compacted - 2).max(-1);
        self.rng.random_range(low..=(self.revision + 2).max(low + 1))
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest { key: self.key(), value: self.value(), ..Default::default() };
        request.prev_kv = self.chance(30);
        if self.chance(20) {
            request.lease = self.lease();
        }
        if self.chance(5) {
            request.ignore_value = true;
            if self.chance(90) {
                request.value = Bytes::new();
            }
        }
        if self.chance(5) {
            request.ignore_lease = true;
            if self.chance(90) {
                request.lease = 0;
            }
        }
        request
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut request = RangeRequest { key, range_end, ..Default::default() };
        request.revision = self.read_revision();
        if self.chance(30) {
            request.limit = self.rng.random_range(-1..8);
        }
        if self.chance(30) {
            request.sort_order = self.rng.random_range(0..3);
            request.sort_target = self.rng.random_range(0..5);
        }
        request.serializable = self.chance(30);
        request.keys_only = self.chance(15);
        request.count_only = self.chance(10);
        if self.chance(15) {
            let around = self.revision.max(2);
            for field in [
                &mut request.min_mod_revision,
                &mut request.max_mod_revision,
                &mut request.min_create_revision,
                &mut request.max_create_revision,
            ] {
                if self.rng.random_range(0..2) == 0 {
                    *field = self.rng.random_range(around / 2..around + 2);
                }
            }
        }
        request
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let mut range_end = self.range_end(&key);
        if &range_end[..] == b"\0" && self.chance(90) {
            range_end = Bytes::new();
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.chance(40) }
    }

    /// A deletion for a transaction. Its range has an end, because etcd 3.5 and 3.7 panic on an
    /// unbounded deletion before a put with `ignore_value` or `ignore_lease`.
    fn delete_in_txn(&mut self) -> DeleteRangeRequest {
        let mut delete = self.delete();
        if &delete.range_end[..] == b"\0" {
            delete.range_end = Bytes::from_static(b"\xff\xff");
        }
        delete
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compares = self.rng.random_range(0..4);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let (success, failure) = (self.branch(depth), self.branch(depth));
        TxnRequest { compare, success, failure }
    }

    fn branch(&mut self, depth: u32) -> Vec<RequestOp> {
        let count = self.rng.random_range(0..4);
        (0..count)
            .map(|_| {
                let request = match self.rng.random_range(0..100) {
                    0..40 => Request::RequestPut(self.put()),
                    40..75 => Request::RequestRange(self.range()),
                    75..85 => Request::RequestDeleteRange(self.delete_in_txn()),
                    85..99 if depth < 3 => Request::RequestTxn(self.txn(depth + 1)),
                    99 => return RequestOp { request: None },
                    _ => Request::RequestPut(self.put()),
                };
                RequestOp { request: Some(request) }
            })
            .collect()
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let range_end = if self.chance(15) { self.range_end(&key) } else { Bytes::new() };
        let target = self.rng.random_range(0..5);
        let revision = self.rng.random_range(0..self.revision + 2);
        let target_union = match target {
            0 => Some(TargetUnion::Version(self.rng.random_range(0..4))),
            1 => Some(TargetUnion::CreateRevision(revision)),
            2 => Some(TargetUnion::ModRevision(revision)),
            3 => Some(TargetUnion::Value(self.value())),
            _ => Some(TargetUnion::Lease(self.lease())),
        };
        let target_union = target_union.filter(|_| !self.chance(3));
        Compare { result: self.rng.random_range(0..4), target, key, range_end, target_union }
    }

    fn compaction(&mut self) -> i64 {
        if self.chance(20) {
            return self.rng.random_range(-1..self.revision + 3);
        }
        let low = self.compacted + 1;
        self.rng.random_range(low..=self.revision.max(low))
    }

    fn watch(&mut self) -> proto::etcdserverpb::WatchCreateRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut request =
            proto::etcdserverpb::WatchCreateRequest { key, range_end, ..Default::default() };
        if self.chance(50) {
            request.start_revision = self.rng.random_range(-1..self.revision + 5);
        }
        request.prev_kv = self.chance(40);
        request.fragment = self.chance(10);
        if self.chance(20) {
            request.filters = vec![self.rng.random_range(0..2)];
        }
        request
    }
}
