//! The threads of a member, its queues, the real clock and the real disk: it carries out what
//! `member` and `state` decide. Not here: gRPC and HTTP (see `api`), flags (see `embed`).
//!
//! - the core drives both machines (`core_loop`);
//! - one thread writes the log (`log_writer`), one the database (`backend_writer`);
//! - workers serve connections, each with a runtime of its own; [`Worker`] is their handle.

mod backend_writer;
mod boot;
mod compactor;
mod core_loop;
mod error;
mod log_writer;
pub mod metrics;
mod running;
mod shared;
mod watching;
mod worker;

pub use boot::{BootError, BootOptions, Booted, boot};
pub use compactor::AutoCompaction;
pub use error::Error;
pub use running::{Connections, Handle, Options, Running, TakeOver, start};
pub use shared::{Current, Held, Identity};
pub use watching::{Deliver, Stream};
pub use worker::{Limits, Worker};
