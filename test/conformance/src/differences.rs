//! The rows of `docs/differences.md` for the conformance run. A row is applied, and counted, only
//! if two responses differ. A run fails on a difference without a row and on a row that it never
//! needed.

use bytes::Bytes;
use proto::etcdserverpb::{
    HashKvResponse, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest,
    range_request::SortTarget, request_op::Request, response_op::Response,
};
use std::collections::{BTreeMap, BTreeSet};

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";

/// The state of both servers before a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// The current revision.
    pub revision: i64,
    /// The compacted revision.
    pub compacted: i64,
}

/// The names of the rows, as in the first column of the table.
pub const ROWS: [&str; 3] = ["hashkv-hash-revision", "keys-only-lease", "txn-check-order"];

/// How often each row was needed.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    used: BTreeMap<&'static str, u64>,
}

impl Differences {
    fn used(&mut self, row: &'static str) {
        *self.used.entry(row).or_default() += 1;
    }

    /// The rows, and how often each was needed.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        ROWS.iter().map(|row| (*row, self.used.get(row).copied().unwrap_or(0))).collect()
    }

    /// True if two errors of one transaction may differ, because its operations are checked in
    /// another order: ours must be the one of etcd 3.7's order, and theirs that of 3.5's.
    pub fn txn_status(&mut self, executed: &Executed, errors: [&str; 2]) -> bool {
        let orders = [executed.first_error_in_order(), executed.first_error_puts_first()];
        let allowed = orders[0] != orders[1] && orders == errors.map(Some);
        if allowed {
            self.used("txn-check-order");
        }
        allowed
    }

    /// Removes the allowed differences of HashKV.
    pub fn hash_kv(&mut self, ours: &mut HashKvResponse, theirs: &HashKvResponse) {
        if ours.hash_revision != theirs.hash_revision && theirs.hash_revision == 0 {
            ours.hash_revision = 0;
            self.used("hashkv-hash-revision");
        }
    }

    /// Removes the allowed differences of a range.
    pub fn range(
        &mut self,
        request: &RangeRequest,
        ours: &mut RangeResponse,
        theirs: &mut RangeResponse,
    ) {
        if request.keys_only && request.sort_target != i32::from(SortTarget::Value) {
            let mut met = false;
            for kv in &mut theirs.kvs {
                met |= kv.lease != 0;
                kv.lease = 0;
            }
            if met && ours.kvs.iter().all(|kv| kv.lease == 0) {
                self.used("keys-only-lease");
            }
        }
    }

    /// Removes the allowed differences of the ranges of a transaction.
    pub fn txn(
        &mut self,
        request: &TxnRequest,
        ours: &mut [ResponseOp],
        theirs: &mut [ResponseOp],
        succeeded: bool,
    ) {
        let branch: &[RequestOp] = if succeeded { &request.success } else { &request.failure };
        for ((op, ours), theirs) in branch.iter().zip(ours).zip(theirs) {
            match (&op.request, &mut ours.response, &mut theirs.response) {
                (
                    Some(Request::RequestRange(request)),
                    Some(Response::ResponseRange(ours)),
                    Some(Response::ResponseRange(theirs)),
                ) => self.range(request, ours, theirs),
                (
                    Some(Request::RequestTxn(request)),
                    Some(Response::ResponseTxn(ours)),
                    Some(Response::ResponseTxn(theirs)),
                ) if ours.succeeded == theirs.succeeded => {
                    let succeeded = ours.succeeded;
                    self.txn(request, &mut ours.responses, &mut theirs.responses, succeeded);
                }
                _ => {}
            }
        }
    }
}

/// The executed operations of a transaction, in order and without nesting, and the server's state
/// before it.
#[derive(Clone, Debug, Default)]
pub struct Executed {
    /// The operations of the branches that are taken.
    pub ops: Vec<Request>,
    /// The revisions before.
    pub at: Moment,
    /// The existing leases among those of its puts.
    pub leases: BTreeSet<i64>,
    /// The existing keys among those of its puts.
    pub keys: BTreeSet<Bytes>,
}

impl Executed {
    /// The first error if one operation is checked after the other, and the lease of a put before
    /// its key.
    ///
    /// Source: etcd v3.7 server/etcdserver/txn/txn.go.
    fn first_error_in_order(&self) -> Option<&'static str> {
        let of_put = |put| self.lease_error(put).or_else(|| self.key_error(put));
        self.ops.iter().find_map(|op| self.error_of_range(op).or_else(|| put(op).and_then(of_put)))
    }

    /// The first error if all puts are checked before all ranges, and the key of a put before its
    /// lease.
    ///
    /// Source: etcd v3.5 server/etcdserver/apply.go.
    fn first_error_puts_first(&self) -> Option<&'static str> {
        let of_put = |put| self.key_error(put).or_else(|| self.lease_error(put));
        let of_puts = self.ops.iter().filter_map(put).find_map(of_put);
        of_puts.or_else(|| self.ops.iter().find_map(|op| self.error_of_range(op)))
    }

    fn error_of_range(&self, op: &Request) -> Option<&'static str> {
        if let Request::RequestRange(range) = op { range_error(range, self.at) } else { None }
    }

    fn lease_error(&self, put: &PutRequest) -> Option<&'static str> {
        (put.lease != 0 && !self.leases.contains(&put.lease)).then_some(LEASE_NOT_FOUND)
    }

    fn key_error(&self, put: &PutRequest) -> Option<&'static str> {
        let is_kept = put.ignore_value || put.ignore_lease;
        (is_kept && !self.keys.contains(&put.key)).then_some(KEY_NOT_FOUND)
    }
}

fn put(op: &Request) -> Option<&PutRequest> {
    if let Request::RequestPut(put) = op { Some(put) } else { None }
}

/// The error of a range in a transaction.
fn range_error(range: &RangeRequest, at: Moment) -> Option<&'static str> {
    if range.revision == 0 {
        None
    } else if range.revision > at.revision {
        Some(FUTURE_REVISION)
    } else {
        (range.revision < at.compacted).then_some(COMPACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(revision: i64) -> Request {
        Request::RequestRange(RangeRequest { revision, ..RangeRequest::default() })
    }

    fn put_of(key: &'static str, lease: i64, ignore_value: bool) -> Request {
        let key = key.into();
        Request::RequestPut(PutRequest { key, lease, ignore_value, ..PutRequest::default() })
    }

    /// Operations on a server whose current revision is 10, with 5 compacted, and with lease 1 and
    /// key "a".
    fn executed(ops: Vec<Request>) -> Executed {
        Executed {
            ops,
            at: Moment { revision: 10, compacted: 5 },
            leases: BTreeSet::from([1]),
            keys: BTreeSet::from(["a".into()]),
        }
    }

    fn allows(ops: Vec<Request>, ours: &str, theirs: &str) -> bool {
        Differences::default().txn_status(&executed(ops), [ours, theirs])
    }

    #[test]
    fn of_a_put_without_lease_and_key_ours_may_name_the_lease_and_theirs_the_key() {
        assert!(allows(vec![put_of("b", 2, true)], LEASE_NOT_FOUND, KEY_NOT_FOUND));
        assert!(!allows(vec![put_of("b", 2, true)], KEY_NOT_FOUND, LEASE_NOT_FOUND));
        // In each of these cases only one of lease and key is missing.
        assert!(!allows(vec![put_of("a", 2, true)], LEASE_NOT_FOUND, KEY_NOT_FOUND));
        assert!(!allows(vec![put_of("b", 1, true)], LEASE_NOT_FOUND, KEY_NOT_FOUND));
        let apart = vec![put_of("b", 2, false), put_of("b", 0, true)];
        assert!(!allows(apart, LEASE_NOT_FOUND, KEY_NOT_FOUND));
    }

    #[test]
    fn of_a_range_before_a_put_ours_may_name_the_range_and_theirs_the_put() {
        let ops = || vec![range(11), put_of("b", 2, false)];
        assert!(allows(ops(), FUTURE_REVISION, LEASE_NOT_FOUND));
        assert!(!allows(ops(), LEASE_NOT_FOUND, FUTURE_REVISION));
        assert!(!allows(ops(), COMPACTED, LEASE_NOT_FOUND));
        assert!(!allows(ops(), FUTURE_REVISION, KEY_NOT_FOUND));
        assert!(allows(vec![range(4), put_of("b", 0, true)], COMPACTED, KEY_NOT_FOUND));
        let after = vec![put_of("b", 2, false), range(11)];
        assert!(!allows(after, FUTURE_REVISION, LEASE_NOT_FOUND));
        let valid = vec![range(10), range(5), put_of("b", 2, false)];
        assert!(!allows(valid, FUTURE_REVISION, LEASE_NOT_FOUND));
        // The put has no error, so only the range has one.
        let of_range = vec![range(11), put_of("a", 1, true)];
        assert!(!allows(of_range, FUTURE_REVISION, LEASE_NOT_FOUND));
    }

    #[test]
    fn the_first_of_several_errors_of_a_kind_is_the_one() {
        let ops = || vec![range(11), range(4), put_of("b", 0, true), put_of("b", 2, false)];
        assert!(allows(ops(), FUTURE_REVISION, KEY_NOT_FOUND));
        assert!(!allows(ops(), COMPACTED, KEY_NOT_FOUND));
        assert!(!allows(ops(), FUTURE_REVISION, LEASE_NOT_FOUND));
    }
}
