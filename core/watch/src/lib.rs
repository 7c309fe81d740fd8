//! Watchers. A [`Shard`] holds those of one worker: a plain state machine that is fed the events
//! of each revision once, finds the watchers that they concern, and keeps for each stream the
//! responses that wait to be sent. What a slow stream cannot take is not kept: its watchers fall
//! behind and read it from the history later, as do those that start in the past. Not here:
//! threads, sockets, permission (see `auth`), and where history is kept (see `mvcc`).
//!
//! Source: etcd v3.7 server/storage/mvcc/{watchable_store,watcher_group,watcher}.go,
//! server/etcdserver/api/v3rpc/watch.go.

#![forbid(unsafe_code)]

mod body;
mod history;
mod interest;
mod interval;
mod request;
mod response;
mod shard;
mod stream;

pub use history::History;
pub use mvcc::{Event, EventBatch, EventKind, KeyRange};
pub use request::CreateRequest;
pub use response::Response;
pub use shard::{Budget, CatchUp, Limits, Shard, Stats};
pub use stream::StreamId;
