//! The Lock service. The owner of the oldest key under a name's prefix holds the lock.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3lock/lock.go, client/v3/concurrency/mutex.go.

use crate::call::Call;
use crate::host::Host;
use crate::onward::Onward;
use crate::waiting::{
    by_creation, created_at, failure, key_of, op, prefix, put, read, unless_gone,
};
use bytes::Bytes;
use proto::etcdserverpb::range_request::SortOrder;
use proto::etcdserverpb::{
    ResponseHeader, TxnRequest, TxnResponse, request_op::Request, response_op::Response,
};
use proto::mvccpb::KeyValue;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use rpc::body::{Reply, encoded};
use rpc::{Code, Status};
use std::rc::Rc;

pub(crate) async fn lock<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Rc::new(Onward::of(&call));
    let (_, request) = call.request(|_: &LockRequest| false).await?;
    acquire(onward, request).await.map(|response| encoded(&response)).map_err(failure)
}

pub(crate) async fn unlock<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Onward::of(&call);
    let (_, request) = call.request(|_: &UnlockRequest| false).await?;
    let deleted = onward.delete(request.key).await.map_err(failure)?;
    Ok(encoded(&UnlockResponse { header: deleted.header }))
}

async fn acquire<H: Host>(
    onward: Rc<Onward<H>>,
    request: LockRequest,
) -> Result<LockResponse, Status> {
    let lease = onward.session(request.lease).await?;
    let range = prefix(&request.name);
    let key = key_of(&range.0, lease);
    let owner = || op(Request::RequestRange(by_creation(range.clone(), SortOrder::Ascend)));
    let entered = onward.txn(TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![op(Request::RequestPut(put(&key, &Bytes::new(), lease))), owner()],
        failure: vec![op(Request::RequestRange(read(&key))), owner()],
    });
    let entered = entered.await?;
    let header = entered.header.unwrap_or_default();
    // If the key exists already, an earlier request of the same session created it.
    let own = if entered.succeeded { None } else { found(&entered, 0) };
    let created = own.map_or(header.revision, |own| own.create_revision);
    let response = |header: Option<ResponseHeader>| LockResponse { header, key: key.clone() };
    if found(&entered, 1).is_none_or(|owner| owner.create_revision == created) {
        return Ok(response(entered.header));
    }
    let (waiting, own) = (Rc::clone(&onward), key.clone());
    let work = async move { wait(&waiting, &range, own, created).await };
    let abandoned = key.clone();
    let clean_up = async move { abandon(&onward, abandoned).await };
    unless_gone("lock", work, clean_up).await.map(|header| response(Some(header)))
}

/// Waits for the lock. Returns the header of the read that found the key still in place.
async fn wait<H: Host>(
    onward: &Onward<H>,
    range: &(Bytes, Bytes),
    key: Bytes,
    created: i64,
) -> Result<ResponseHeader, Status> {
    let waited = async {
        onward.wait_for_earlier(range, created).await?;
        onward.range(&read(&key)).await
    };
    match waited.await {
        Ok(own) if own.kvs.is_empty() => {
            Err(Status::new(Code::Unknown, "mutex: session is expired"))
        }
        Ok(own) => Ok(own.header.unwrap_or_default()),
        Err(status) => {
            abandon(onward, key).await;
            Err(status)
        }
    }
}

/// Deletes the key of a contender that no longer waits.
async fn abandon<H: Host>(onward: &Onward<H>, key: Bytes) {
    if let Err(status) = onward.delete(key).await {
        // The key is deleted when its lease expires.
        tracing::debug!(%status, "cannot delete the key of a lock that nobody waits for");
    }
}

/// The key-value that an operation of a transaction has found.
fn found(response: &TxnResponse, operation: usize) -> Option<&KeyValue> {
    match &response.responses.get(operation)?.response {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}
