//! The protobuf form of messages and snapshots.
//!
//! Source: etcd raft v3.7 raftpb/raft.proto; `campaignTransfer` in raft.go.

use crate::error::Error;
use crate::message::{Body, Message, RaftSnapshot};
use bytes::Bytes;
use proto::raftpb::{self, MessageType};
use proto::{ConfState, Entry, EntryId, Index, NodeId, Term};

/// The context of a vote request after a leader's transfer.
const TRANSFER: &[u8] = b"CampaignTransfer";

impl RaftSnapshot {
    /// The protobuf message.
    #[must_use]
    pub fn to_pb(&self) -> raftpb::Snapshot {
        raftpb::Snapshot {
            data: (!self.data.is_empty()).then(|| self.data.clone()),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(self.conf_state.to_pb()),
                index: Some(self.id.index.0),
                term: Some(self.id.term.0),
            }),
        }
    }

    /// The plain form.
    #[must_use]
    pub fn from_pb(pb: raftpb::Snapshot) -> RaftSnapshot {
        let metadata = pb.metadata.unwrap_or_default();
        RaftSnapshot {
            id: EntryId {
                term: Term(metadata.term.unwrap_or_default()),
                index: Index(metadata.index.unwrap_or_default()),
            },
            conf_state: ConfState::from_pb(metadata.conf_state.unwrap_or_default()),
            data: pb.data.unwrap_or_default(),
        }
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
            Body::Snapshot(snapshot) => pb.snapshot = Some(snapshot.to_pb()),
            Body::Vote { last, transfer } => {
                (pb.log_term, pb.index) = (Some(last.term.0), Some(last.index.0));
                pb.context = transfer.then(|| Bytes::from_static(TRANSFER));
            }
            Body::PreVote { last } => {
                (pb.log_term, pb.index) = (Some(last.term.0), Some(last.index.0));
            }
            Body::VoteResponse { granted } | Body::PreVoteResponse { granted } => {
                pb.reject = Some(!granted);
            }
            Body::Heartbeat { commit, context: bytes } => {
                (pb.commit, pb.context) = (Some(commit.0), context(bytes));
            }
            Body::HeartbeatResponse { context: bytes } => pb.context = context(bytes),
            Body::TransferLeader | Body::TimeoutNow => {}
            Body::ReadIndex { context: bytes } => pb.entries = read(bytes),
            Body::ReadIndexResponse { index, context: bytes } => {
                (pb.index, pb.entries) = (Some(index.0), read(bytes));
            }
            Body::Stored { last, snapshot } => {
                let last = last.unwrap_or_default();
                (pb.log_term, pb.index) = (Some(last.term.0), Some(last.index.0));
                pb.snapshot = snapshot.as_ref().map(|snapshot| snapshot.to_pb());
            }
        }
        pb
    }

    /// The plain form of a message that a peer sent.
    ///
    /// # Errors
    /// When it is of a kind that peers do not send, or lacks a part.
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
            MessageType::MsgSnap => {
                let snapshot = pb.snapshot.ok_or_else(|| bad("MsgSnap without it".into()))?;
                Body::Snapshot(Box::new(RaftSnapshot::from_pb(snapshot)))
            }
            MessageType::MsgVote => Body::Vote { last: log, transfer: context == TRANSFER },
            MessageType::MsgVoteResp => Body::VoteResponse { granted: !rejected },
            MessageType::MsgPreVote => Body::PreVote { last: log },
            MessageType::MsgPreVoteResp => Body::PreVoteResponse { granted: !rejected },
            MessageType::MsgHeartbeat => Body::Heartbeat { commit, context },
            MessageType::MsgHeartbeatResp => Body::HeartbeatResponse { context },
            MessageType::MsgTransferLeader => Body::TransferLeader,
            MessageType::MsgTimeoutNow => Body::TimeoutNow,
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
            other => return Err(bad(format!("{} is not for members", other.as_str_name()))),
        };
        let to = NodeId(pb.to.unwrap_or_default());
        Ok(Message { from, to, term: Term(pb.term.unwrap_or_default()), body })
    }
}
