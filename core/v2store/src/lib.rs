//! The tree of etcd's first API. Every .snap file has it as JSON, with the members and the cluster
//! version under `/0`. It is read whole and written unchanged. Of the v2 requests in the log, only
//! those that etcd itself writes are applied; the v2 API is not here.
//!
//! Source: etcd v3.5 server/etcdserver/api/v2store/{store,node}.go, server/etcdserver/apply_v2.go;
//! etcd v3.7 server/etcdserver/api/membership/storev2.go.

#![forbid(unsafe_code)]

mod entry;
mod expire_time;
mod tree;

pub use entry::{BadEntry, EntryPayload, classify};
pub use tree::{BadV2Tree, NotBuilt, V2Change, V2Tree};
