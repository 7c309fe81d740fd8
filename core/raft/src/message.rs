//! The messages between members as plain types, and their conversion to `raftpb.Message`.
//!
//! Source: etcd raft v3.7 raftpb/raft.proto, doc.go.

use crate::error::Error;
use bytes::Bytes;
use proto::raftpb::{self, MessageType};
use proto::{Entry, EntryId, Index, NodeId, Term};

/// A message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; 0 for messages that are forwarded to the leader of any term.
    pub term: Term,
    /// The content.
    pub body: Body,
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
        /// The last agreeing index.
        index: Index,
    },
    /// The follower's log does not contain the `prev` of an append.
    AppendRejected {
        /// The index of that `prev`.
        index: Index,
        /// An entry up to which the logs may agree; term 0 if its term is not known.
        hint: EntryId,
    },
    /// Requests a vote.
    Vote {
        /// The last entry of the candidate's log.
        last: EntryId,
    },
    /// Answers a vote request.
    VoteResponse {
        /// True if the vote is granted.
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
}

impl Body {
    /// The message type in etcd's protocol.
    #[must_use]
    pub fn kind(&self) -> MessageType {
        match self {
            Body::Propose { .. } => MessageType::MsgProp,
            Body::Append { .. } => MessageType::MsgApp,
            Body::AppendAccepted { .. } | Body::AppendRejected { .. } => MessageType::MsgAppResp,
            Body::Vote { .. } => MessageType::MsgVote,
            Body::VoteResponse { .. } => MessageType::MsgVoteResp,
            Body::Heartbeat { .. } => MessageType::MsgHeartbeat,
            Body::HeartbeatResponse { .. } => MessageType::MsgHeartbeatResp,
            Body::ReadIndex { .. } => MessageType::MsgReadIndex,
            Body::ReadIndexResponse { .. } => MessageType::MsgReadIndexResp,
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
            | Body::HeartbeatResponse { .. }
            | Body::ReadIndexResponse { .. } => true,
            Body::Propose { .. }
            | Body::Append { .. }
            | Body::Vote { .. }
            | Body::Heartbeat { .. }
            | Body::ReadIndex { .. } => false,
        }
    }

    /// True for messages that only a leader sends.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. })
    }

    /// True for messages without a term.
    pub(crate) fn has_no_term(&self) -> bool {
        matches!(self, Body::Propose { .. } | Body::ReadIndex { .. })
    }
}

impl Message {
    /// The protobuf message.
    #[must_use]
    pub fn to_pb(&self) -> raftpb::Message {
        let mut pb = raftpb::Message {
            r#type: Some(self.body.kind().into()),
            to: Some(self.to.0),
            from: Some(self.from.0),
            term: Some(self.term.0),
            ..raftpb::Message::default()
        };
        let context = |bytes: &Bytes| (!bytes.is_empty()).then(|| bytes.clone());
        let read = |bytes: &Bytes| {
            let entry = Entry { data: bytes.clone(), ..Entry::default() };
            vec![entry.to_pb()]
        };
        match &self.body {
            Body::Propose { entries } => pb.entries = entries.iter().map(Entry::to_pb).collect(),
            Body::Append { prev, entries, commit } => {
                (pb.log_term, pb.index) = (Some(prev.term.0), Some(prev.index.0));
                pb.entries = entries.iter().map(Entry::to_pb).collect();
                pb.commit = Some(commit.0);
            }
            Body::AppendAccepted { index } => pb.index = Some(index.0),
            Body::AppendRejected { index, hint } => {
                (pb.index, pb.reject) = (Some(index.0), Some(true));
                (pb.reject_hint, pb.log_term) = (Some(hint.index.0), Some(hint.term.0));
            }
            Body::Vote { last } => {
                (pb.log_term, pb.index) = (Some(last.term.0), Some(last.index.0));
            }
            Body::VoteResponse { granted } => pb.reject = Some(!granted),
            Body::Heartbeat { commit, context: bytes } => {
                (pb.commit, pb.context) = (Some(commit.0), context(bytes));
            }
            Body::HeartbeatResponse { context: bytes } => pb.context = context(bytes),
            Body::ReadIndex { context: bytes } => pb.entries = read(bytes),
            Body::ReadIndexResponse { index, context: bytes } => {
                (pb.index, pb.entries) = (Some(index.0), read(bytes));
            }
        }
        pb
    }

    /// The plain form of a message that a peer sent.
    ///
    /// # Errors
    /// When it is of a kind that peers do not send or that is not built yet, or lacks a part.
    pub fn from_pb(pb: raftpb::Message) -> Result<Message, Error> {
        let from = NodeId(pb.from.unwrap_or_default());
        let bad = |what: String| Error::Peer { from, what };
        let kind = MessageType::try_from(pb.r#type.unwrap_or_default())
            .map_err(|unknown| bad(unknown.to_string()))?;
        let log = EntryId {
            term: Term(pb.log_term.unwrap_or_default()),
            index: Index(pb.index.unwrap_or_default()),
        };
        let commit = Index(pb.commit.unwrap_or_default());
        let context = pb.context.unwrap_or_default();
        let rejected = pb.reject.unwrap_or_default();
        let entries: Vec<Entry> = pb
            .entries
            .into_iter()
            .map(|entry| Entry::from_pb(entry).map_err(|error| bad(error.to_string())))
            .collect::<Result<_, _>>()?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds are refused alike")]
        let body = match kind {
            MessageType::MsgProp => Body::Propose { entries },
            MessageType::MsgApp => Body::Append { prev: log, entries, commit },
            MessageType::MsgAppResp if rejected => {
                let hint = Index(pb.reject_hint.unwrap_or_default());
                let hint = EntryId { term: log.term, index: hint };
                Body::AppendRejected { index: log.index, hint }
            }
            MessageType::MsgAppResp => Body::AppendAccepted { index: log.index },
            MessageType::MsgVote => Body::Vote { last: log },
            MessageType::MsgVoteResp => Body::VoteResponse { granted: !rejected },
            MessageType::MsgHeartbeat => Body::Heartbeat { commit, context },
            MessageType::MsgHeartbeatResp => Body::HeartbeatResponse { context },
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
                let [entry] = entries.as_slice() else {
                    return Err(bad(format!("{} without its context", kind.as_str_name())));
                };
                let context = entry.data.clone();
                if kind == MessageType::MsgReadIndex {
                    Body::ReadIndex { context }
                } else {
                    Body::ReadIndexResponse { index: log.index, context }
                }
            }
            other => return Err(bad(format!("{} is not known here", other.as_str_name()))),
        };
        let to = NodeId(pb.to.unwrap_or_default());
        Ok(Message { from, to, term: Term(pb.term.unwrap_or_default()), body })
    }
}
