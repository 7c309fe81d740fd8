//! Applies puts, deletions, ranges and transactions.
//!
//! Source: etcd v3.7 server/etcdserver/txn/{put,delete,range,txn}.go.

use crate::failure::Failure;
use crate::guard::{self, GuardedPut, GuardedTxn};
use crate::machine::State;
use crate::range::{self, Collector};
use crate::reject::Reject;
use crate::txn::{self, Path};
use auth::{Caller, Door, KeyRange};
use backend::Batch;
use bytes::Bytes;
use mvcc::{EventBatch, WriteTxn};
use proto::LeaseId;
use proto::answer::{DeleteAnswer, OpAnswer, PutAnswer, RangeAnswer, TxnAnswer};
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op::Request,
};
use proto::mvccpb::KeyValue;
use std::sync::Arc;

/// The answer of an operation.
type OpResult<A> = Result<A, Failure>;

/// The progress of the check of a transaction.
struct TxnCheck<'a> {
    caller: &'a Caller,
    batch: &'a mut Batch,
    /// The puts and deletions before the current operation.
    earlier: Vec<Earlier>,
}

/// An operation of a transaction that comes before the one being checked.
enum Earlier {
    Put(Bytes),
    Delete(KeyRange),
}

impl State {
    pub(crate) fn put(
        &mut self,
        caller: &Caller,
        request: &PutRequest,
        batch: &mut Batch,
    ) -> OpResult<PutAnswer> {
        let door = self.auth.door(caller);
        door.permit(GuardedPut(request, &self.lessor))?;
        self.check_lease(request)?;
        let mut write = self.storage.store.write(batch);
        let answer = put(&mut write, door, request);
        let changes = write.end();
        self.note(changes);
        answer
    }

    pub(crate) fn delete(
        &mut self,
        caller: &Caller,
        request: &DeleteRangeRequest,
        batch: &mut Batch,
    ) -> OpResult<DeleteAnswer> {
        let mut write = self.storage.store.write(batch);
        let answer = delete(&mut write, self.auth.door(caller), request);
        let changes = write.end();
        self.note(changes);
        answer
    }

    pub(crate) fn range(
        &mut self,
        caller: &Caller,
        request: &RangeRequest,
        batch: &mut Batch,
    ) -> OpResult<RangeAnswer> {
        read(&mut self.storage.store.write(batch), self.auth.door(caller), request)
    }

    pub(crate) fn txn(
        &mut self,
        caller: &Caller,
        request: &TxnRequest,
        batch: &mut Batch,
    ) -> OpResult<TxnAnswer> {
        let door = self.auth.door(caller);
        door.permit(GuardedTxn::new(request, &self.lessor))?;
        let mut write = self.storage.store.write(batch);
        let path = txn::path(request, &mut |compare, each| live(&mut write, door, compare, each))?;
        drop(write);
        self.check_txn(request, &path, &mut TxnCheck { caller, batch, earlier: Vec::new() })?;
        let mut write = self.storage.store.write(batch);
        let answer = execute(&mut write, self.auth.door(caller), request, &path);
        let changes = write.end();
        let revision = changes.revision;
        self.note(changes);
        answer.map(|answer| TxnAnswer { revision, ..answer })
    }

    /// Checks each operation of the taken branches before any operation is executed.
    fn check_txn(
        &mut self,
        request: &TxnRequest,
        path: &Path,
        check: &mut TxnCheck<'_>,
    ) -> OpResult<()> {
        let mut nested = path.nested.iter();
        for op in txn::chosen(request, path.succeeded) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.check_range(range)?,
                Some(Request::RequestPut(put)) => {
                    self.check_lease(put)?;
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && !self.will_exist(put, check)? {
                        return Err(Reject::KeyNotFound.into());
                    }
                    check.earlier.push(Earlier::Put(put.key.clone()));
                }
                Some(Request::RequestTxn(inner)) => {
                    let path = nested.next();
                    let path = path.expect("there is a path for each nested transaction");
                    self.check_txn(inner, path, check)?;
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    let (key, end) = (delete.key.clone(), delete.range_end.clone());
                    check.earlier.push(Earlier::Delete(KeyRange::of_request(key, end)));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Whether the key of a put will exist after the earlier operations of its transaction. etcd
    /// does not see an earlier deletion of that single key: all its members panic when the put
    /// finds no value to keep.
    fn will_exist(&mut self, put: &PutRequest, check: &mut TxnCheck<'_>) -> OpResult<bool> {
        let last = check.earlier.iter().rev().find_map(|operation| match operation {
            Earlier::Put(key) => (*key == put.key).then_some(true),
            Earlier::Delete(range) => range.contains(&put.key).then_some(false),
        });
        let Some(last) = last else {
            let put = self.auth.permit(check.caller, guard::mvcc_put(put))?;
            return Ok(self.storage.store.write(check.batch).has_key_of(&put));
        };
        Ok(last)
    }

    fn check_range(&self, request: &RangeRequest) -> OpResult<()> {
        if request.revision == 0 {
            Ok(())
        } else if request.revision > self.storage.store.revision() {
            Err(Reject::FutureRevision.into())
        } else if request.revision < self.storage.store.compact_revision() {
            Err(Reject::Compacted.into())
        } else {
            Ok(())
        }
    }

    fn check_lease(&self, request: &PutRequest) -> OpResult<()> {
        if request.lease != 0 && !self.lessor.contains(LeaseId(request.lease)) {
            return Err(Reject::LeaseNotFound.into());
        }
        Ok(())
    }

    /// Passes the changes of a transaction on to watchers and leases.
    pub(crate) fn note(&mut self, changes: mvcc::Changes) {
        self.totals.add(changes.ops);
        for change in changes.leases {
            self.lessor.detach(&change.key);
            if change.new != LeaseId(0) && self.lessor.attach(&change.key, change.new).is_err() {
                // Only a lease that `ignore_lease` keeps can be missing.
                tracing::warn!(
                    lease = format_args!("{:016x}", change.new),
                    "a key kept a lease that does not exist"
                );
            }
        }
        if !changes.events.is_empty() {
            let (revision, events) = (changes.revision, changes.events);
            self.output.events.push(Arc::new(EventBatch { revision, events }));
        }
    }
}

/// Calls `each` for the live key-values in a compare's range until it returns false. Returns the
/// number of calls.
fn live(
    write: &mut WriteTxn<'_>,
    door: Door<'_>,
    compare: &Compare,
    each: &mut dyn FnMut(&KeyValue) -> bool,
) -> Result<usize, Failure> {
    let of_values = compare.target == i32::from(proto::etcdserverpb::compare::CompareTarget::Value);
    let keys = KeyRange::of_request(compare.key.clone(), compare.range_end.clone());
    let mut seen = 0;
    for (_, info) in write.walk(&door.permit(keys)?) {
        seen += 1;
        let stored = if of_values { Some(write.fetch(&info)?) } else { None };
        let kv = txn::to_compare(&info, stored)?;
        if !each(&kv) {
            break;
        }
    }
    Ok(seen)
}

fn put(write: &mut WriteTxn<'_>, door: Door<'_>, request: &PutRequest) -> OpResult<PutAnswer> {
    let done = write.put(door.permit(guard::mvcc_put(request))?)??;
    Ok(PutAnswer { revision: done.revision, prev: done.prev })
}

fn delete(
    write: &mut WriteTxn<'_>,
    door: Door<'_>,
    request: &DeleteRangeRequest,
) -> OpResult<DeleteAnswer> {
    let done = write.delete_range(door.permit(guard::mvcc_delete(request))?)?;
    let deleted = i64::try_from(done.deleted).unwrap_or(i64::MAX);
    Ok(DeleteAnswer { revision: done.revision, deleted, prevs: done.prevs })
}

fn read(write: &mut WriteTxn<'_>, door: Door<'_>, request: &RangeRequest) -> OpResult<RangeAnswer> {
    let query = door.permit(range::query(request))?;
    let (items, count) = write.range(&query)??;
    let mut collector = Collector::new(request);
    for item in items {
        collector.push(item).map_err(|_| not_a_key_value())?;
    }
    Ok(collector.finish(write.revision(), count))
}

/// Executes the operations of the chosen branches. All of them were checked before, so a rejection
/// here would be a bug that makes members diverge.
fn execute(
    write: &mut WriteTxn<'_>,
    door: Door<'_>,
    request: &TxnRequest,
    path: &Path,
) -> OpResult<TxnAnswer> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in txn::chosen(request, path.succeeded) {
        let answer = match &op.request {
            Some(Request::RequestRange(range)) => read(write, door, range).map(OpAnswer::Range),
            Some(Request::RequestPut(request)) => put(write, door, request).map(OpAnswer::Put),
            Some(Request::RequestDeleteRange(request)) => {
                delete(write, door, request).map(OpAnswer::Delete)
            }
            Some(Request::RequestTxn(inner)) => {
                let path = nested.next().expect("there is a path for each nested transaction");
                execute(write, door, inner, path).map(OpAnswer::Txn)
            }
            // Our server refuses an empty operation before it is proposed, but not every etcd does.
            None => continue,
        };
        assert!(
            !matches!(answer, Err(Failure::Reject(_))),
            "the operations of a transaction were checked and cannot be rejected: {answer:?}"
        );
        responses.push(answer?);
    }
    Ok(TxnAnswer { revision: 0, succeeded: path.succeeded, responses })
}

fn not_a_key_value() -> Failure {
    let what = "a stored value is not a key-value";
    Failure::Store(mvcc::Error::Corrupt { what, key: Vec::new() })
}
