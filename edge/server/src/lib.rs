//! The threads of a member, its queues, the real clock and the real disk. The machines that they
//! run are in `executor`. Not here: gRPC and HTTP (see `api`), flags (see `embed`).
//!
//! - [`boot()`] opens the directory; [`start`] starts the threads, [`Running::wait`] ends them.
//! - `threads`: one loop for each machine, and the workers that serve connections; [`Worker`] is
//!   a worker's handle.
//! - `queue`, `mailbox`: the bounded queues between the threads.
//! - **Invariant:** a thread that ends, by an error or a panic, ends the member. The error names
//!   the thread.

mod boot;
mod connection;
mod door;
mod downgrade;
mod error;
mod forwarding;
mod gauges;
mod leader;
mod mailbox;
mod membership;
pub mod metrics;
mod peers;
mod queue;
mod request;
mod running;
mod shared;
mod shared_reads;
mod tasks;
mod threads;
mod tokens;
mod watch_stream;
mod worker;
mod worker_watches;

pub use boot::{StartError, boot};
pub use connection::{Accepted, ConnectionGuard, TakeOver};
pub use error::Error;
pub use forwarding::{Forwarded, Forwarding, ForwardingError, NoForwarding};
pub use peers::{NoPeers, Peers};
pub use request::EncodedRequest;
pub use running::{Handle, Options, RetentionLimits, Running, Tuning, start};
pub use shared::Identity;
pub use threads::worker::Connections;
pub use watch_stream::Stream;
pub use worker::{Limits, WatcherLimits, Worker};
pub use worker_watches::Deliver;
