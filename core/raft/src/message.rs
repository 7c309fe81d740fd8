//! The messages between members as plain types. Not here: their protobuf form (`wire.rs`) and
//! their text (`describe.rs`).
//!
//! Source: etcd raft v3.7 raftpb/raft.proto, doc.go.

use bytes::Bytes;
use proto::raftpb::MessageType;
use proto::{ConfState, Entry, EntryId, Index, NodeId, Term};

/// The sender of [`Body::Stored`]: this member's own log. No member has this id.
pub(crate) const OWN_LOG: NodeId = NodeId(u64::MAX);
/// An id that etcd uses for the applying thread. No member has it.
pub(crate) const OWN_APPLIER: NodeId = NodeId(u64::MAX - 1);

/// A message from one member to another, or from a member to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; 0 for messages that are forwarded to the leader of any term. A pre-vote
    /// has the term of the election that may follow.
    pub term: Term,
    /// The content.
    pub body: Body,
}

/// A snapshot of the state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftSnapshot {
    /// The last entry that it contains.
    pub id: EntryId,
    /// The configuration after that entry.
    pub conf_state: ConfState,
    /// The state. Opaque to raft.
    pub data: Bytes,
}

impl RaftSnapshot {
    /// True if this member is in the configuration.
    pub(crate) fn has_member(&self, member: NodeId) -> bool {
        let ConfState { voters, learners, voters_outgoing, .. } = &self.conf_state;
        [voters, learners, voters_outgoing].into_iter().flatten().any(|id| *id == member)
    }
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Forwards proposals to the leader, which sets terms and indexes.
    Propose {
        /// The proposals.
        entries: Vec<Entry>,
    },
    /// Appends entries after `prev`.
    Append {
        /// The entry before the first of `entries`.
        prev: EntryId,
        /// The entries; may be empty.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The follower's log durably agrees with the leader's up to `index`.
    AppendAccepted {
        /// The last agreeing index. 0 only tells the receiver the sender's term.
        index: Index,
    },
    /// The follower's log does not contain the `prev` of an append.
    AppendRejected {
        /// The index of that `prev`.
        index: Index,
        /// An entry up to which the logs may agree; term 0 if its term is not known.
        hint: EntryId,
    },
    /// Replaces a log that is too far behind.
    Snapshot(Box<RaftSnapshot>),
    /// Requests a vote.
    Vote {
        /// The last entry of the candidate's log.
        last: EntryId,
        /// True if the leader asked for this election, so that its lease does not count.
        transfer: bool,
    },
    /// Answers a vote request.
    VoteResponse {
        /// True if the vote is granted.
        granted: bool,
    },
    /// Asks whether a vote would be granted.
    PreVote {
        /// The last entry of the candidate's log.
        last: EntryId,
    },
    /// Answers a pre-vote.
    PreVoteResponse {
        /// True if the vote would be granted.
        granted: bool,
    },
    /// A leader's heartbeat.
    Heartbeat {
        /// The commit index, up to the last entry that the follower is known to have.
        commit: Index,
        /// Returned in the response.
        context: Bytes,
    },
    /// Answers a heartbeat.
    HeartbeatResponse {
        /// The context of the request.
        context: Bytes,
    },
    /// Asks the leader to transfer its leadership to the sender.
    TransferLeader,
    /// Tells the receiver to campaign at once.
    TimeoutNow,
    /// Requests the index that must be applied before a read is linearizable.
    ReadIndex {
        /// Returned in the response.
        context: Bytes,
    },
    /// Answers a read-index request.
    ReadIndexResponse {
        /// The index.
        index: Index,
        /// The context of the request.
        context: Bytes,
    },
    /// Sent by a member only to itself: a write is durable.
    Stored {
        /// The last entry of the log when the write was handed out; `None` if all of them were
        /// durable already.
        last: Option<EntryId>,
        /// The snapshot that was written.
        snapshot: Option<Box<RaftSnapshot>>,
    },
}

impl Body {
    /// The message type in etcd's protocol.
    #[must_use]
    pub fn kind(&self) -> MessageType {
        match self {
            Body::Propose { .. } => MessageType::MsgProp,
            Body::Append { .. } => MessageType::MsgApp,
            Body::AppendAccepted { .. } | Body::AppendRejected { .. } => MessageType::MsgAppResp,
            Body::Snapshot(_) => MessageType::MsgSnap,
            Body::Vote { .. } => MessageType::MsgVote,
            Body::VoteResponse { .. } => MessageType::MsgVoteResp,
            Body::PreVote { .. } => MessageType::MsgPreVote,
            Body::PreVoteResponse { .. } => MessageType::MsgPreVoteResp,
            Body::Heartbeat { .. } => MessageType::MsgHeartbeat,
            Body::HeartbeatResponse { .. } => MessageType::MsgHeartbeatResp,
            Body::TransferLeader => MessageType::MsgTransferLeader,
            Body::TimeoutNow => MessageType::MsgTimeoutNow,
            Body::ReadIndex { .. } => MessageType::MsgReadIndex,
            Body::ReadIndexResponse { .. } => MessageType::MsgReadIndexResp,
            Body::Stored { .. } => MessageType::MsgStorageAppendResp,
        }
    }

    /// The name of the message type in etcd's protocol.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().as_str_name()
    }

    /// True for responses, which only members of the configuration may send.
    pub(crate) fn is_response(&self) -> bool {
        match self {
            Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::VoteResponse { .. }
            | Body::PreVoteResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::ReadIndexResponse { .. } => true,
            Body::Propose { .. }
            | Body::Append { .. }
            | Body::Snapshot(_)
            | Body::Vote { .. }
            | Body::PreVote { .. }
            | Body::Heartbeat { .. }
            | Body::TransferLeader
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::Stored { .. } => false,
        }
    }

    /// True for messages that only a leader sends to its followers.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_))
    }

    /// The bytes of the entries.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        if let Body::Propose { entries } | Body::Append { entries, .. } = self {
            return entries.iter().map(|entry| entry.data.len()).sum();
        }
        0
    }

    /// True for messages without a term.
    pub(crate) fn has_no_term(&self) -> bool {
        matches!(self, Body::Propose { .. } | Body::ReadIndex { .. })
    }
}
