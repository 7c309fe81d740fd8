//! The common part of locks and elections. Each contender has a key under the name's prefix,
//! attached to its lease, and the owner of the oldest key owns the name. A contender waits until
//! all keys that were created before its own are deleted.
//!
//! Source: etcd v3.7 client/v3/concurrency/{key,session}.go.

use crate::host::Host;
use crate::onward::Onward;
use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse, compare, request_op::Request,
    watch_request::RequestUnion,
};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use rpc::{Code, Error, Status};
use tokio::sync::oneshot;

/// The TTL of the lease that is granted to a contender without one. The lease is never renewed.
const SESSION_TTL_S: i64 = 60;

/// The status of a failure. Its code is Unknown, as in etcd: there these handlers use the Go
/// client, whose errors carry no gRPC code.
pub(crate) fn failure(status: Status) -> Status {
    Status { code: Code::Unknown, ..status }
}

/// The prefix of the keys of a name, and the end of their range.
pub(crate) fn prefix(name: &[u8]) -> (Bytes, Bytes) {
    let with = |end: &[u8]| Bytes::from([name, end].concat());
    // '0' follows '/'.
    (with(b"/"), with(b"0"))
}

/// The key of the contender with this lease.
pub(crate) fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let hex = format!("{sign}{:x}", lease.unsigned_abs());
    Bytes::from([prefix, hex.as_bytes()].concat())
}

/// A range that returns one key of a prefix: the one that was created first or last.
pub(crate) fn by_creation((key, range_end): (Bytes, Bytes), order: SortOrder) -> RangeRequest {
    RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// The comparison that a key was created at this revision; 0 means that it does not exist.
pub(crate) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(compare::TargetUnion::CreateRevision(revision)),
    }
}

/// Reads one key.
pub(crate) fn read(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// Writes a key and attaches it to a lease.
pub(crate) fn put(key: &Bytes, value: &Bytes, lease: i64) -> PutRequest {
    PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() }
}

/// One operation of a transaction.
pub(crate) fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The requests of locks and elections.
impl<H: Host> Onward<H> {
    /// Returns the given lease, or grants a new one if it is 0.
    pub(crate) async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest { ttl: SESSION_TTL_S, id: 0 };
        let granted: LeaseGrantResponse =
            self.unary("/etcdserverpb.Lease/LeaseGrant", &request).await?;
        Ok(granted.id)
    }

    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", &request).await
    }

    pub(crate) async fn delete(&self, key: Bytes) -> Result<DeleteRangeResponse, Status> {
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        self.unary("/etcdserverpb.KV/DeleteRange", &request).await
    }

    /// Waits until all keys of the prefix that were created before `revision` are deleted.
    pub(crate) async fn wait_for_earlier(
        &self,
        prefix: &(Bytes, Bytes),
        revision: i64,
    ) -> Result<(), Status> {
        let mut latest = by_creation(prefix.clone(), SortOrder::Descend);
        latest.max_create_revision = revision - 1;
        loop {
            let found = self.range(&latest).await?;
            let Some(KeyValue { key, .. }) = found.kvs.into_iter().next() else { return Ok(()) };
            let from = found.header.unwrap_or_default().revision;
            let mut changes = self.watch(key, Bytes::new(), from + 1).await?;
            loop {
                let change = changes.next().await?;
                if change.events.iter().any(|event| event.r#type() == EventType::Delete) {
                    break;
                }
            }
        }
    }

    /// Watches keys from a revision on.
    pub(crate) async fn watch(
        &self,
        key: Bytes,
        range_end: Bytes,
        start_revision: i64,
    ) -> Result<Changes, Status> {
        let create =
            WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let (requests, responses) = self.stream("/etcdserverpb.Watch/Watch", &request).await?;
        Ok(Changes { _requests: requests, responses })
    }
}

/// The events of one watch.
pub(crate) struct Changes {
    /// Never used to send. The watch ends when this is dropped.
    _requests: tokio::sync::mpsc::Sender<Bytes>,
    responses: crate::onward::Responses,
}

impl Changes {
    /// The next response of the watch.
    ///
    /// # Errors
    /// When the watch has been cancelled.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Status> {
        let Some(response) = self.responses.next::<WatchResponse>().await? else {
            return Err(Error::WatchCanceled.into());
        };
        if response.compact_revision != 0 {
            return Err(Error::Compacted.into());
        }
        if response.canceled {
            return Err(match response.cancel_reason {
                reason if reason.is_empty() => Error::WatchCanceled.into(),
                reason => Status::new(Code::Unknown, reason),
            });
        }
        Ok(response)
    }
}

/// Runs `work` in a task of its own. If the client goes away first, drops `work` and runs
/// `clean_up`. The handler itself could not do that, because it is dropped together with the call.
pub(crate) async fn unless_gone<T: 'static>(
    name: &'static str,
    work: impl Future<Output = Result<T, Status>> + 'static,
    clean_up: impl Future<Output = ()> + 'static,
) -> Result<T, Status> {
    let (mut to, from) = oneshot::channel();
    net::tasks::spawn_local(name, async move {
        let done = tokio::select! {
            biased;
            done = work => done,
            () = to.closed() => return clean_up.await,
        };
        drop(to.send(done));
    });
    let gone = |_| Err(Status::new(Code::Internal, "retcd: the task of the call has failed"));
    from.await.unwrap_or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_gos_contenders() {
        let (from, to) = prefix(b"a");
        assert_eq!((&from[..], &to[..]), (&b"a/"[..], &b"a0"[..]));
        assert_eq!(key_of(&from, 0x3eef_a217_fd93_aa03), "a/3eefa217fd93aa03");
        assert_eq!(key_of(&from, -31), "a/-1f");
    }
}
