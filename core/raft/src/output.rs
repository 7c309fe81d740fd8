//! The output of a node: [`Ready`] and its parts, and the bookkeeping of what was handed out.
//! Not here: when it is handed out (`ready.rs`).
//!
//! Source: etcd raft v3.7 rawnode.go (Ready, with asynchronous storage writes).

use crate::message::Message;
use crate::reads::Read;
use proto::{Entry, EntryId, HardState, NodeId, Term};
use std::collections::VecDeque;
use std::fmt;

/// The current role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It appends proposals to the log and replicates them.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "StateFollower",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        })
    }
}

/// The part of the state that is not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// The leader; [`NodeId::NONE`] if it is not known.
    pub leader: NodeId,
    /// This member's role.
    pub role: Role,
}

/// The name of a log write. The caller returns it with [`crate::Node::durable`] when the write is
/// synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) number: u64,
    pub(crate) last: EntryId,
}

impl Receipt {
    /// The last entry of the log when the write was handed out.
    #[must_use]
    pub fn last(self) -> EntryId {
        self.last
    }
}

/// The work for the caller. Each item is handed out once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The leader or the role has changed.
    pub soft: Option<SoftState>,
    /// The hard state has changed. With `must_sync` it is written with `entries`; otherwise it can
    /// wait for the next write.
    pub hard_state: Option<HardState>,
    /// True if `entries` and `hard_state` must be written and synced.
    pub must_sync: bool,
    /// Entries to append to the stored log. They replace the stored entries from the first one's
    /// index on.
    pub entries: Vec<Entry>,
    /// With `must_sync`: to be returned when the write is synced.
    pub receipt: Option<Receipt>,
    /// Entries to apply, in order. All of them are committed, and durable here.
    pub committed: Vec<Entry>,
    /// Messages to send now. They may get lost. State that they report is already durable.
    pub messages: Vec<Message>,
    /// Reads that can be served once their index is applied.
    pub reads: Vec<Read>,
}

/// Output that must wait until the term, the vote and the entries that it reports are durable.
#[derive(Debug)]
pub(crate) enum Waiting {
    Send(Message),
    OwnVote(Term),
}

/// Output that is not handed out yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) reads: Vec<Read>,
}

/// The state and the writes that were handed out.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) number: u64,
    /// Writes that are not durable, by number, with the output that waits for them.
    pub(crate) in_flight: VecDeque<(u64, Vec<Waiting>)>,
    pub(crate) hard: HardState,
    pub(crate) soft: SoftState,
}

impl Writes {
    /// The state as it is stored when the node starts, so that only changes are handed out.
    pub(crate) fn begin(&mut self, hard: HardState, soft: SoftState) {
        (self.hard, self.soft) = (hard, soft);
    }
}
