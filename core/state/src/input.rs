//! The inputs of a state.

use auth::Caller;
use cluster::Version;
use proto::{Entry, LeaseId, NodeId, Term};
use std::collections::BTreeMap;

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
    /// The term and its leader. The duties of a leader begin when the first entry of the term is
    /// applied.
    Leadership(Term, Leader),
    /// The known versions of the other members. A leader decides the cluster version from them.
    MemberVersions(BTreeMap<NodeId, Version>),
    /// A question, with the id that its reply gets.
    Ask(u64, Question),
}

/// The leader of a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// It is not known.
    #[default]
    Unknown,
    /// This member.
    Me,
    /// Another member, to which raft forwards proposals.
    Other,
}

/// A question, which needs no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client that asks; `None` for another member, which has already checked its client's
    /// permission.
    pub caller: Option<Caller>,
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
