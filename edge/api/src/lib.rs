//! The gRPC services of the client port. They dispatch and check the requests of a connection, hand
//! them to the [`Host`], and frame its answers. Not here: the effect of a request (see `state`,
//! `mvcc`, `watch`), threads and queues (see `server`), listeners and TLS (see `net`).
//!
//! One [`Service`] serves all connections of one worker thread; nothing in it is `Send`.

mod access;
mod audit;
mod auth;
mod call;
mod call_metrics;
mod cancellation;
mod checks;
mod cluster;
mod election;
mod framed;
mod gateway;
mod health;
mod held;
mod host;
mod inbound;
mod jwt;
mod kv;
mod large;
mod lease;
mod lock;
mod maintenance;
mod member;
mod needs;
mod onward;
mod origin;
mod passwords;
mod requests;
mod service;
mod session;
mod shared;
mod spans;
mod users;
mod waiting;
mod watch;

pub use access::{HttpOptions, Traffic};
pub use audit::{AuditLine, AuditSink};
pub use host::{
    Deliver, Growth, Host, Item, Items, LargeRange, RangeChunks, RangeReply, SnapshotFile,
    WatchStream,
};
pub use jwt::{JwtKeyFiles, JwtOptions, SignMethod, failed_reloads as failed_jwt_reloads};
pub use member::{
    Authenticator, TokenKind, WorkerHost, WorkerWatchStream, defragment, hash_kv, permit_admin,
    status_of,
};
pub use passwords::{BCRYPT_COSTS, bcrypt_cost};
pub use service::{HttpAnswer, HttpHandler, Service};
pub use shared::Limits;
pub use spans::{AttributeValue, Span, SpanAttributes, SpanEvent, SpanKind, Tracer};
pub use users::{Admitted, UserLimits, UserPlace};
