//! The output of a node: [`Ready`] and its parts. Not here: when it is handed out (`ready.rs`).
//!
//! Source: etcd raft v3.7 rawnode.go (Ready, with asynchronous storage writes).

use crate::message::{Message, RaftSnapshot};
use crate::reads::Read;
use proto::{Entry, EntryId, HardState, Index, NodeId, Term};
use std::fmt;

/// The current role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    #[default]
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It appends proposals to the log and replicates them.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "StateFollower",
            Role::PreCandidate => "StatePreCandidate",
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

/// A write to the log file, with the messages that report it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWrite {
    /// True if the write must be synced. Otherwise it holds at most a commit index, which can wait
    /// for the next write.
    pub must_sync: bool,
    /// The hard state, if it has changed.
    pub hard_state: Option<HardState>,
    /// Entries to append to the stored log. They replace the stored entries from the first one's
    /// index on.
    pub entries: Vec<Entry>,
    /// A snapshot that replaces the state and the whole log, before `entries` are appended.
    pub snapshot: Option<RaftSnapshot>,
    /// Messages that report this write or an earlier one. Once all of these are durable, those to
    /// other members may leave, and those to this member itself must be given to
    /// [`crate::Node::step_own`], in this order.
    pub after: Vec<Message>,
}

/// A part of the log that is no longer in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// The term in which it was requested.
    pub term: Term,
    /// The first entry to read.
    pub first: Index,
    /// The last index to read at most.
    pub last: Index,
    /// The most encoded bytes of entries to read; but at least one entry.
    pub bytes_max: usize,
}

/// The entries of a [`LogRead`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The entry before the first one.
    pub prev: EntryId,
    /// The entries, at least one.
    pub entries: Vec<Entry>,
}

/// The work for the caller. Each item is handed out once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The leader or the role has changed.
    pub soft: Option<SoftState>,
    /// The next write, if there is anything to write or a message that waits for one.
    pub write: Option<LogWrite>,
    /// Entries to apply, in order. All of them are committed.
    pub committed: Vec<Entry>,
    /// Messages to send now. They may get lost. They do not depend on `write`.
    pub messages: Vec<Message>,
    /// Reads that can be served once their index is applied.
    pub reads: Vec<Read>,
    /// Parts of the log to read from its file. Each must be answered with
    /// [`crate::Node::log_read`].
    pub log_reads: Vec<LogRead>,
    /// True if a member needs a newer snapshot than that of [`crate::Node::set_snapshot`].
    pub wants_snapshot: bool,
}

/// Output that is not handed out yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// To be sent at once.
    pub(crate) messages: Vec<Message>,
    /// To be sent when everything up to now is durable.
    pub(crate) after: Vec<Message>,
    pub(crate) reads: Vec<Read>,
    pub(crate) log_reads: Vec<LogRead>,
    pub(crate) wants_snapshot: bool,
}

/// The state as of the last [`Ready`], so that only changes are handed out.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) hard: HardState,
    pub(crate) soft: SoftState,
}
