//! The quota of the database. It is checked twice with [`Quota::fits`]: by a worker before it
//! proposes, and when the entry is applied.
//!
//! Source: etcd v3.7 server/storage/quota.go.

use proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

/// The limit when none is configured, in bytes.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The cost of a lease, in bytes.
pub const LEASE_COST: u64 = 64;
/// The cost of a key besides the bytes of key and value.
const KEY_COST: u64 = 256;

/// The limit of the database's size; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    limit_bytes: Option<u64>,
}

impl Quota {
    /// The quota for a value of `--quota-backend-bytes`: 0 means the default limit, a negative
    /// number no limit.
    #[must_use]
    pub fn from_flag(bytes: i64) -> Quota {
        let limit_bytes = match u64::try_from(bytes) {
            Err(_) => None,
            Ok(0) => Some(DEFAULT_QUOTA_BYTES),
            Ok(bytes) => Some(bytes),
        };
        Quota { limit_bytes }
    }

    /// The limit in bytes, if there is one.
    #[must_use]
    pub fn limit_bytes(self) -> Option<u64> {
        self.limit_bytes
    }

    /// Whether a request of this cost fits a database of `size` bytes. A cost of 0 always fits.
    #[must_use]
    pub fn fits(self, size: u64, cost: u64) -> bool {
        cost == 0 || self.limit_bytes.is_none_or(|limit| size.saturating_add(cost) < limit)
    }
}

/// The cost of a put in bytes.
#[must_use]
pub fn put_cost(request: &PutRequest) -> u64 {
    KEY_COST + request.key.len() as u64 + request.value.len() as u64
}

/// The cost of a transaction in bytes: that of its more expensive branch, including nested ones.
#[must_use]
pub fn txn_cost(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&request.success).max(branch(&request.failure))
}

fn op_cost(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(size: usize) -> RequestOp {
        let request = PutRequest { value: vec![0; size].into(), ..PutRequest::default() };
        RequestOp { request: Some(Request::RequestPut(request)) }
    }

    #[test]
    fn the_more_expensive_branch_counts_with_nested_puts() {
        let inner = TxnRequest { success: vec![put(10), put(20)], ..TxnRequest::default() };
        let nested = RequestOp { request: Some(Request::RequestTxn(inner)) };
        let outer =
            TxnRequest { success: vec![put(1)], failure: vec![nested], ..TxnRequest::default() };
        assert_eq!(txn_cost(&outer), 2 * KEY_COST + 30);
    }

    #[test]
    fn a_request_fits_only_below_the_limit() {
        let quota = Quota::from_flag(100);
        assert!(quota.fits(49, 50));
        assert!(!quota.fits(50, 50));
        assert!(quota.fits(1_000, 0), "a cost of 0 always fits");
        assert!(Quota::from_flag(-1).fits(u64::MAX, 1));
        assert_eq!(Quota::from_flag(0).limit_bytes(), Some(DEFAULT_QUOTA_BYTES));
    }
}
