//! embed: the start of a server. Flags, environment, configuration file, log, and the wiring of the
//! layers below into a running `etcd`.
//!
//! Not here: any behaviour of the store or the cluster, and the command line of `etcdctl`.
//!
//! Source: etcd server/etcdmain and server/embed @ v3.7.1.

pub mod arguments;
mod audit;
mod certificates;
mod commands;
pub mod config;
mod connections;
mod console;
mod corruption;
mod defragmentation;
mod discovery;
pub mod environment;
pub mod file;
pub mod flags;
mod forwarding;
pub mod gates;
mod gateway;
mod grpc_proxy;
pub mod help;
pub mod initial;
mod listening;
pub mod log_rotation;
pub mod logging;
mod old;
mod others;
mod peer_host;
mod peers;
mod profiles;
mod promotion;
pub mod run;
pub mod settings;
pub mod srv;
pub mod start;
mod status;
mod system;
pub mod tls;
mod token;
mod traces;
pub mod validate;
pub mod value;

pub use config::Config;
pub use run::run;
pub use start::main;

#[cfg(test)]
mod tests;
