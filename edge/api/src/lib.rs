//! The gRPC services of the client port: what arrives on a connection is told apart, checked,
//! handed to the [`Host`], and its answer is framed. Not here: what a request does (see `state`,
//! `mvcc`, `watch`), threads and queues (see `server`), listeners and TLS (see `net`).
//!
//! One [`Service`] serves all connections of one worker thread; nothing in it is `Send`.

mod call;
mod call_metrics;
mod cancellation;
mod checks;
mod cluster;
mod framed;
mod gather;
mod health;
mod held;
mod host;
mod kv;
mod large;
mod lease;
mod maintenance;
mod member;
mod requests;
mod seated;
mod service;
mod shared;
mod watch;

pub use host::{
    Deliver, Growth, Host, Item, Items, LargeRange, RangeChunks, RangeReply, SnapshotFile,
    WatchStream,
};
pub use member::{WorkerHost, WorkerWatchStream, status_of};
pub use service::{HttpAnswer, HttpHandler, Service};
pub use shared::Limits;
