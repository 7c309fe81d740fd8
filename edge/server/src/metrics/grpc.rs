//! The metrics of go-grpc-prometheus: started and handled calls, and received and sent messages,
//! for each method that etcd serves. As in etcd, all of them exist from the start with the value 0.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use std::sync::Arc;

/// The service, the name and the kind of each method of etcd v3.7.1. (etcd has no metrics for the
/// lock and election services.)
const METHODS: [(&str, &str, Kind); 45] = [
    ("etcdserverpb.Auth", "AuthDisable", Kind::Unary),
    ("etcdserverpb.Auth", "AuthEnable", Kind::Unary),
    ("etcdserverpb.Auth", "AuthStatus", Kind::Unary),
    ("etcdserverpb.Auth", "Authenticate", Kind::Unary),
    ("etcdserverpb.Auth", "RoleAdd", Kind::Unary),
    ("etcdserverpb.Auth", "RoleDelete", Kind::Unary),
    ("etcdserverpb.Auth", "RoleGet", Kind::Unary),
    ("etcdserverpb.Auth", "RoleGrantPermission", Kind::Unary),
    ("etcdserverpb.Auth", "RoleList", Kind::Unary),
    ("etcdserverpb.Auth", "RoleRevokePermission", Kind::Unary),
    ("etcdserverpb.Auth", "UserAdd", Kind::Unary),
    ("etcdserverpb.Auth", "UserChangePassword", Kind::Unary),
    ("etcdserverpb.Auth", "UserDelete", Kind::Unary),
    ("etcdserverpb.Auth", "UserGet", Kind::Unary),
    ("etcdserverpb.Auth", "UserGrantRole", Kind::Unary),
    ("etcdserverpb.Auth", "UserList", Kind::Unary),
    ("etcdserverpb.Auth", "UserRevokeRole", Kind::Unary),
    ("etcdserverpb.Cluster", "MemberAdd", Kind::Unary),
    ("etcdserverpb.Cluster", "MemberList", Kind::Unary),
    ("etcdserverpb.Cluster", "MemberPromote", Kind::Unary),
    ("etcdserverpb.Cluster", "MemberRemove", Kind::Unary),
    ("etcdserverpb.Cluster", "MemberUpdate", Kind::Unary),
    ("etcdserverpb.KV", "Compact", Kind::Unary),
    ("etcdserverpb.KV", "DeleteRange", Kind::Unary),
    ("etcdserverpb.KV", "Put", Kind::Unary),
    ("etcdserverpb.KV", "Range", Kind::Unary),
    ("etcdserverpb.KV", "RangeStream", Kind::ServerStream),
    ("etcdserverpb.KV", "Txn", Kind::Unary),
    ("etcdserverpb.Lease", "LeaseGrant", Kind::Unary),
    ("etcdserverpb.Lease", "LeaseKeepAlive", Kind::BidiStream),
    ("etcdserverpb.Lease", "LeaseLeases", Kind::Unary),
    ("etcdserverpb.Lease", "LeaseRevoke", Kind::Unary),
    ("etcdserverpb.Lease", "LeaseTimeToLive", Kind::Unary),
    ("etcdserverpb.Maintenance", "Alarm", Kind::Unary),
    ("etcdserverpb.Maintenance", "Defragment", Kind::Unary),
    ("etcdserverpb.Maintenance", "Downgrade", Kind::Unary),
    ("etcdserverpb.Maintenance", "Hash", Kind::Unary),
    ("etcdserverpb.Maintenance", "HashKV", Kind::Unary),
    ("etcdserverpb.Maintenance", "MoveLeader", Kind::Unary),
    ("etcdserverpb.Maintenance", "Snapshot", Kind::ServerStream),
    ("etcdserverpb.Maintenance", "Status", Kind::Unary),
    ("etcdserverpb.Watch", "Watch", Kind::BidiStream),
    ("grpc.health.v1.Health", "Check", Kind::Unary),
    ("grpc.health.v1.Health", "List", Kind::Unary),
    ("grpc.health.v1.Health", "Watch", Kind::ServerStream),
];

/// gRPC's codes by their number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Buckets of `grpc_server_handling_seconds`, in seconds.
const HANDLING: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Whether a method streams, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many requests, many answers.
    BidiStream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// The handles of one method.
#[derive(Debug)]
pub struct Method {
    path: String,
    kind: Kind,
    /// Calls begun.
    pub started: IntCounter,
    /// Messages received.
    pub received: IntCounter,
    /// Messages sent.
    pub sent: IntCounter,
    handled: [IntCounter; CODES.len()],
    handling: Option<Histogram>,
}

impl Method {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it streams.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Records the end of a call: its gRPC code (a number above 16 counts as `Unknown`) and its
    /// duration, which is recorded only with `--metrics=extensive`.
    pub fn handled(&self, code: u32, seconds: f64) {
        let code = usize::try_from(code).ok().filter(|c| *c < CODES.len()).unwrap_or(2);
        self.handled[code].inc();
        if let Some(handling) = &self.handling {
            handling.observe(seconds);
        }
    }
}

/// The methods, sorted by path.
#[derive(Debug)]
pub struct Table {
    methods: Vec<Arc<Method>>,
}

impl Table {
    pub(super) fn register(registry: &Registry, extensive: bool) -> prometheus::Result<Self> {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vector.clone()))?;
            prometheus::Result::Ok(vector)
        };
        let started = counter("grpc_server_started_total", "Calls begun.", &labels)?;
        let received = counter("grpc_server_msg_received_total", "Messages received.", &labels)?;
        let sent = counter("grpc_server_msg_sent_total", "Messages sent.", &labels)?;
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let handled = counter("grpc_server_handled_total", "Calls ended, by code.", &with_code)?;
        let handling = if extensive {
            let opts = HistogramOpts::new("grpc_server_handling_seconds", "Time of a call.");
            let vector = HistogramVec::new(opts.buckets(HANDLING.to_vec()), &labels)?;
            registry.register(Box::new(vector.clone()))?;
            Some(vector)
        } else {
            None
        };
        let mut methods = Vec::with_capacity(METHODS.len());
        for (service, method, kind) in METHODS {
            let labels = [kind.label(), service, method];
            methods.push(Arc::new(Method {
                path: format!("/{service}/{method}"),
                kind,
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: CODES
                    .map(|code| handled.with_label_values(&[kind.label(), service, method, code])),
                handling: handling.as_ref().map(|h| h.with_label_values(&labels)),
            }));
        }
        methods.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { methods })
    }

    /// The handles of the method at `path`, such as `/etcdserverpb.KV/Range`.
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        let found = self.methods.binary_search_by(|m| m.path.as_str().cmp(path)).ok()?;
        self.methods.get(found)
    }

    /// All methods.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().map(Arc::as_ref)
    }
}
