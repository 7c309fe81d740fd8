//! What all connections of one worker share: the host, the limits, and the checks of a request's
//! metadata.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/interceptor.go.

use crate::access::HttpOptions;
use crate::audit::AuditSink;
use crate::framed::LastFramed;
use crate::host::Host;
use crate::spans::Tracer;
use http::HeaderMap;
use rpc::{Error, Status};
use std::cell::Cell;
use std::time::Duration;
use watch::ConnectionId;

/// Bytes that a message may have in addition to `--max-request-bytes`.
const OVERHEAD: usize = 512 * 1024;

/// The limits of the services, from the server's flags.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--max-concurrent-streams`, for one connection.
    pub streams_max: u32,
    /// Streams that require a leader are cancelled when none has been known for this long: three
    /// election timeouts.
    pub no_leader_max: Duration,
    /// The idle time after which a client is pinged, and the time it has to answer:
    /// `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`.
    pub pings: Option<(Duration, Duration)>,
    /// A unary call that takes longer is logged.
    pub slow_request: Duration,
    /// Plain HTTP on the same port.
    pub http: HttpOptions,
    /// Takes the lines of the audit log: `--audit-log`.
    pub audit: Option<AuditSink>,
    /// Begins spans: `--enable-distributed-tracing`.
    pub tracer: Option<Tracer>,
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
            http: HttpOptions::default(),
            audit: None,
            tracer: None,
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

/// Shared by all connections of one worker.
pub(crate) struct Shared<H> {
    pub(crate) host: H,
    pub(crate) limits: Limits,
    pub(crate) last_framed: LastFramed,
    /// The number of connections so far.
    connections: Cell<u64>,
}

impl<H> Shared<H> {
    pub(crate) fn new(host: H, limits: Limits) -> Shared<H> {
        Shared { host, limits, last_framed: LastFramed::default(), connections: Cell::new(0) }
    }

    /// The id of a new connection.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connections.set(self.connections.get() + 1);
        ConnectionId(self.connections.get())
    }
}

/// True if the client wants no response from a member that knows no leader.
pub(crate) fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

impl<H: Host> Shared<H> {
    /// Checks the metadata of a call.
    pub(crate) fn check_metadata(&self, headers: &HeaderMap) -> Result<(), Status> {
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

    /// Waits until no leader has been known for [`Limits::no_leader_max`].
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

    /// A header with this revision, or with the current one if it is 0.
    pub(crate) fn header_or_current(
        &self,
        revision: i64,
    ) -> Option<proto::etcdserverpb::ResponseHeader> {
        if revision == 0 { self.header() } else { self.header_at(revision) }
    }
}
