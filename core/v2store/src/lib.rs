//! The tree that etcd's first API served, as the .snap files carry it to this day: as JSON, with
//! the members and the cluster version under `/0`. Read whole and kept as it was read; of the
//! requests of that API only those that etcd's own housekeeping writes into the log are applied.
//! Not here: the v2 API.
//!
//! Source: etcd v3.5 server/etcdserver/api/v2store/{store,node}.go, server/etcdserver/apply_v2.go;
//! etcd v3.7 server/etcdserver/api/membership/storev2.go.

#![forbid(unsafe_code)]

mod entry;
mod expire_time;
mod store;

pub use entry::{BadEntry, EntryPayload, classify};
pub use store::{BadStore, Effect, NotBuilt, Store};
