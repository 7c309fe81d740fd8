//! Serves one connection: detects HTTP/2 or HTTP/1.1, separates gRPC from plain HTTP, parses the
//! deadline and dispatches each call to its handler. Not here: the handlers, listening, TLS.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{grpc,interceptor}.go; words of grpc-go 1.82.

use crate::call::Call;
use crate::call_metrics::CallMetrics;
use crate::gather::Gather;
use crate::host::Host;
use crate::seated::SeatedBody;
use crate::shared::{Limits, Shared};
use crate::{cluster, health, kv, lease, maintenance, watch};
use ::watch::ConnectionId;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use net::limits::HEAD_TIME_MAX;
use net::{Seat, TimedStream, tasks};
use rpc::body::{Reply, is_grpc, refuse};
use rpc::frame::{Messages, check_encoding};
use rpc::{Code, Status};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// The flow-control windows that a client gets for one stream and for its connection, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The longest HTTP/2 frame that clients may send.
const FRAME_MAX: u32 = 64 * 1024;
/// The headers of one request that are accepted, in bytes by HTTP/2's count. A request with more
/// is answered with 431 and its stream ends; from four times as many on the connection ends, since
/// h2 decodes no more.
const HEADERS_MAX: u32 = 256 * 1024;
/// The bytes of one response that HTTP/2 buffers.
const SEND_BUFFER: usize = 256 * 1024;

/// Answers requests that are not gRPC.
pub type HttpHandler = Rc<dyn Fn(Request<Incoming>) -> HttpAnswer>;
/// The future response to a plain HTTP request.
pub type HttpAnswer = Pin<Box<dyn Future<Output = Reply>>>;

/// The services of the client port, for the connections of one worker thread.
pub struct Service<H> {
    shared: Rc<Shared<H>>,
    http: HttpHandler,
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Service<H> {
        Service { shared: Rc::clone(&self.shared), http: Rc::clone(&self.http) }
    }
}

impl<H> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

/// Runs hyper's tasks on the thread that they were made on.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tasks::spawn_local("call", task);
    }
}

impl<H: Host> Service<H> {
    /// The services that speak for `host`.
    pub fn new(host: H, limits: Limits, http: HttpHandler) -> Service<H> {
        Service { shared: Rc::new(Shared::new(host, limits)), http }
    }

    /// Serves one connection until the client closes it, a time limit of [`net::limits`] has passed,
    /// or its seat is needed for another connection. When `stop` completes, new calls are refused and
    /// running calls are finished; streams run until they end by themselves. Must run inside a
    /// `LocalSet`.
    ///
    /// # Errors
    /// When the connection breaks or what comes is neither HTTP/2 nor HTTP/1.1.
    pub async fn serve<I>(
        self,
        io: I,
        seat: Seat,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut builder = auto::Builder::new(Local);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .http2()
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_MAX)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_streams(self.shared.limits.streams_max)
            .timer(TokioTimer::new());
        if let Some((interval, timeout)) = self.shared.limits.pings {
            builder.http2().keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let seat = Rc::new(seat);
        let (seat_of_requests, connection) = (Rc::clone(&seat), self.shared.connection());
        let service = service_fn(move |request| {
            let (service, in_use) = (self.clone(), seat_of_requests.begin());
            async move {
                let reply = service.answer(request, connection).await;
                Ok::<_, Infallible>(reply.map(|body| SeatedBody::new(body, in_use)))
            }
        });
        let io = Gather::new(TimedStream::new(io));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io.clone()), service));
        let (mut stop, mut closing) = (pin!(stop), pin!(seat.closing()));
        let mut stopped = false;
        poll_fn(|cx| {
            if !stopped && stop.as_mut().poll(cx).is_ready() {
                stopped = true;
                connection.as_mut().graceful_shutdown();
            }
            if closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match (connection.as_mut().poll(cx), io.send(cx)) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                (done, _) => done,
            }
        })
        .await
    }

    /// Answers one request of a connection.
    async fn answer(self, request: Request<Incoming>, connection: ConnectionId) -> Reply {
        if request.version() != http::Version::HTTP_2 || !is_grpc(request.headers()) {
            return (self.http)(request).await;
        }
        let service = self.shared;
        let (head, body) = request.into_parts();
        if head.method != http::Method::POST {
            let why = format!(
                "Received a HEADERS frame with :method \"{}\" which should be POST",
                head.method
            );
            let mut reply = refuse(&Status::new(Code::Internal, why));
            *reply.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
            return reply;
        }
        let deadline = match rpc::status::timeout(&head.headers) {
            Ok(limit) => limit.and_then(|limit| Instant::now().checked_add(limit)),
            Err(status) => {
                let mut reply = refuse(&status);
                *reply.status_mut() = http::StatusCode::BAD_REQUEST;
                return reply;
            }
        };
        let metrics = CallMetrics::begin(&service.host, head.uri.path());
        let messages = Messages::new(body, service.limits.message_max());
        let streamed = metrics.as_ref().and_then(CallMetrics::streamed);
        let service_of_call = Rc::clone(&service);
        let call =
            Call { service: service_of_call, head, messages, deadline, streamed, connection };
        let replied = match deadline {
            None => route(call).await,
            Some(deadline) => match tokio::time::timeout_at(deadline, route(call)).await {
                Ok(replied) => replied,
                Err(_) => Err(Status::deadline_exceeded()),
            },
        };
        if let Ok(reply) = &replied {
            service.host.count_sent(reply.body().message_len());
        }
        if let Some(metrics) = metrics {
            metrics.answered(&replied, service.limits.slow_request);
        }
        replied.unwrap_or_else(|status| refuse(&status))
    }
}

type Replied = Result<Reply, Status>;

/// Calls the handler of the method. The futures of rare methods are boxed, which keeps the task of
/// a frequent call small.
async fn route<H: Host>(call: Call<H>) -> Replied {
    check_encoding(&call.head.headers)?;
    let path = call.head.uri.path();
    match path {
        "/etcdserverpb.KV/Range" => kv::range(call).await,
        "/etcdserverpb.KV/Put" => kv::put(call).await,
        "/etcdserverpb.KV/Txn" => kv::txn(call).await,
        "/etcdserverpb.KV/DeleteRange" => Box::pin(kv::delete_range(call)).await,
        "/etcdserverpb.KV/Compact" => Box::pin(kv::compact(call)).await,
        "/etcdserverpb.KV/RangeStream" => Box::pin(kv::range_stream(call)).await,
        "/etcdserverpb.Watch/Watch" => watch::watch(call),
        "/etcdserverpb.Lease/LeaseGrant" => Box::pin(lease::grant(call)).await,
        "/etcdserverpb.Lease/LeaseRevoke" => Box::pin(lease::revoke(call)).await,
        "/etcdserverpb.Lease/LeaseKeepAlive" => lease::keep_alive(call),
        "/etcdserverpb.Lease/LeaseTimeToLive" => Box::pin(lease::time_to_live(call)).await,
        "/etcdserverpb.Lease/LeaseLeases" => Box::pin(lease::leases(call)).await,
        "/etcdserverpb.Cluster/MemberAdd" => Box::pin(cluster::member_add(call)).await,
        "/etcdserverpb.Cluster/MemberRemove" => Box::pin(cluster::member_remove(call)).await,
        "/etcdserverpb.Cluster/MemberUpdate" => Box::pin(cluster::member_update(call)).await,
        "/etcdserverpb.Cluster/MemberList" => Box::pin(cluster::member_list(call)).await,
        "/etcdserverpb.Cluster/MemberPromote" => Box::pin(cluster::member_promote(call)).await,
        "/etcdserverpb.Maintenance/Alarm" => Box::pin(maintenance::alarm(call)).await,
        "/etcdserverpb.Maintenance/Status" => Box::pin(maintenance::status(call)).await,
        "/etcdserverpb.Maintenance/Defragment" => Box::pin(maintenance::defragment(call)).await,
        "/etcdserverpb.Maintenance/Hash" => Box::pin(maintenance::hash(call)).await,
        "/etcdserverpb.Maintenance/HashKV" => Box::pin(maintenance::hash_kv(call)).await,
        "/etcdserverpb.Maintenance/MoveLeader" => Box::pin(maintenance::move_leader(call)).await,
        "/etcdserverpb.Maintenance/Snapshot" => Box::pin(maintenance::snapshot(call)).await,
        "/grpc.health.v1.Health/Check" => Box::pin(health::check(call)).await,
        "/grpc.health.v1.Health/List" => Box::pin(health::list(call)).await,
        "/grpc.health.v1.Health/Watch" => Box::pin(health::watch(call)).await,
        _ => Err(unknown(path)),
    }
}

/// Methods of etcd that are not implemented yet.
const NOT_BUILT: [(&str, &[&str]); 4] = [
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("etcdserverpb.Maintenance", &["Downgrade"]),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
];

/// Services with implemented methods.
const SERVICES: [&str; 6] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "grpc.health.v1.Health",
];

/// The status of a call to a method without a handler.
fn unknown(path: &str) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        let path = rpc::status::go_quoted(path.as_bytes());
        return Status::new(Code::Unimplemented, format!("malformed method name: {path}"));
    };
    let planned = NOT_BUILT.iter().find(|(name, _)| *name == service);
    if planned.is_some_and(|(_, methods)| methods.contains(&method)) {
        let (_, short) = service.rsplit_once('.').unwrap_or(("", service));
        return Status::not_built(&format!("{short}.{method}"));
    }
    let why = if planned.is_some() || SERVICES.contains(&service) {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    Status::new(Code::Unimplemented, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_without_a_handler_get_the_messages_of_grpc_go() {
        for (path, want) in [
            ("/etcdserverpb.KV/Foo", "unknown method Foo for service etcdserverpb.KV"),
            ("/etcdserverpb.Auth/Foo", "unknown method Foo for service etcdserverpb.Auth"),
            ("/a/b/Foo", "unknown service a/b"),
            ("/Foo", "malformed method name: \"/Foo\""),
            ("*", "malformed method name: \"*\""),
            ("/v3lockpb.Lock/Lock", "retcd: Lock.Lock is not built yet"),
        ] {
            let status = unknown(path);
            assert_eq!((status.code, &status.message[..]), (Code::Unimplemented, want));
        }
    }
}
