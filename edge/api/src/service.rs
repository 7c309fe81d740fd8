//! Answers the requests of one connection: separates gRPC from plain HTTP, parses the deadline and
//! dispatches each call to its handler. Not here: the handlers, HTTP (`connection`), listening, TLS.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{grpc,interceptor}.go; words of grpc-go 1.82.

use crate::access::Traffic;
use crate::audit::{AuditGuard, AuditRecord};
use crate::call::Call;
use crate::call_metrics::CallMetrics;
use crate::host::Host;
use crate::inbound::Inbound;
use crate::origin::CallOrigin;
use crate::shared::{Limits, Shared};
use crate::spans::OpenSpan;
use crate::{
    access, auth, call_metrics, cluster, election, gateway, health, kv, lease, lock, maintenance,
    watch,
};
use connection::{ClientRequest, Settings};
use net::{RemoteName, Seat};
use rpc::body::{Reply, is_grpc, refuse};
use rpc::call::{time_limit, unknown_method};
use rpc::compressed::compressed;
use rpc::frame::{Messages, check_encoding};
use rpc::{Code, Status, gzip};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// Answers requests that are not gRPC.
pub type HttpHandler = Rc<dyn Fn(ClientRequest) -> HttpAnswer>;
/// The future response to a plain HTTP request.
pub type HttpAnswer = Pin<Box<dyn Future<Output = Reply>>>;

/// The services of the client port, for the connections of one worker thread.
pub struct Service<H> {
    shared: Rc<Shared<H>>,
    http: HttpHandler,
    traffic: Traffic,
    /// Whether the connection has TLS.
    is_secure: bool,
    /// Of the connection, whose number is set when it is served.
    origin: CallOrigin,
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Service<H> {
        let (shared, http) = (Rc::clone(&self.shared), Rc::clone(&self.http));
        let (traffic, is_secure, origin) = (self.traffic, self.is_secure, self.origin.clone());
        Service { shared, http, traffic, is_secure, origin }
    }
}

impl<H> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

impl<H: Host> Service<H> {
    /// The services of `host`.
    pub fn new(host: H, limits: Limits, http: HttpHandler) -> Service<H> {
        let shared = Rc::new(Shared::new(host, limits));
        let (traffic, origin) = (Traffic::default(), CallOrigin::default());
        Service { shared, http, traffic, is_secure: false, origin }
    }

    /// The same services for a connection from this address.
    #[must_use]
    pub fn from_address(mut self, address: Option<RemoteName>) -> Service<H> {
        self.origin.address = address;
        self
    }

    /// The same services for a connection of a port that may serve only a part of them.
    #[must_use]
    pub fn serving(self, traffic: Traffic) -> Service<H> {
        Service { traffic, ..self }
    }

    /// The same services for a connection with TLS, where requests may carry any host name.
    /// `certificate_name` is the user of calls without a token.
    #[must_use]
    pub fn secured(mut self, certificate_name: Option<&str>) -> Service<H> {
        self.origin.certificate_name = certificate_name.map(Rc::from);
        Service { is_secure: true, ..self }
    }

    /// Serves one connection until the client closes it, a time limit of [`net::limits`] has passed,
    /// or its seat is needed for another connection. When `stop` completes, new calls are refused and
    /// running calls are finished; streams run until they end by themselves. Must run inside a
    /// `LocalSet`.
    ///
    /// # Errors
    /// When the connection breaks, or the client speaks neither HTTP/2 nor HTTP/1.1.
    pub async fn serve<I>(
        self,
        io: I,
        seat: Seat,
        stop: impl Future<Output = ()>,
    ) -> Result<(), connection::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shared = Rc::clone(&self.shared);
        let counting = Rc::clone(&shared);
        let settings = Settings {
            streams_max: shared.limits.streams_max,
            pings: shared.limits.pings,
            refused: Rc::new(move |why| counting.host.count_refused(why)),
        };
        let origin = CallOrigin { connection: shared.connection(), ..self.origin.clone() };
        let origin = Rc::new(origin);
        let answer = move |request| self.clone().answer(request, Rc::clone(&origin));
        let served = connection::serve(io, &settings, seat, stop, answer).await;
        if let Err(connection::Error::Client(fault)) = &served {
            shared.host.count_fault(fault);
        }
        served
    }

    /// Answers one request of a connection.
    async fn answer(self, request: ClientRequest, origin: Rc<CallOrigin>) -> Reply {
        let is_call =
            request.head.version == http::Version::HTTP_2 && is_grpc(&request.head.headers);
        if !is_call && self.traffic == Traffic::Grpc {
            return access::only_grpc(&request.head);
        }
        if !is_call || self.traffic == Traffic::Http {
            return Box::pin(self.answer_plain(request, origin)).await;
        }
        let service = self.shared;
        let ClientRequest { head, body, .. } = request;
        let deadline = match time_limit(&head) {
            Ok(limit) => limit.and_then(|limit| Instant::now().checked_add(limit)),
            Err(reply) => return *reply,
        };
        let answers_in_gzip = gzip::is_gzip(&head.headers);
        let max = service.limits.message_max();
        let messages = Messages::of(&head.headers, Inbound::Network(body), max);
        let router = |call| Box::pin(route(call)) as Pin<Box<dyn Future<Output = Replied>>>;
        let streamed = None;
        let call = Call {
            service,
            head,
            messages,
            deadline,
            streamed,
            origin,
            outer: None,
            audit: None,
            span: None,
            router,
        };
        let reply = counted(call).await.unwrap_or_else(|status| refuse(&status));
        if answers_in_gzip { compressed(reply) } else { reply }
    }

    /// Answers a request that is not a gRPC call.
    async fn answer_plain(self, request: ClientRequest, origin: Rc<CallOrigin>) -> Reply {
        let options = &self.shared.limits.http;
        let allowed = options.allowed_origin(&request.head.headers);
        let moved = || options.gateway.then(|| gateway::redirect(&request.head)).flatten();
        let mut reply = match options.answer(&request.head, self.is_secure).or_else(moved) {
            Some(reply) => reply,
            None if options.gateway && gateway::has(request.head.uri.path()) => {
                if origin.certificate_name.is_some()
                    && self.shared.host.require_user().await.is_err()
                {
                    return gateway::name_ignored();
                }
                let make = |call| Box::pin(counted(call)) as Pin<Box<dyn Future<Output = Replied>>>;
                let router = |call| Box::pin(route(call)) as Pin<Box<dyn Future<Output = Replied>>>;
                let door = gateway::Door { make, router };
                gateway::answer(Rc::clone(&self.shared), door, request, origin).await
            }
            None => (self.http)(request).await,
        };
        if let Some(allowed) =
            allowed.filter(|_| reply.status() != http::StatusCode::MISDIRECTED_REQUEST)
        {
            access::allow(&mut reply, allowed);
        }
        reply
    }
}

/// Makes a call within its deadline, and counts it.
async fn counted<H: Host>(mut call: Call<H>) -> Replied {
    let service = Rc::clone(&call.service);
    let metrics = CallMetrics::begin(&service.host, call.head.uri.path());
    call_metrics::count_client(&service.host, &call.head, metrics.as_ref());
    call.streamed = metrics.as_ref().and_then(CallMetrics::streamed);
    let span = service.limits.tracer.as_ref();
    let span = span.and_then(|tracer| OpenSpan::of_call(tracer, &call.head));
    call.span.clone_from(&span);
    let is_stream = call.streamed.is_some();
    let replied = match call.deadline {
        None => route(call).await,
        Some(deadline) => match tokio::time::timeout_at(deadline, route(call)).await {
            Ok(replied) => replied,
            Err(_) => Err(Status::deadline_exceeded()),
        },
    };
    if let Ok(reply) = &replied {
        service.host.count_sent(reply.body().message_len());
    }
    match (&span, &replied) {
        (Some(span), Err(status)) => span.end(status.code, &status.message),
        // A stream has its result when it ends.
        (Some(span), Ok(_)) if !is_stream => span.end(Code::Ok, ""),
        (Some(_), Ok(_)) | (None, _) => {}
    }
    if let Some(metrics) = metrics {
        metrics.answered(&replied, service.limits.slow_request);
    }
    replied
}

type Replied = Result<Reply, Status>;

/// Calls the handler of the method, and writes the call's line in the audit log. Every call passes
/// here: those of gRPC and of the gateway, and those that a handler makes.
async fn route<H: Host>(mut call: Call<H>) -> Replied {
    let service = Rc::clone(&call.service);
    let Some(sink) = &service.limits.audit else { return handled(call).await };
    let via = match &call.outer {
        Some(outer) => Some(outer.uri.path().to_owned()),
        None => call.origin.is_gateway.then(|| "gateway".to_owned()),
    };
    let record = AuditRecord::begin(sink, &call.head, via, call.origin.address);
    call.audit = Some(Rc::clone(&record));
    let guard = AuditGuard(Some(record));
    let replied = handled(call).await;
    guard.end(&replied, || service.host.revision());
    replied
}

/// Calls the handler of the method. The futures of rare methods are boxed, which keeps the task of
/// a frequent call small.
async fn handled<H: Host>(call: Call<H>) -> Replied {
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
        "/etcdserverpb.Maintenance/Downgrade" => Box::pin(maintenance::downgrade(call)).await,
        "/etcdserverpb.Maintenance/Snapshot" => Box::pin(maintenance::snapshot(call)).await,
        "/v3lockpb.Lock/Lock" => Box::pin(lock::lock(call)).await,
        "/v3lockpb.Lock/Unlock" => Box::pin(lock::unlock(call)).await,
        "/v3electionpb.Election/Campaign" => Box::pin(election::campaign(call)).await,
        "/v3electionpb.Election/Proclaim" => Box::pin(election::proclaim(call)).await,
        "/v3electionpb.Election/Leader" => Box::pin(election::leader(call)).await,
        "/v3electionpb.Election/Observe" => Box::pin(election::observe(call)).await,
        "/v3electionpb.Election/Resign" => Box::pin(election::resign(call)).await,
        "/grpc.health.v1.Health/Check" => Box::pin(health::check(call)).await,
        "/grpc.health.v1.Health/List" => Box::pin(health::list(call)).await,
        "/grpc.health.v1.Health/Watch" => Box::pin(health::watch(call)).await,
        _ => match path.strip_prefix("/etcdserverpb.Auth/").map(str::to_owned) {
            Some(method) => Box::pin(route_auth(call, &method)).await,
            None => Err(unknown_method(path, &SERVICES)),
        },
    }
}

/// Calls the handler of a method of the Auth service.
async fn route_auth<H: Host>(call: Call<H>, method: &str) -> Replied {
    match method {
        "AuthEnable" => auth::auth_enable(call).await,
        "AuthDisable" => auth::auth_disable(call).await,
        "AuthStatus" => auth::auth_status(call).await,
        "Authenticate" => auth::authenticate(call).await,
        "UserAdd" => auth::user_add(call).await,
        "UserGet" => auth::user_get(call).await,
        "UserList" => auth::user_list(call).await,
        "UserDelete" => auth::user_delete(call).await,
        "UserChangePassword" => auth::user_change_password(call).await,
        "UserGrantRole" => auth::user_grant_role(call).await,
        "UserRevokeRole" => auth::user_revoke_role(call).await,
        "RoleAdd" => auth::role_add(call).await,
        "RoleGet" => auth::role_get(call).await,
        "RoleList" => auth::role_list(call).await,
        "RoleDelete" => auth::role_delete(call).await,
        "RoleGrantPermission" => auth::role_grant_permission(call).await,
        "RoleRevokePermission" => auth::role_revoke_permission(call).await,
        _ => Err(unknown_method(call.head.uri.path(), &SERVICES)),
    }
}

/// Services with implemented methods.
const SERVICES: [&str; 9] = [
    "etcdserverpb.Auth",
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "grpc.health.v1.Health",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];

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
            ("/v3lockpb.Lock/Foo", "unknown method Foo for service v3lockpb.Lock"),
        ] {
            let status = unknown_method(path, &SERVICES);
            assert_eq!((status.code, &status.message[..]), (Code::Unimplemented, want));
        }
    }
}
