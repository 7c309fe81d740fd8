//! Members on loopback in one process, and a member of Go's etcd.

mod endpoints;
mod go;
mod members;
mod node;
mod snapshots;
