//! Carries out what `member` and `state` decide: the queues between consensus, apply, log and
//! database, and the order in which each of them works. Everything here is synchronous. `server`
//! gives each machine a thread, the real clock and the real disk; `sim` drives the same machines
//! on one thread with a simulated disk, and may stop between any two calls.
//!
//! | machine | owns | takes | does |
//! |---|---|---|---|
//! | [`Consensus`] | `member` | proposals, completions of log writes, ticks | decides what is logged and what is committed |
//! | [`LogWriter`] | the WAL, `.snap` files | batches, snapshots | writes, syncs, saves, purges |
//! | [`Applier`] | `state` | committed entries, questions, ticks | applies, publishes, answers |
//! | [`BackendWriter`] | the database file | applied batches | commits them |
//!
//! A machine takes inputs and pushes [`Envelope`]s. Its driver delivers each message to the queue
//! of the machine that it is addressed to. No machine calls another one.
//!
//! - **Invariant:** messages from one machine to another arrive in the order they were pushed.
//! - **Invariant:** a read view is published before the answers that depend on it are sent, and
//!   before consensus learns of a configuration change that it contains.
//! - **Invariant:** everything in a [`Moment`] was true at the same time. Whether reads are
//!   linearizable is derived from the moment itself, never stored beside it.
//! - **Invariant:** the number of messages between machines is bounded by credits: see
//!   [`APPLY_BATCHES_MAX`], [`BACKEND_BATCHES_MAX`], [`BACKEND_REPORTS_MAX`] and
//!   [`OWN_PROPOSALS_MAX`]; there is at most one log write and one snapshot at a time.
//!
//! Not here: threads and metrics (`server`), decisions about data (`state`) and about the log
//! (`member`).

#![forbid(unsafe_code)]

mod applier;
mod auto_compaction;
mod backend_writer;
pub mod boot;
mod consensus;
mod forcing;
mod founding;
mod gathered;
mod ids;
mod joined;
mod log_writer;
mod machines;
mod message;
mod moment;
mod reads;
pub mod received;

pub use applier::{Applied, Applier, BACKEND_BATCHES_MAX, OWN_PROPOSALS_MAX};
pub use auto_compaction::AutoCompaction;
pub use backend_writer::{BACKEND_REPORTS_MAX, BackendWriter};
pub use boot::{BootError, BootOptions, Booted, LogSizes};
pub use consensus::{APPLY_BATCHES_MAX, Consensus, GATHERING_TIME};
pub use founding::{FirstMember, Founding};
pub use ids::{IdLane, RequestIds};
pub use log_writer::{LogStep, LogWriter};
pub use machines::{MachineOptions, Machines};
pub use message::{
    ApplyInput, BackendInput, ClientMessage, ConsensusInput, Envelope, LogInput, RequestFailure,
    WakeFor,
};
pub use moment::Moment;
