//! Watchers. A [`Shard`] holds the watchers of one worker. It is a state machine: the caller feeds
//! it the events of each revision once, it finds the watchers that want them, and it queues
//! responses for each stream. The queues are bounded. If a queue is full, its watchers fall behind
//! and read the missing events from the history later, as do watchers that start in the past. Not
//! here: threads, sockets, permission (see `auth`), and the storage of the history (see `mvcc`).
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
pub use stream::{ConnectionId, StreamId, WatcherPlace};
