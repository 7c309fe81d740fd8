//! The rows of `docs/differences.md` for the conformance run. A row is applied, and counted, only
//! if two responses differ. A run fails on a difference without a row and on a row that it never
//! needed.

use proto::etcdserverpb::{
    HashKvResponse, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest,
    range_request::SortTarget, request_op::Request, response_op::Response,
};
use std::collections::BTreeMap;

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";

/// The state of both servers before a transaction.
#[derive(Clone, Copy, Debug)]
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

    /// True if two errors of one transaction may differ, because the operations are checked in
    /// another order: ours, as etcd 3.7, checks one operation after the other, and the lease of a
    /// put before its key. Etcd 3.5 checks all puts before all ranges, and the key of a put before
    /// its lease. So ours can be the error of a range before a put, or that of a put's lease.
    pub fn txn_status(&mut self, request: &TxnRequest, at: Moment, errors: [&str; 2]) -> bool {
        let [ours, theirs] = errors;
        let is_of_put = |error| error == KEY_NOT_FOUND || error == LEASE_NOT_FOUND;
        let allowed = match ours {
            LEASE_NOT_FOUND => theirs == KEY_NOT_FOUND && has_put_with_both_errors(request),
            COMPACTED | FUTURE_REVISION => {
                is_of_put(theirs) && has_range_before_put(request, at, errors, &mut false)
            }
            _ => false,
        };
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

/// The two branches of a transaction. Which one was taken is not known: the answer is an error.
fn branches(request: &TxnRequest) -> [&[RequestOp]; 2] {
    [&request.success, &request.failure]
}

/// Whether a put, nested or not, can lack both its key and its lease.
fn has_put_with_both_errors(request: &TxnRequest) -> bool {
    branches(request).into_iter().flatten().any(|op| match &op.request {
        Some(Request::RequestPut(put)) => put.lease != 0 && put.ignore_value,
        Some(Request::RequestTxn(nested)) => has_put_with_both_errors(nested),
        _ => false,
    })
}

/// Whether, in some choice of branches, a range with our error comes before a put that can have
/// theirs. `met` says whether such a range comes before this transaction, and then after it.
fn has_range_before_put(
    request: &TxnRequest,
    at: Moment,
    errors: [&str; 2],
    met: &mut bool,
) -> bool {
    let before = *met;
    for branch in branches(request) {
        let mut met_in_branch = before;
        for op in branch {
            let found = match &op.request {
                Some(Request::RequestRange(range)) => {
                    met_in_branch |= range_error(range, at) == Some(errors[0]);
                    false
                }
                Some(Request::RequestPut(put)) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    let fits = if errors[1] == KEY_NOT_FOUND { keeps } else { put.lease != 0 };
                    met_in_branch && fits
                }
                Some(Request::RequestTxn(nested)) => {
                    has_range_before_put(nested, at, errors, &mut met_in_branch)
                }
                _ => false,
            };
            if found {
                return true;
            }
        }
        *met |= met_in_branch;
    }
    false
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
    use proto::etcdserverpb::PutRequest;

    const AT: Moment = Moment { revision: 10, compacted: 5 };

    fn range(revision: i64) -> Request {
        Request::RequestRange(RangeRequest { revision, ..RangeRequest::default() })
    }

    fn put(lease: i64, ignore_value: bool) -> Request {
        Request::RequestPut(PutRequest { lease, ignore_value, ..PutRequest::default() })
    }

    fn txn(success: Vec<Request>) -> TxnRequest {
        let success = success.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn allows(request: &TxnRequest, ours: &str, theirs: &str) -> bool {
        Differences::default().txn_status(request, AT, [ours, theirs])
    }

    #[test]
    fn a_lease_may_be_reported_for_a_key_of_the_same_put_only() {
        assert!(allows(&txn(vec![put(1, true)]), LEASE_NOT_FOUND, KEY_NOT_FOUND));
        assert!(!allows(&txn(vec![put(1, true)]), KEY_NOT_FOUND, LEASE_NOT_FOUND));
        let apart = txn(vec![put(1, false), put(0, true)]);
        assert!(!allows(&apart, LEASE_NOT_FOUND, KEY_NOT_FOUND));
    }

    #[test]
    fn a_range_may_be_reported_for_a_later_put_only() {
        let request = txn(vec![range(11), put(1, false)]);
        assert!(allows(&request, FUTURE_REVISION, LEASE_NOT_FOUND));
        assert!(!allows(&request, LEASE_NOT_FOUND, FUTURE_REVISION));
        assert!(!allows(&request, COMPACTED, LEASE_NOT_FOUND));
        assert!(!allows(&request, FUTURE_REVISION, KEY_NOT_FOUND));
        let later = txn(vec![put(1, false), range(11)]);
        assert!(!allows(&later, FUTURE_REVISION, LEASE_NOT_FOUND));
        let valid = txn(vec![range(10), range(5), put(1, false)]);
        assert!(!allows(&valid, FUTURE_REVISION, LEASE_NOT_FOUND));
        assert!(!allows(&valid, COMPACTED, LEASE_NOT_FOUND));
    }

    #[test]
    fn a_range_of_a_nested_transaction_comes_before_what_follows_it() {
        let nested = Request::RequestTxn(txn(vec![range(4)]));
        let request = txn(vec![nested.clone(), put(0, true)]);
        assert!(allows(&request, COMPACTED, KEY_NOT_FOUND));
        assert!(!allows(&txn(vec![put(0, true), nested]), COMPACTED, KEY_NOT_FOUND));
        // The branches of one transaction exclude each other.
        let request = TxnRequest {
            success: txn(vec![range(4)]).success,
            failure: txn(vec![put(0, true)]).success,
            ..TxnRequest::default()
        };
        assert!(!allows(&request, COMPACTED, KEY_NOT_FOUND));
    }
}
