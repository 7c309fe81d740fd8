//! The dispatch of one request: gRPC or plain HTTP, its deadline, its metrics and its handler.

use crate::call::{Call, MESSAGE_MAX};
use crate::options::Traffic;
use crate::shared::Proxy;
use crate::{cluster, forward, http as plain, kv, watch};
use connection::ClientRequest;
use rpc::body::{Body, Reply, is_grpc, refuse};
use rpc::call::time_limit;
use rpc::compressed::compressed;
use rpc::frame::{Messages, check_encoding};
use rpc::{Code, Status, gzip};
use server::metrics::grpc::{Kind, Method};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// Calls with one response that are in progress. Further ones are refused.
const CALLS_MAX: usize = 16 * 1024;

/// Answers one request of a connection.
pub(crate) async fn answer(proxy: Rc<Proxy>, traffic: Traffic, request: ClientRequest) -> Reply {
    let ClientRequest { head, body, .. } = request;
    let is_call = head.version == http::Version::HTTP_2 && is_grpc(&head.headers);
    if !is_call || traffic == Traffic::Http {
        let query = head.uri.query().unwrap_or("");
        let reply = plain::answer(&proxy, &head.method, head.uri.path(), query).await;
        return reply.map(Body::plain);
    }
    let deadline = match time_limit(&head) {
        Ok(limit) => limit.and_then(|limit| Instant::now().checked_add(limit)),
        Err(reply) => return *reply,
    };
    let answers_in_gzip = gzip::is_gzip(&head.headers);
    let messages = Messages::of(&head.headers, body, MESSAGE_MAX);
    let replied = counted(Call { proxy, head, messages, deadline }).await;
    let reply = replied.unwrap_or_else(|status| refuse(&status));
    if answers_in_gzip { compressed(reply) } else { reply }
}

/// A call in progress, for its metrics and the bound. Dropping it counts it as handled.
struct InProgress {
    proxy: Rc<Proxy>,
    method: Option<Arc<Method>>,
    begun: Instant,
    code: Code,
}

impl InProgress {
    fn begin(proxy: &Rc<Proxy>, path: &str) -> InProgress {
        let method = proxy.metrics.grpc.method(path).cloned();
        if let Some(method) = &method {
            method.started.inc();
        }
        proxy.calls.set(proxy.calls.get() + 1);
        let (proxy, begun) = (Rc::clone(proxy), Instant::now());
        InProgress { proxy, method, begun, code: Code::Cancelled }
    }

    fn end(mut self, replied: &Result<Reply, Status>) {
        self.code = replied.as_ref().map_or_else(|status| status.code, |_| Code::Ok);
        if let Some(method) = self.method.as_ref().filter(|it| it.kind() == Kind::Unary) {
            method.received.inc();
            if replied.is_ok() {
                method.sent.inc();
            }
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.proxy.calls.set(self.proxy.calls.get() - 1);
        if let Some(method) = &self.method {
            method.handled(self.code as u32, self.begun.elapsed().as_secs_f64());
        }
    }
}

/// Makes a call within its deadline, and counts it.
async fn counted(call: Call) -> Result<Reply, Status> {
    if call.proxy.calls.get() >= CALLS_MAX {
        return Err(rpc::Error::TooManyRequests.into());
    }
    let in_progress = InProgress::begin(&call.proxy, call.head.uri.path());
    let replied = match call.deadline {
        None => handled(call).await,
        Some(deadline) => match tokio::time::timeout_at(deadline, handled(call)).await {
            Ok(replied) => replied,
            Err(_) => Err(Status::deadline_exceeded()),
        },
    };
    in_progress.end(&replied);
    replied
}

/// Calls the handler of the method.
async fn handled(call: Call) -> Result<Reply, Status> {
    check_encoding(&call.head.headers)?;
    match call.head.uri.path() {
        "/etcdserverpb.KV/Range" => kv::range(call).await,
        "/etcdserverpb.KV/Put" => kv::put(call).await,
        "/etcdserverpb.KV/DeleteRange" => kv::delete_range(call).await,
        "/etcdserverpb.KV/Txn" => kv::txn(call).await,
        "/etcdserverpb.KV/Compact" => kv::compact(call).await,
        "/etcdserverpb.KV/RangeStream" => {
            let why = "RangeStream is not supported by the gRPC proxy";
            Err(Status::new(Code::Unimplemented, why))
        }
        "/etcdserverpb.Watch/Watch" => watch::watch(call),
        "/etcdserverpb.Cluster/MemberList" => cluster::member_list(call).await,
        "/etcdserverpb.Lease/LeaseTimeToLive" if call.proxy.layers.prefix.is_some() => {
            kv::lease_time_to_live(call).await
        }
        _ => forward::forward(call).await,
    }
}
