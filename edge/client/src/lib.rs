//! A client of etcd's v3 API: round-robin over the endpoints, retries where they are safe, watches
//! that resume after a broken connection, and lease keep-alive. Requests and responses are the
//! messages of `proto`. TLS is in `net`.
//!
//! [`Client`] has a method for each of etcd's RPCs. What is built on them:
//!
//! | type | what it does |
//! |---|---|
//! | [`Watcher`], [`WatchHub`] | watches, which resume after a broken connection |
//! | [`KeepAlive`] | keeps a lease alive |
//! | [`Session`], [`Mutex`], [`Election`], [`Observer`] | locks and elections |
//! | [`Stm`] | transactions over several keys that start again after a conflict |
//! | [`Namespace`] | the keys with a prefix, without the prefix |
//! | [`OrderedClient`] | reads that never return an older state than before |
//! | [`Snapshot`] | the download of a member's database, with its checksum |
//! | [`Mirror`] | a copy of one cluster's keys in another |
//!
//! # Keys
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! use client::{Client, Config, prefix_end};
//! use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
//! use std::time::Duration;
//!
//! let endpoints = vec!["127.0.0.1:2379".to_string(), "127.0.0.1:22379".to_string()];
//! let client = Client::connect(Config::new(endpoints)).await?.with_timeout(Duration::from_secs(5));
//! let put = PutRequest { key: "fruit/apple".into(), value: "1".into(), ..PutRequest::default() };
//! client.put(put).await?;
//! let all = RangeRequest {
//!     key: "fruit/".into(),
//!     range_end: prefix_end(b"fruit/").into(),
//!     ..RangeRequest::default()
//! };
//! for kv in client.range(all).await?.kvs {
//!     println!("{:?} = {:?}, since revision {}", kv.key, kv.value, kv.mod_revision);
//! }
//! let key = "fruit/apple".into();
//! client.delete_range(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }).await?;
//! # Ok(()) }
//! ```
//!
//! # Transactions
//!
//! ```no_run
//! # async fn example(client: client::Client) -> Result<(), client::Error> {
//! use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
//! use proto::etcdserverpb::request_op::Request;
//! use proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
//!
//! // Creates the key, unless it exists.
//! let is_new = Compare {
//!     key: "config".into(),
//!     target: CompareTarget::Create.into(),
//!     result: CompareResult::Equal.into(),
//!     target_union: Some(TargetUnion::CreateRevision(0)),
//!     ..Compare::default()
//! };
//! let put = PutRequest { key: "config".into(), value: "{}".into(), ..PutRequest::default() };
//! let txn = TxnRequest {
//!     compare: vec![is_new],
//!     success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
//!     failure: Vec::new(),
//! };
//! if !client.txn(txn).await?.succeeded {
//!     println!("somebody else was faster");
//! }
//! # Ok(()) }
//! ```
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
mod forward;
mod lease;
mod metrics;
mod mirror;
mod namespace;
mod ordering;
mod range;
mod recipes;
mod snapshot;
#[cfg(test)]
mod tests;
mod tokens;
mod transport;
mod watch;

pub use call::Client;
pub use config::{Config, OnWarning, Warning};
pub use error::{Contention, Error};
pub use forward::Forwarded;
pub use lease::KeepAlive;
pub use mirror::{Mirror, MirrorOptions};
pub use namespace::{KeyPrefix, Namespace, NamespaceWatcher};
pub use net::tls::{ClientOptions as TlsOptions, KeyPair};
pub use ordering::OrderedClient;
pub use range::{from_key, prefix_end};
pub use recipes::{Election, Isolation, Mutex, Observer, Session, Stm};
pub use snapshot::Snapshot;
pub use watch::{WatchHub, WatchUpdate, Watcher};

/// The etcd version whose client this one follows; it is sent to the server.
pub const VERSION: &str = "3.7.1";
