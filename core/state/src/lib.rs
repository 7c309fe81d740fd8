//! The replicated half of a member: applies committed entries to keys, leases, alarms and
//! membership, and publishes the result to readers and watchers. It reads its own store inside
//! [`State::step`]. Consensus is in `member`; there is no file, thread or clock here.
//!
//! - **Invariant:** the applied index goes into the same batch as the changes of its entry.
//! - **Invariant:** an answer comes after the view that contains its changes.
//! - **Invariant:** the effects of an entry depend only on the entries before it, so that members
//!   agree. Only the answer "no space" may differ between members.
//!
//! Reading order: [`Input`], [`Effect`], `machine`, `step`, then `apply`, `kv`, `txn`.

#![forbid(unsafe_code)]

pub mod alarms;
mod apply;
mod compaction;
mod effect;
mod failure;
mod guard;
mod input;
mod kv;
mod leader;
mod leadership;
mod leases;
mod machine;
mod membership;
mod open;
#[cfg(test)]
mod permission_tests;
pub mod quota;
pub mod range;
mod reject;
mod settings;
mod snapshot;
mod step;
pub mod txn;
mod waiters;

pub use apply::Executed;
pub use effect::{Effect, Proposer, Published, Reply, Snapshot, Totals};
pub use failure::{Fatal, ReadError};
pub use guard::GuardedTxn;
pub use input::{Input, Leader, LeaseQuery, Question};
pub use machine::State;
pub use open::LogTail;
pub use reject::Reject;
pub use settings::{LeaseCheckpoints, Settings};
