//! Stored raft messages as plain types. The generated `raftpb` messages have an `Option` for each
//! number, because etcd up to 3.6 writes zeros and 3.7 leaves them out. Decoding accepts both;
//! encoding writes every number, as etcd up to 3.6 does.

use crate::ids::{EntryId, Index, NodeId, Term};
use crate::raftpb;
use bytes::Bytes;
use prost::Message as _;
use std::fmt;

/// Bytes that cannot be decoded as the expected raft message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftDecodeError {
    /// The expected message.
    pub what: &'static str,
    /// The reason.
    pub why: String,
}

impl fmt::Display for RaftDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: {}", self.what, self.why)
    }
}

impl std::error::Error for RaftDecodeError {}

/// The type of an entry's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A request. Empty in the first entry of a leader.
    #[default]
    Normal,
    /// A [`ConfChange`].
    ConfChange,
    /// A `raftpb.ConfChangeV2`; etcd never writes one.
    ConfChangeV2,
}

/// An entry of the raft log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader appended it.
    pub term: Term,
    /// Its position in the log.
    pub index: Index,
    /// The type of `data`.
    pub kind: EntryKind,
    /// An encoded request or configuration change.
    pub data: Bytes,
}

impl Entry {
    /// The term and the index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    /// The protobuf message. Empty data is left out.
    #[must_use]
    pub fn to_pb(&self) -> raftpb::Entry {
        let kind = match self.kind {
            EntryKind::Normal => raftpb::EntryType::EntryNormal,
            EntryKind::ConfChange => raftpb::EntryType::EntryConfChange,
            EntryKind::ConfChangeV2 => raftpb::EntryType::EntryConfChangeV2,
        };
        raftpb::Entry {
            r#type: Some(kind.into()),
            term: Some(self.term.0),
            index: Some(self.index.0),
            data: (!self.data.is_empty()).then(|| self.data.clone()),
        }
    }

    /// # Errors
    /// If the type is unknown.
    pub fn from_pb(pb: raftpb::Entry) -> Result<Entry, RaftDecodeError> {
        let kind = match raftpb::EntryType::try_from(pb.r#type.unwrap_or_default()) {
            Ok(raftpb::EntryType::EntryNormal) => EntryKind::Normal,
            Ok(raftpb::EntryType::EntryConfChange) => EntryKind::ConfChange,
            Ok(raftpb::EntryType::EntryConfChangeV2) => EntryKind::ConfChangeV2,
            Err(unknown) => {
                return Err(RaftDecodeError { what: "entry", why: unknown.to_string() });
            }
        };
        Ok(Entry {
            term: Term(pb.term.unwrap_or_default()),
            index: Index(pb.index.unwrap_or_default()),
            kind,
            data: pb.data.unwrap_or_default(),
        })
    }

    /// # Errors
    /// If the bytes cannot be decoded.
    pub fn decode(bytes: Bytes) -> Result<Entry, RaftDecodeError> {
        Entry::from_pb(decode("entry", bytes)?)
    }
}

/// The raft state that is stored besides the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// The member that got this member's vote in that term.
    pub vote: NodeId,
    /// The highest index known to be committed.
    pub commit: Index,
}

impl HardState {
    /// The protobuf message.
    #[must_use]
    pub fn to_pb(self) -> raftpb::HardState {
        raftpb::HardState {
            term: Some(self.term.0),
            vote: Some(self.vote.0),
            commit: Some(self.commit.0),
        }
    }

    /// # Errors
    /// If the bytes cannot be decoded.
    pub fn decode(bytes: Bytes) -> Result<HardState, RaftDecodeError> {
        let pb: raftpb::HardState = decode("hard state", bytes)?;
        Ok(HardState {
            term: Term(pb.term.unwrap_or_default()),
            vote: NodeId(pb.vote.unwrap_or_default()),
            commit: Index(pb.commit.unwrap_or_default()),
        })
    }

    /// True for the zero value.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == HardState::default()
    }
}

/// The voters and learners. `voters_outgoing` is empty outside a joint configuration.
///
/// Invariant: the lists are sorted and without duplicates when they come from `raft`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// The voters (of the incoming configuration, if joint).
    pub voters: Vec<NodeId>,
    /// The learners.
    pub learners: Vec<NodeId>,
    /// The voters of the outgoing configuration.
    pub voters_outgoing: Vec<NodeId>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: Vec<NodeId>,
    /// True if the leader leaves the joint configuration once it is applied.
    pub auto_leave: bool,
}

impl ConfState {
    /// The protobuf message.
    #[must_use]
    pub fn to_pb(&self) -> raftpb::ConfState {
        let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
        raftpb::ConfState {
            voters: numbers(&self.voters),
            learners: numbers(&self.learners),
            voters_outgoing: numbers(&self.voters_outgoing),
            learners_next: numbers(&self.learners_next),
            auto_leave: Some(self.auto_leave),
        }
    }

    /// Converts a protobuf message.
    #[must_use]
    pub fn from_pb(pb: raftpb::ConfState) -> ConfState {
        let ids = |numbers: Vec<u64>| numbers.into_iter().map(NodeId).collect();
        ConfState {
            voters: ids(pb.voters),
            learners: ids(pb.learners),
            voters_outgoing: ids(pb.voters_outgoing),
            learners_next: ids(pb.learners_next),
            auto_leave: pb.auto_leave.unwrap_or_default(),
        }
    }
}

/// A change of one member, as etcd writes it to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// The id of the request that waits for it; 0 at bootstrap.
    pub id: u64,
    /// The type of the change.
    pub kind: raftpb::ConfChangeType,
    /// The member; [`NodeId::NONE`] for a change that was found invalid when it was applied.
    pub node: NodeId,
    /// The member as JSON.
    pub context: Bytes,
}

impl ConfChange {
    /// The data of the entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let pb = raftpb::ConfChange {
            id: Some(self.id),
            r#type: Some(self.kind.into()),
            node_id: Some(self.node.0),
            context: (!self.context.is_empty()).then(|| self.context.clone()),
        };
        pb.encode_to_vec().into()
    }

    /// # Errors
    /// If the bytes cannot be decoded.
    pub fn decode(bytes: Bytes) -> Result<ConfChange, RaftDecodeError> {
        const WHAT: &str = "configuration change";
        let pb: raftpb::ConfChange = decode(WHAT, bytes)?;
        let kind = raftpb::ConfChangeType::try_from(pb.r#type.unwrap_or_default())
            .map_err(|unknown| RaftDecodeError { what: WHAT, why: unknown.to_string() })?;
        Ok(ConfChange {
            id: pb.id.unwrap_or_default(),
            kind,
            node: NodeId(pb.node_id.unwrap_or_default()),
            context: pb.context.unwrap_or_default(),
        })
    }
}

fn decode<M: prost::Message + Default>(
    what: &'static str,
    bytes: Bytes,
) -> Result<M, RaftDecodeError> {
    M::decode(bytes).map_err(|error| RaftDecodeError { what, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_as_etcd_up_to_3_6_writes_them() {
        let entry = Entry { term: Term(1), index: Index(2), ..Entry::default() };
        assert_eq!(entry.to_pb().encode_to_vec(), [8, 0, 16, 1, 24, 2]);
        assert_eq!(HardState::default().to_pb().encode_to_vec(), [8, 0, 16, 0, 24, 0]);
        assert_eq!(ConfState::default().to_pb().encode_to_vec(), [0x28, 0]);
    }

    #[test]
    fn an_entry_without_zeros_is_decoded_alike() {
        let entry = Entry { term: Term(1), index: Index(2), ..Entry::default() };
        assert_eq!(Entry::decode(Bytes::from_static(&[16, 1, 24, 2])), Ok(entry));
    }

    #[test]
    fn an_unknown_entry_type_is_refused() {
        assert!(Entry::decode(Bytes::from_static(&[8, 9])).is_err());
    }
}
