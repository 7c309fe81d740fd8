//! One connection: HTTP/2 and HTTP/1.1 on the same port, gRPC told from plain HTTP, the method
//! found, what comes with every call checked, the handler called. Not here: what a handler does,
//! listening, TLS.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{grpc,interceptor}.go; words of grpc-go 1.82.

use crate::counted::{Counted, Streamed, Tally};
use crate::gather::Gather;
use crate::host::Host;
use crate::{cluster, health, kv, lease, maintenance, watch};
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rpc::body::{Reply, is_grpc, refuse};
use rpc::frame::{Messages, check_encoding};
use rpc::{Code, Error, Status};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// What stands around a request beside its own bytes, in bytes.
const OVERHEAD: usize = 512 * 1024;
/// How much a client may send on one stream, and on one connection, before it is read.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The longest HTTP/2 frame that clients may send.
const FRAME_MAX: u32 = 64 * 1024;
/// How much of one answer may be written and not yet sent.
const SEND_BUFFER: usize = 256 * 1024;
/// A connection that has not sent its first request's head by then is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The limits of the services, from the server's flags.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--max-concurrent-streams`, for one connection.
    pub streams_max: u32,
    /// How long a leader may be unknown before streams that require one are cancelled: three
    /// election timeouts.
    pub no_leader_max: Duration,
    /// A client that says nothing for so long is asked whether it is there, and has so long to
    /// answer: `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`.
    pub pings: Option<(Duration, Duration)>,
    /// A unary call that takes longer is logged.
    pub slow_request: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes_max: 1024 * 1024 + OVERHEAD,
            txn_ops_max: 128,
            streams_max: u32::MAX,
            no_leader_max: Duration::from_secs(3),
            pings: None,
            slow_request: Duration::from_millis(300),
        }
    }
}

impl Limits {
    /// The longest message that is read, in bytes.
    #[must_use]
    pub fn message_max(&self) -> usize {
        self.request_bytes_max.saturating_add(OVERHEAD)
    }
}

/// Answers what is not gRPC.
pub type HttpHandler = Rc<dyn Fn(Request<Incoming>) -> HttpAnswer>;
/// The answer to a plain HTTP request, in the making.
pub type HttpAnswer = Pin<Box<dyn Future<Output = Reply>>>;

/// The services of the client port, for the connections of one worker thread.
pub struct Service<H>(Rc<Inner<H>>);

pub(crate) struct Inner<H> {
    pub(crate) host: H,
    pub(crate) limits: Limits,
    pub(crate) last_framed: watch::LastFramed,
    http: HttpHandler,
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Service<H> {
        Service(Rc::clone(&self.0))
    }
}

impl<H> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

/// A call on its way to its handler.
pub(crate) struct Call<H> {
    pub(crate) service: Rc<Inner<H>>,
    pub(crate) head: http::request::Parts,
    pub(crate) messages: Messages<Incoming>,
    /// When the call ends by itself, from its `grpc-timeout`.
    pub(crate) deadline: Option<Instant>,
    /// Where it is counted, if it streams.
    streamed: Option<Rc<Streamed>>,
}

/// Runs hyper's tasks on the thread that they were made on.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}

impl<H: Host> Service<H> {
    /// The services that speak for `host`.
    pub fn new(host: H, limits: Limits, http: HttpHandler) -> Service<H> {
        Service(Rc::new(Inner { host, limits, last_framed: watch::LastFramed::default(), http }))
    }

    /// Serves one connection until the client closes it. When `stop` is done, no new calls are
    /// taken, those that run are finished, and streams are left to their own ends. Must run
    /// inside a `LocalSet`.
    ///
    /// # Errors
    /// When the connection breaks or what comes is neither HTTP/2 nor HTTP/1.1.
    pub async fn serve<I>(
        self,
        io: I,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut builder = auto::Builder::new(Local);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .http2()
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_streams(self.0.limits.streams_max)
            .timer(TokioTimer::new());
        if let Some((interval, timeout)) = self.0.limits.pings {
            builder.http2().keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let inner = self.0;
        let service = service_fn(move |request| {
            let inner = Rc::clone(&inner);
            async move { Ok::<Reply, Infallible>(answer(inner, request).await) }
        });
        let io = Gather::new(io);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io.clone()), service));
        let mut stop = pin!(stop);
        let mut stopped = false;
        poll_fn(|cx| {
            if !stopped && stop.as_mut().poll(cx).is_ready() {
                stopped = true;
                connection.as_mut().graceful_shutdown();
            }
            match (connection.as_mut().poll(cx), io.send(cx)) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                (done, _) => done,
            }
        })
        .await
    }
}

/// Answers one request.
async fn answer<H: Host>(service: Rc<Inner<H>>, request: Request<Incoming>) -> Reply {
    if request.version() != http::Version::HTTP_2 || !is_grpc(request.headers()) {
        return (service.http)(request).await;
    }
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
    let counted = Counted::begin(&service.host, head.uri.path());
    let messages = Messages::new(body, service.limits.message_max());
    let streamed = counted.as_ref().and_then(Counted::streamed);
    let call = Call { service: Rc::clone(&service), head, messages, deadline, streamed };
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
    if let Some(counted) = counted {
        counted.answered(&replied, service.limits.slow_request);
    }
    replied.unwrap_or_else(|status| refuse(&status))
}

type Replied = Result<Reply, Status>;

/// Calls the handler of the method. The rare ones are boxed, so that a call's task is as small as
/// the frequent ones allow.
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
        "/etcdserverpb.Cluster/MemberList" => Box::pin(cluster::member_list(call)).await,
        "/etcdserverpb.Maintenance/Alarm" => Box::pin(maintenance::alarm(call)).await,
        "/etcdserverpb.Maintenance/Status" => Box::pin(maintenance::status(call)).await,
        "/etcdserverpb.Maintenance/Defragment" => Box::pin(maintenance::defragment(call)).await,
        "/etcdserverpb.Maintenance/Hash" => Box::pin(maintenance::hash(call)).await,
        "/etcdserverpb.Maintenance/HashKV" => Box::pin(maintenance::hash_kv(call)).await,
        "/etcdserverpb.Maintenance/Snapshot" => Box::pin(maintenance::snapshot(call)).await,
        "/grpc.health.v1.Health/Check" => Box::pin(health::check(call)).await,
        "/grpc.health.v1.Health/List" => Box::pin(health::list(call)).await,
        "/grpc.health.v1.Health/Watch" => Box::pin(health::watch(call)).await,
        _ => Err(unknown(path)),
    }
}

/// Methods of etcd's that are not built yet.
const NOT_BUILT: [(&str, &[&str]); 5] = [
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
    ("etcdserverpb.Cluster", &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"]),
    ("etcdserverpb.Maintenance", &["MoveLeader", "Downgrade"]),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
];

/// Services with methods that are built.
const SERVICES: [&str; 6] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "grpc.health.v1.Health",
];

/// What is said of a method that has no handler.
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

impl<H: Host> Call<H> {
    /// Takes the request of a unary call and checks what comes with it. `for_learners` says of
    /// the request whether a learner answers it.
    pub(crate) async fn request<M: prost::Message + Default>(
        self,
        for_learners: impl FnOnce(&M) -> bool,
    ) -> Result<(Rc<Inner<H>>, M), Status> {
        let Call { service, head, messages, .. } = self;
        let message = messages.only().await?;
        service.host.count_received(message.len());
        let request: M = rpc::frame::decode(message)?;
        if service.host.is_learner() && !for_learners(&request) {
            return Err(Error::NotSupportedForLearner.into());
        }
        service.check_metadata(&head.headers)?;
        Ok((service, request))
    }

    /// As [`Call::request`] for a call with one request and a stream of answers.
    pub(crate) async fn stream_request<M: prost::Message + Default>(
        mut self,
        for_learners: bool,
    ) -> Result<(Tally<H>, M), Status> {
        if self.service.host.is_learner() && !for_learners {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.service.check_metadata(&self.head.headers)?;
        let message = self.messages.first().await?;
        let tally = Tally::new(self.service, self.streamed);
        tally.received(message.len());
        Ok((tally, rpc::frame::decode_in_stream(message)?))
    }

    /// Checks what comes with a call that is a stream both ways.
    pub(crate) fn check_stream(&self) -> Result<(), Status> {
        if self.service.host.is_learner() {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.service.check_metadata(&self.head.headers)
    }

    /// What a call that is a stream both ways consists of.
    pub(crate) fn into_stream(self) -> (Tally<H>, Messages<Incoming>) {
        (Tally::new(self.service, self.streamed), self.messages)
    }

    /// True if the client wants no answer from a member that knows no leader.
    pub(crate) fn requires_leader(&self) -> bool {
        requires_leader(&self.head.headers)
    }
}

fn requires_leader(headers: &http::HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

impl<H: Host> Inner<H> {
    fn check_metadata(&self, headers: &http::HeaderMap) -> Result<(), Status> {
        if let Some(version) = headers.get("client-api-version")
            && std::str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(Error::InvalidClientApiVersion.into());
        }
        if requires_leader(headers) && !self.host.has_leader() {
            return Err(Error::NoLeader.into());
        }
        Ok(())
    }

    /// Waits until no leader has been known for so long that streams which require one are
    /// cancelled.
    pub(crate) async fn leader_lost(&self) {
        let step = self.limits.no_leader_max / 3;
        let mut missed = 0;
        while missed < 3 {
            tokio::time::sleep(step).await;
            missed = if self.host.has_leader() { 0 } else { missed + 1 };
        }
    }

    /// A response header with the current revision.
    pub(crate) fn header(&self) -> Option<proto::etcdserverpb::ResponseHeader> {
        self.header_at(self.host.revision())
    }

    /// A response header with this revision.
    #[expect(clippy::unnecessary_wraps, reason = "messages have an optional header")]
    pub(crate) fn header_at(&self, revision: i64) -> Option<proto::etcdserverpb::ResponseHeader> {
        let origin = self.host.origin();
        Some(proto::etcdserverpb::ResponseHeader {
            cluster_id: origin.cluster_id,
            member_id: origin.member_id,
            revision,
            raft_term: origin.raft_term,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_without_a_handler_are_told_in_grpc_gos_words() {
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
