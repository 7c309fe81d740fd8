//! Members on loopback in one process, and a member of Go's etcd.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod endpoints;
mod go;
mod members;
mod node;
mod snapshots;
