//! A client of etcd's v3 API: connections to the endpoints in turn, calls that are repeated where
//! that is safe, watches that go on across broken connections, leases that are kept alive.
//! Requests and answers are the messages of `proto`. It prints nothing. Not here: TLS, and
//! recipes such as locks.
//!
//! Source: etcd v3.7.1 client/v3.

mod api;
mod balance;
mod call;
mod connect;
mod endpoint;
mod error;
mod lease;
mod range;
mod watch;

pub use balance::{Config, OnWarning, Warning};
pub use call::Client;
pub use error::Error;
pub use lease::KeepAlive;
pub use range::{from_key, prefix_end};
pub use watch::{WatchHub, Watched, Watcher};

/// The version whose behaviour this client has, and which it tells the server.
pub const VERSION: &str = "3.7.1";
