//! The streams of watches: reads the requests of a client.
//!
//! Source: etcd server/proxy/grpcproxy/watch.go @ v3.7.1.

use crate::call::{Call, WAITING_MAX, expired, is_over};
use crate::coalesce::{Target, WATCHERS_MAX, WatcherId};
use crate::leader::Leader;
use crate::watches::Watches;
use bytes::Bytes;
use connection::RequestBody;
use net::tasks::spawn_local;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use rpc::body::{Reply, stream};
use rpc::frame::{Messages, decode_in_stream, in_stream};
use rpc::queue::{Feeder, queue};
use rpc::{Code, Error, Status};
use std::rc::Rc;

/// A stream of a client. Dropping it ends its watches.
struct Stream {
    watches: Rc<Watches>,
    number: u64,
    token: Option<Bytes>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.watches.close(self.number);
    }
}

/// Serves a stream of watches.
pub(crate) fn watch(call: Call) -> Result<Reply, Status> {
    let leader = call.requires_leader().then(|| call.proxy.leader.clone());
    if leader.as_ref().is_some_and(Leader::is_lost) {
        return Err(Error::NoLeader.into());
    }
    let (feeder, receiver) = queue();
    let watches = Rc::clone(&call.proxy.watches);
    let number = watches.open(feeder.clone());
    let stream = Stream { watches, number, token: call.token() };
    spawn_local("watch stream", async move {
        let status = tokio::select! {
            status = stream.obey(call.messages, &feeder) => status,
            () = is_over(&feeder) => return,
            status = expired(call.deadline) => status,
            () = Leader::lost(leader) => Error::NoLeader.into(),
        };
        feeder.end(status);
    });
    Ok(self::stream(receiver))
}

impl Stream {
    /// Obeys the requests of the client. Returns how the stream ends.
    async fn obey(&self, mut messages: Messages<RequestBody>, feeder: &Feeder) -> Status {
        let canceled = || Status::new(Code::Cancelled, "context canceled");
        while feeder.room(WAITING_MAX).await {
            let message = match messages.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return canceled(),
                Err(status) => return in_stream(status),
            };
            let request: pb::WatchRequest = match decode_in_stream(message) {
                Ok(request) => request,
                Err(status) => return status,
            };
            match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => self.create(&request).await,
                Some(RequestUnion::CancelRequest(request)) => {
                    let watcher = WatcherId { stream: self.number, id: request.watch_id };
                    self.watches.step(|coalescer| coalescer.cancel(watcher));
                }
                Some(RequestUnion::ProgressRequest(_)) | None => {
                    tracing::error!("not supported request type by gRPC proxy");
                }
            }
        }
        canceled()
    }

    async fn create(&self, request: &pb::WatchCreateRequest) {
        let refuse = |why: &str| {
            self.watches.step(|coalescer| coalescer.refuse(self.number, why));
        };
        if request.start_revision < 0 {
            return refuse(Error::Compacted.text());
        }
        if self.watches.is_full() {
            return refuse(&format!("retcd: the proxy has {WATCHERS_MAX} watchers"));
        }
        let target = Target {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            token: self.token.clone(),
        };
        if let Err(why) = self.watches.check(&target).await {
            return refuse(&why);
        }
        self.watches.step(|coalescer| coalescer.add(self.number, target, request));
    }
}
