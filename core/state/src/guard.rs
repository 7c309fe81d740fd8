//! The keys that a client's request accesses as a whole. The permission for a whole request is
//! checked before any of its operations is executed. Then each operation is checked on its own,
//! with the exact range that it reads or writes.
//!
//! Source: etcd v3.7 server/etcdserver/apply/auth.go, server/etcdserver/v3_server.go
//! (checkLeaseRenew, checkLeaseTimeToLive, checkLeaseLeases).

use crate::range;
use auth::{Access, Denied, Guarded, KeyRange};
use lease::Lessor;
use proto::LeaseId;
use proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
};

type Check<'a> = dyn FnMut(Access<'_>) -> Result<(), Denied> + 'a;

/// A put. Attaching a key to a lease needs write permission on all keys of the lease, because the
/// new key will be deleted with them.
pub(crate) struct GuardedPut<'a>(pub(crate) &'a PutRequest, pub(crate) &'a Lessor);

impl Guarded for GuardedPut<'_> {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        let GuardedPut(put, lessor) = self;
        mvcc_put(put).each_access(check)?;
        WriteLease(LeaseId(put.lease), lessor).each_access(check)
    }
}

/// A transaction: its compares and the operations of both branches, nested ones included.
#[derive(Debug)]
pub struct GuardedTxn<'a> {
    request: &'a TxnRequest,
    /// `None` for a transaction that only reads.
    lessor: Option<&'a Lessor>,
}

impl<'a> GuardedTxn<'a> {
    /// A transaction that only reads. See [`is_read_only`](crate::txn::is_read_only).
    #[must_use]
    pub fn read_only(request: &'a TxnRequest) -> GuardedTxn<'a> {
        GuardedTxn { request, lessor: None }
    }

    pub(crate) fn new(request: &'a TxnRequest, lessor: &'a Lessor) -> GuardedTxn<'a> {
        GuardedTxn { request, lessor: Some(lessor) }
    }

    fn each_of_op(&self, op: &RequestOp, check: &mut Check<'_>) -> Result<(), Denied> {
        match (&op.request, self.lessor) {
            (Some(Request::RequestRange(request)), _) => range::query(request).each_access(check),
            (Some(Request::RequestPut(put)), Some(lessor)) => {
                GuardedPut(put, lessor).each_access(check)
            }
            (Some(Request::RequestPut(put)), None) => mvcc_put(put).each_access(check),
            (Some(Request::RequestDeleteRange(delete)), _) => {
                mvcc_delete(delete).each_access(check)
            }
            (Some(Request::RequestTxn(request)), lessor) => {
                GuardedTxn { request, lessor }.each_access(check)
            }
            (None, _) => Ok(()),
        }
    }
}

impl Guarded for GuardedTxn<'_> {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        for compare in &self.request.compare {
            let keys = KeyRange::of_request(compare.key.clone(), compare.range_end.clone());
            keys.each_access(check)?;
        }
        let ops = self.request.success.iter().chain(&self.request.failure);
        ops.into_iter().try_for_each(|op| self.each_of_op(op, check))
    }
}

/// Revoking or renewing a lease needs write permission for all its keys.
pub(crate) struct WriteLease<'a>(pub(crate) LeaseId, pub(crate) &'a Lessor);

impl Guarded for WriteLease<'_> {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        let mut keys = self.1.keys(self.0).cloned();
        keys.try_for_each(|key| check(Access::Write(&KeyRange::One(key))))
    }
}

/// Listing the keys of a lease needs read permission for all of them.
pub(crate) struct ReadLease<'a>(pub(crate) LeaseId, pub(crate) &'a Lessor);

impl Guarded for ReadLease<'_> {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        let mut keys = self.1.keys(self.0).cloned();
        keys.try_for_each(|key| check(Access::Read(&KeyRange::One(key))))
    }
}

/// Listing all leases needs read permission for the keys of all leases, as in etcd.
pub(crate) struct ReadLeases<'a>(pub(crate) &'a Lessor);

impl Guarded for ReadLeases<'_> {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        self.0.list().into_iter().try_for_each(|id| ReadLease(id, self.0).each_access(check))
    }
}

/// Converts a put to the store's type.
pub(crate) fn mvcc_put(request: &PutRequest) -> mvcc::Put {
    mvcc::Put {
        key: request.key.clone(),
        value: (!request.ignore_value).then(|| request.value.clone()),
        lease: (!request.ignore_lease).then_some(LeaseId(request.lease)),
        prev_kv: request.prev_kv,
    }
}

/// Converts a deletion to the store's type.
pub(crate) fn mvcc_delete(request: &DeleteRangeRequest) -> mvcc::DeleteRange {
    let keys = KeyRange::of_request(request.key.clone(), request.range_end.clone());
    mvcc::DeleteRange { keys, prev_kv: request.prev_kv }
}
