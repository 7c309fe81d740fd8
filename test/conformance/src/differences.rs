//! The rows of `docs/differences.md` for the conformance run. A row is applied, and counted, only
//! if two responses differ. A run fails on a difference without a row and on a row that it never
//! needed.

use proto::etcdserverpb::{
    HashKvResponse, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest,
    range_request::SortTarget, request_op::Request, response_op::Response,
};
use std::collections::BTreeMap;
use tonic::Status;

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

    /// True if two errors of one transaction may differ: if several of its operations are invalid,
    /// a server may report any of them.
    pub fn status(&mut self, ours: &Status, theirs: &Status) -> bool {
        const REASONS: [&str; 4] = [
            "etcdserver: requested lease not found",
            "etcdserver: key not found",
            "etcdserver: mvcc: required revision has been compacted",
            "etcdserver: mvcc: required revision is a future revision",
        ];
        let allowed = [ours, theirs].iter().all(|status| REASONS.contains(&status.message()));
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
