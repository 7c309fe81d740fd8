//! The inputs of a state.

use auth::Caller;
use proto::{Entry, LeaseId, Term};

/// One input of [`State::step`](crate::State::step).
#[derive(Debug)]
pub enum Input {
    /// These entries are committed; they follow each other and the last applied one.
    Apply(Vec<Entry>),
    /// Time has passed.
    Tick,
    /// There is time for a slice of housekeeping.
    Idle,
    /// The oldest batches are in this view of the file.
    BackendDurable {
        /// How many batches.
        batches: usize,
        /// The file with them.
        file: bolt::View,
    },
    /// This member leads in this term, or (none) it does not lead. What depends on leading begins
    /// when the first entry of the term is applied.
    Leads(Option<Term>),
    /// A question, with the id that its reply gets.
    Ask(u64, Question),
}

/// A question, which needs no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client that asks.
    pub caller: Caller,
    /// The question.
    pub query: LeaseQuery,
}

/// A question about leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuery {
    /// Renews a lease.
    KeepAlive(LeaseId),
    /// The remaining time of a lease.
    TimeToLive {
        /// The lease.
        lease: LeaseId,
        /// Whether to list its keys.
        keys: bool,
    },
    /// Lists all leases.
    List,
}
