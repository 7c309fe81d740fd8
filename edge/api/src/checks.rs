//! Validation of requests before they are executed or proposed: missing keys, options that exclude
//! each other, transactions that are too large or change a key twice. Not here: checks that depend
//! on the store's content.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/key.go, pkg/adt/interval_tree.go.

mod intervals;

use intervals::Intervals;
use proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};
use rpc::{Code, Error, Status};
use std::collections::BTreeSet;

/// A range must have a key, and its sort order and target must be known values.
///
/// # Errors
/// The error of etcd's table.
pub(crate) fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// A streamed range can be neither sorted nor filtered.
///
/// # Errors
/// As [`range`], and Unimplemented in etcd's words.
pub(crate) fn range_stream(request: &RangeRequest) -> Result<(), Status> {
    range(request)?;
    let unsorted = request.sort_order == i32::from(SortOrder::None)
        || (request.sort_target == i32::from(SortTarget::Key)
            && request.sort_order == i32::from(SortOrder::Ascend));
    if !unsorted {
        let why = "RangeStream does not support custom sort orders";
        return Err(Status::new(Code::Unimplemented, why));
    }
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if filtered {
        let why = "RangeStream does not support revision filters";
        return Err(Status::new(Code::Unimplemented, why));
    }
    Ok(())
}

/// A put must have a key. With `ignore_value` it must have no value, with `ignore_lease` no lease.
///
/// # Errors
/// The error of etcd's table.
pub(crate) fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Error::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Error::LeaseProvided)
    } else {
        Ok(())
    }
}

/// A deletion must have a key.
///
/// # Errors
/// The error of etcd's table.
pub(crate) fn delete(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// A transaction may have at most `ops_max` operations, each well formed. No branch may put a key
/// twice, or put a key that it deletes.
///
/// # Errors
/// The error of etcd's table.
pub(crate) fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    operations(request, ops_max)?;
    // After the size checks: this compares the operations with each other.
    overlaps(&request.success)?;
    overlaps(&request.failure)?;
    kept_after_deletion(&request.success, None)?;
    kept_after_deletion(&request.failure, None)?;
    Ok(())
}

/// A nested transaction may have as many operations as this one leaves of its own limit. Each level
/// of nesting uses at least one, so the limit bounds the depth too.
fn operations(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = ops_max.checked_sub(used) else { return Err(Error::TooManyOps) };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(inner)) => range(inner)?,
            Some(Request::RequestPut(inner)) => put(inner)?,
            Some(Request::RequestDeleteRange(inner)) => delete(inner)?,
            Some(Request::RequestTxn(inner)) => operations(inner, left)?,
            // etcd's error for an empty operation.
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Refuses a put that keeps the value or lease of a key that a range without an end has deleted
/// before it. Members of etcd accept it into the log and panic when they apply it. All other deletions
/// before such a put are duplicate keys. `from` is the lowest key from which on all are deleted;
/// returns what it is after the operations.
fn kept_after_deletion<'a>(
    ops: &'a [RequestOp],
    mut from: Option<&'a [u8]>,
) -> Result<Option<&'a [u8]>, Error> {
    let lower = |a: Option<&'a [u8]>, b: Option<&'a [u8]>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    for op in ops {
        match &op.request {
            Some(Request::RequestDeleteRange(delete)) if &delete.range_end[..] == b"\0" => {
                from = lower(from, Some(&delete.key));
            }
            Some(Request::RequestPut(put)) if put.ignore_value || put.ignore_lease => {
                if from.is_some_and(|from| from <= &put.key[..]) {
                    return Err(Error::KeyNotFound);
                }
            }
            Some(Request::RequestTxn(txn)) => {
                let success = kept_after_deletion(&txn.success, from)?;
                let failure = kept_after_deletion(&txn.failure, from)?;
                from = lower(success, failure);
            }
            Some(
                Request::RequestDeleteRange(_) | Request::RequestPut(_) | Request::RequestRange(_),
            )
            | None => {}
        }
    }
    Ok(from)
}

/// The keys that one branch changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// Finds keys that one branch changes twice. The order is etcd's, because it decides which error
/// is reported: the deletes of this level, then nested transactions, then the puts of this level.
/// The two branches of a nested transaction may put the same key, since only one is executed.
fn overlaps(ops: &[RequestOp]) -> Result<Changes<'_>, Error> {
    let mut changes = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            changes.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else { continue };
        let success = overlaps(&txn.success)?;
        let failure = overlaps(&txn.failure)?;
        for key in &success.puts {
            changes.put(key, &BTreeSet::new())?;
        }
        for key in &failure.puts {
            changes.put(key, &success.puts)?;
        }
        changes.deletes.union(success.deletes);
        changes.deletes.union(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            changes.put(&put.key, &BTreeSet::new())?;
        }
    }
    Ok(changes)
}

impl<'a> Changes<'a> {
    /// Adds a put. It is an error if the key was put before, unless it is in `allowed`.
    fn put(&mut self, key: &'a [u8], allowed: &BTreeSet<&[u8]>) -> Result<(), Error> {
        let again = !self.puts.insert(key) && !allowed.contains(key);
        if again || self.deletes.contains(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
