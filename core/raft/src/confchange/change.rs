//! A configuration change of either log format, as one plain type.

use prost::Message as _;
use proto::raftpb::{self, ConfChangeTransition, ConfChangeType};
use proto::{ConfChange, Entry, EntryKind, NodeId, RaftDecodeError};
use std::fmt;

/// The change of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleChange {
    /// The type of the change.
    pub kind: ConfChangeType,
    /// The member; [`NodeId::NONE`] for an invalid change.
    pub node: NodeId,
}

/// Changes that are applied in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChanges {
    /// The use of a joint configuration.
    pub transition: ConfChangeTransition,
    /// The changes; empty to leave the joint configuration.
    pub changes: Vec<SingleChange>,
}

impl ConfChanges {
    /// True if this leaves a joint configuration.
    #[must_use]
    pub fn leaves_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }

    /// `Some` if this enters a joint configuration; the value is true if the leader leaves it
    /// automatically.
    #[must_use]
    pub fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto => (self.changes.len() > 1).then_some(true),
            ConfChangeTransition::JointImplicit => Some(true),
            ConfChangeTransition::JointExplicit => Some(false),
        }
    }

    /// Decodes the change of an entry; `None` for a normal entry.
    ///
    /// # Errors
    /// If the data cannot be decoded.
    pub fn of(entry: &Entry) -> Result<Option<ConfChanges>, RaftDecodeError> {
        match entry.kind {
            EntryKind::Normal => Ok(None),
            EntryKind::ConfChange => {
                ConfChange::decode(entry.data.clone()).map(|change| Some((&change).into()))
            }
            EntryKind::ConfChangeV2 => {
                let bad = |why: String| RaftDecodeError { what: "configuration change", why };
                let pb = raftpb::ConfChangeV2::decode(entry.data.clone())
                    .map_err(|error| bad(error.to_string()))?;
                ConfChanges::try_from(&pb).map(Some)
            }
        }
    }
}

impl From<&ConfChange> for ConfChanges {
    fn from(change: &ConfChange) -> ConfChanges {
        ConfChanges {
            transition: ConfChangeTransition::Auto,
            changes: vec![SingleChange { kind: change.kind, node: change.node }],
        }
    }
}

impl TryFrom<&raftpb::ConfChangeV2> for ConfChanges {
    type Error = RaftDecodeError;

    fn try_from(pb: &raftpb::ConfChangeV2) -> Result<ConfChanges, RaftDecodeError> {
        let bad = |unknown: prost::UnknownEnumValue| RaftDecodeError {
            what: "configuration change",
            why: unknown.to_string(),
        };
        let change = |single: &raftpb::ConfChangeSingle| {
            let kind = ConfChangeType::try_from(single.r#type.unwrap_or_default()).map_err(bad)?;
            Ok(SingleChange { kind, node: NodeId(single.node_id.unwrap_or_default()) })
        };
        Ok(ConfChanges {
            transition: ConfChangeTransition::try_from(pb.transition.unwrap_or_default())
                .map_err(bad)?,
            changes: pb.changes.iter().map(change).collect::<Result<_, _>>()?,
        })
    }
}

/// Go's text of a change, as in its log lines.
impl fmt::Display for ConfChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transition:{}", self.transition.as_str_name())?;
        for SingleChange { kind, node } in &self.changes {
            write!(f, " changes:{{type:{} node_id:{node}}}", kind.as_str_name())?;
        }
        Ok(())
    }
}
