//! Read-only transactions, executed on a view.
//!
//! Source: etcd v3.7 server/etcdserver/v3_server.go Txn, txn/txn.go.

use super::errors::{denied_status, store_status};
use super::{WorkerHost, ranges};
use auth::Caller;
use mvcc::View;
use proto::answer::{OpAnswer, TxnAnswer};
use proto::etcdserverpb::{RangeRequest, TxnRequest, request_op::Request};
use rpc::{Error, Status};
use state::{GuardedTxn, ReadError};

/// Evaluates the comparisons, then checks and reads the chosen branch.
pub(super) async fn read(
    host: &WorkerHost,
    caller: &Caller,
    view: &View,
    request: &TxnRequest,
) -> Result<TxnAnswer, Status> {
    let auth = host.auth();
    auth.permit(caller, GuardedTxn::read_only(request)).map_err(denied_status)?;
    let succeeded = state::txn::compares_hold(view, request, auth.door(caller));
    let succeeded = succeeded.map_err(|error| match error {
        ReadError::Denied(denied) => denied_status(denied),
        ReadError::Store(error) => store_status(&error),
    })?;
    let ops = if succeeded { &request.success } else { &request.failure };
    let ranges = || {
        ops.iter().filter_map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        })
    };
    for range in ranges() {
        check(view, range)?;
    }
    let mut responses = Vec::with_capacity(ops.len());
    for range in ranges() {
        responses.push(OpAnswer::Range(ranges::collected(host, caller, view, range).await?));
    }
    Ok(TxnAnswer { revision: view.revision(), succeeded, responses })
}

/// Checks the revision of a range. All ranges are checked before the first is read.
fn check(view: &View, request: &RangeRequest) -> Result<(), Error> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > view.revision() {
        Err(Error::FutureRev)
    } else if request.revision < view.compact_revision() {
        Err(Error::Compacted)
    } else {
        Ok(())
    }
}
