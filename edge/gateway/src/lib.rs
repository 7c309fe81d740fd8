//! gateway: the TCP proxy of `etcd gateway start`. Each connection that it accepts is forwarded to one
//! of the endpoints, byte by byte, so that TLS and authentication are between the client and the
//! server.
//!
//! - An endpoint that cannot be connected to is left out, and tried again after the retry delay.
//! - Half-closed connections are forwarded as such.
//! - A connection that would lead back to the gateway is not made.
//! - The number of connections is bounded: further ones wait in the kernel.
//!
//! Not here: the command line, and the search for endpoints (`embed::gateway`).
//!
//! Source: etcd server/proxy/tcpproxy/userspace.go @ v3.7.1.

mod proxy;
mod remotes;

pub use proxy::{Gateway, Options, leads_back};
pub use remotes::Remote;
