//! What raft stores, as plain types: the generated messages of `raftpb` have a presence bit for
//! each number, since etcd up to 3.6 always writes zeros and 3.7 leaves them out. Readers here
//! take both; writers write every number, as etcd up to 3.6 does.

use crate::ids::{EntryId, Index, NodeId, Term};
use crate::raftpb;
use bytes::Bytes;
use prost::Message as _;
use std::fmt;

/// Bytes that are not the raft message they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftDecodeError {
    /// What was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for RaftDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: {}", self.what, self.why)
    }
}

impl std::error::Error for RaftDecodeError {}

/// What an entry's data is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A request, or nothing for the first entry of a leader.
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
    /// Its position.
    pub index: Index,
    /// What the data is.
    pub kind: EntryKind,
    /// An encoded request or configuration change.
    pub data: Bytes,
}

impl Entry {
    /// Term and index together.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    /// The message that is stored and sent. An entry without data has no data field.
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
    /// When the type is not one that raft knows.
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
    /// When the bytes are not an entry.
    pub fn decode(bytes: Bytes) -> Result<Entry, RaftDecodeError> {
        Entry::from_pb(decode("entry", bytes)?)
    }
}

/// What a member must remember of raft besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Whom this member voted for in that term.
    pub vote: NodeId,
    /// The highest index known to be committed.
    pub commit: Index,
}

impl HardState {
    /// The message that is stored.
    #[must_use]
    pub fn to_pb(self) -> raftpb::HardState {
        raftpb::HardState {
            term: Some(self.term.0),
            vote: Some(self.vote.0),
            commit: Some(self.commit.0),
        }
    }

    /// # Errors
    /// When the bytes are not a hard state.
    pub fn decode(bytes: Bytes) -> Result<HardState, RaftDecodeError> {
        let pb: raftpb::HardState = decode("hard state", bytes)?;
        Ok(HardState {
            term: Term(pb.term.unwrap_or_default()),
            vote: NodeId(pb.vote.unwrap_or_default()),
            commit: Index(pb.commit.unwrap_or_default()),
        })
    }

    /// True before anything was ever decided.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == HardState::default()
    }
}

/// Who votes and who only listens. `voters_outgoing` is empty outside a joint configuration.
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
    /// Whether the joint configuration is left as soon as it is applied.
    pub auto_leave: bool,
}

impl ConfState {
    /// The message that is stored and sent.
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

    /// The plain form of a message.
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

/// One change of one member, as etcd puts it into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// The request that waits for it; 0 at bootstrap.
    pub id: u64,
    /// What changes.
    pub kind: raftpb::ConfChangeType,
    /// Whom it concerns; nobody for a change that was found invalid when applied.
    pub node: NodeId,
    /// The member as JSON.
    pub context: Bytes,
}

impl ConfChange {
    /// The bytes of the entry.
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
    /// When the bytes are not a configuration change.
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
    fn an_entry_without_zeros_reads_the_same() {
        let entry = Entry { term: Term(1), index: Index(2), ..Entry::default() };
        assert_eq!(Entry::decode(Bytes::from_static(&[16, 1, 24, 2])), Ok(entry));
    }

    #[test]
    fn an_unknown_entry_type_is_refused() {
        assert!(Entry::decode(Bytes::from_static(&[8, 9])).is_err());
    }
}
