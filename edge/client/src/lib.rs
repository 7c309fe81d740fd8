//! A client of etcd's v3 API: round-robin over the endpoints, retries where they are safe, watches
//! that resume after a broken connection, and lease keep-alive. Requests and responses are the
//! messages of `proto`. Not here: TLS, and recipes such as locks.
//!
//! Source: etcd v3.7.1 client/v3.

mod api;
mod balance;
mod call;
mod config;
mod connect;
mod endpoint;
mod error;
mod lease;
mod range;
#[cfg(test)]
mod tests;
mod transport;
mod watch;

pub use call::Client;
pub use config::{Config, OnWarning, Warning};
pub use error::Error;
pub use lease::KeepAlive;
pub use range::{from_key, prefix_end};
pub use watch::{WatchHub, WatchUpdate, Watcher};

/// The etcd version whose client this one follows; it is sent to the server.
pub const VERSION: &str = "3.7.1";
