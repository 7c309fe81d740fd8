//! Tests of whole servers as processes.
//!
//! - `conformance`: sends the same random requests to our server and to Go's etcd.
//! - `scripts`: runs fixed requests against both, for behaviour that depends on time or on how
//!   responses are grouped.
//! - `gateway`: sends requests to every path of the JSON gateway of both.
//! - `kill9`: kills our server repeatedly under load.
//! - `members`: grows and shrinks a cluster of our servers under load.
//! - `dropin`: lets Go's etcd and ours serve one data directory in turn, each other's snapshots, and
//!   directories after downgrades.
//! - `dbcheck`: checks database files with the official tool of bbolt.
//! - `space`: measures how the database file shrinks under load.
//!
//! This library holds the common code of the programs. The product does not depend on it.

#![expect(clippy::print_stderr, reason = "programs that report")]

pub mod cluster;
pub mod compare;
pub mod differences;
pub mod dropin;
pub mod gateway;
pub mod generate;
pub mod load;
pub mod scripts;
pub mod server;
pub mod watchers;
