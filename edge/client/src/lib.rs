//! A client of etcd's v3 API: round-robin over the endpoints, retries where they are safe, watches
//! that resume after a broken connection, and lease keep-alive. Requests and responses are the
//! messages of `proto`. Locks, elections and mirrors are built on them. TLS is in `net`.
//!
//! Source: etcd v3.7.1 client/v3.

mod api;
mod balance;
mod call;
mod config;
mod connect;
mod credentials;
mod endpoint;
mod error;
mod lease;
mod metrics;
mod mirror;
mod range;
mod recipes;
#[cfg(test)]
mod tests;
mod tokens;
mod transport;
mod watch;

pub use call::Client;
pub use config::{Config, OnWarning, Warning};
pub use error::{Contention, Error};
pub use lease::KeepAlive;
pub use mirror::{Mirror, MirrorOptions};
pub use net::tls::{ClientOptions as TlsOptions, KeyPair};
pub use range::{from_key, prefix_end};
pub use recipes::{Election, Mutex, Observer, Session};
pub use watch::{WatchHub, WatchUpdate, Watcher};

/// The etcd version whose client this one follows; it is sent to the server.
pub const VERSION: &str = "3.7.1";
