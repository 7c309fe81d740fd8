//! Transactions: decides which branch is taken. The compares are evaluated and the operations of
//! the branch are checked on the state before the transaction, so that its execution cannot fail.
//!
//! Source: etcd v3.7 server/etcdserver/txn/txn.go; the order of the steps is in formats.md §5.7
//! of the project's reference: compare everything, check everything, then execute in order.

use crate::failure::ReadError;
use auth::{Door, KeyRange};
use bytes::Bytes;
use mvcc::{KeyInfo, View, Wait};
use prost::Message as _;
use proto::etcdserverpb::{
    Compare, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use proto::mvccpb::KeyValue;
use std::cmp::Ordering;

/// The branch that a transaction takes, and the paths of those nested in it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Whether every compare holds, so that the branch `success` is taken.
    pub(crate) succeeded: bool,
    /// The paths of the transactions in that branch.
    pub(crate) nested: Vec<Path>,
}

/// The operations of the taken branch.
pub(crate) fn chosen(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// True if both branches consist of ranges only. A nested transaction does not count as one.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    both(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// True if all operations are serializable ranges; also for an empty transaction.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    both(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn both(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Calls its second argument for each live key-value in a compare's range until that returns false.
/// Returns the number of calls.
type Live<'a, E> = dyn FnMut(&Compare, &mut dyn FnMut(&KeyValue) -> bool) -> Result<usize, E> + 'a;

/// Decides the path by evaluating the compares.
pub(crate) fn path<E>(request: &TxnRequest, live: &mut Live<'_, E>) -> Result<Path, E> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(compare, live)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in chosen(request, succeeded) {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            nested.push(path(inner, live)?);
        }
    }
    Ok(Path { succeeded, nested })
}

/// A compare holds if it holds for every live key in its range. If there is none, a compare of
/// values fails, and other compares see zeros.
fn holds<E>(compare: &Compare, live: &mut Live<'_, E>) -> Result<bool, E> {
    let mut all = true;
    let seen = live(compare, &mut |kv| {
        all = holds_for(compare, kv);
        all
    })?;
    if seen == 0 {
        let of_values = compare.target == i32::from(CompareTarget::Value);
        return Ok(!of_values && holds_for(compare, &KeyValue::default()));
    }
    Ok(all)
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => kv.version.cmp(&match compare.target_union {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&match compare.target_union {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&match compare.target_union {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&match compare.target_union {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => kv.value[..].cmp(match &compare.target_union {
            Some(TargetUnion::Value(value)) => &value[..],
            _ => &[],
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        // As in etcd, a compare with an unknown result kind always holds.
        Err(_) => true,
    }
}

/// Evaluates the compares of a read-only transaction in a view.
///
/// # Errors
/// When the store cannot be read, or the caller may not read the keys.
pub fn compares_hold(view: &View, request: &TxnRequest, door: Door<'_>) -> Result<bool, ReadError> {
    let mut live = |compare: &Compare, each: &mut dyn FnMut(&KeyValue) -> bool| {
        let keys = KeyRange::of_request(compare.key.clone(), compare.range_end.clone());
        let mut seen = 0;
        for (_, info) in view.walk(&door.permit(keys)?) {
            seen += 1;
            let stored = match compare.target == i32::from(CompareTarget::Value) {
                true => view.fetch(&info, Wait::Yes)?,
                false => None,
            };
            if !each(&to_compare(&info, stored)?) {
                break;
            }
        }
        Ok(seen)
    };
    path(request, &mut live).map(|path| path.succeeded)
}

/// The key-value that a compare looks at. The index has everything but the value.
pub(crate) fn to_compare(info: &KeyInfo, stored: Option<Bytes>) -> Result<KeyValue, mvcc::Error> {
    let Some(stored) = stored else {
        return Ok(KeyValue {
            create_revision: info.create_revision,
            mod_revision: info.mod_revision,
            version: info.version,
            lease: info.lease,
            ..KeyValue::default()
        });
    };
    KeyValue::decode(stored).map_err(|_| mvcc::Error::Corrupt {
        what: "a stored value is not a key-value",
        key: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn decide(compare: Compare, store: &[KeyValue]) -> bool {
        let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        let mut live = |_: &Compare, each: &mut dyn FnMut(&KeyValue) -> bool| {
            let mut seen = 0;
            for kv in store {
                seen += 1;
                if !each(kv) {
                    break;
                }
            }
            Ok::<usize, Infallible>(seen)
        };
        match path(&request, &mut live) {
            Ok(path) => path.succeeded,
            Err(never) => match never {},
        }
    }

    fn version(result: CompareResult, version: i64) -> Compare {
        Compare {
            result: result.into(),
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Version(version)),
            ..Compare::default()
        }
    }

    #[test]
    fn every_key_in_the_range_must_hold() {
        let kvs = [1, 2, 3].map(|version| KeyValue { version, ..KeyValue::default() });
        assert!(decide(version(CompareResult::Greater, 0), &kvs));
        assert!(!decide(version(CompareResult::Less, 3), &kvs));
        assert!(!decide(version(CompareResult::NotEqual, 2), &kvs));
    }

    #[test]
    fn a_missing_key_has_zeros_but_no_value() {
        assert!(decide(version(CompareResult::Equal, 0), &[]));
        let value = |result: CompareResult| Compare {
            result: result.into(),
            target: CompareTarget::Value.into(),
            target_union: Some(TargetUnion::Value("x".into())),
            ..Compare::default()
        };
        assert!(!decide(value(CompareResult::Equal), &[]));
        assert!(!decide(value(CompareResult::NotEqual), &[]));
    }

    #[test]
    fn a_target_without_its_value_is_compared_with_zero() {
        let bare = Compare { target_union: None, ..version(CompareResult::Equal, 7) };
        assert!(decide(bare, &[KeyValue::default()]));
    }

    #[test]
    fn an_empty_transaction_is_serializable_and_read_only() {
        assert!(is_read_only(&TxnRequest::default()));
        assert!(is_serializable(&TxnRequest::default()));
    }
}
