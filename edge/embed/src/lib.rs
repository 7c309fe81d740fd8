//! embed: how the server starts. Flags, environment, configuration file, log, and the wiring of
//! the parts below into a running `etcd`.
//!
//! Not here: any behaviour of the store or the cluster, and the command line of `etcdctl`.
//!
//! Source: etcd server/etcdmain and server/embed @ v3.7.1.

pub mod arguments;
pub mod cluster;
pub mod config;
pub mod duration;
pub mod environment;
pub mod file;
pub mod flags;
pub mod gates;
pub mod help;
pub mod logging;
pub mod settings;
pub mod start;
pub mod validate;
pub mod value;

pub use config::Config;
pub use start::main;

#[cfg(test)]
mod tests;
