//! A joint quorum: both majorities must agree while one configuration replaces another.

use super::{Acked, Majority, VoteResult};
use proto::{Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The voters of a configuration. `outgoing` is empty if it is not joint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joint {
    /// The voters, or the new voters of a joint configuration.
    pub incoming: Majority,
    /// The old voters of a joint configuration.
    pub outgoing: Majority,
}

impl Joint {
    /// The highest index that both majorities acknowledged.
    #[must_use]
    pub fn committed(&self, acked: &impl Acked) -> Index {
        self.incoming.committed(acked).min(self.outgoing.committed(acked))
    }

    /// The state of a vote: won if both halves win, lost if one loses.
    #[must_use]
    pub fn vote_result(&self, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
        match (self.incoming.vote_result(votes), self.outgoing.vote_result(votes)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Pending, _) | (_, VoteResult::Pending) => VoteResult::Pending,
        }
    }

    /// The voters of both halves.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.incoming.0.union(&self.outgoing.0).copied().collect()
    }

    /// True if the voter is in either half.
    #[must_use]
    pub fn contains(&self, voter: NodeId) -> bool {
        self.incoming.0.contains(&voter) || self.outgoing.0.contains(&voter)
    }

    /// True if the configuration is joint.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.0.is_empty()
    }

    /// The table of [`Majority::describe`] for the voters of both halves.
    #[must_use]
    pub fn describe(&self, acked: &impl Acked) -> String {
        Majority(self.ids()).describe(acked)
    }
}

impl fmt::Display for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)?;
        if self.is_joint() {
            write!(f, "&&{}", self.outgoing)?;
        }
        Ok(())
    }
}
