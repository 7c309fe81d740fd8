//! Two majorities that must both agree, while one configuration gives way to another.

use super::{Acked, Majority, VoteResult};
use proto::{Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The voters of a configuration. Outside a joint one `outgoing` is empty, and decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joint {
    /// The voters, or those that take over.
    pub incoming: Majority,
    /// Those that give way.
    pub outgoing: Majority,
}

impl Joint {
    /// The highest index that both majorities acknowledged.
    #[must_use]
    pub fn committed(&self, acked: &impl Acked) -> Index {
        self.incoming.committed(acked).min(self.outgoing.committed(acked))
    }

    /// The state of a vote: both must win, and one that loses decides.
    #[must_use]
    pub fn vote_result(&self, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
        match (self.incoming.vote_result(votes), self.outgoing.vote_result(votes)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Pending, _) | (_, VoteResult::Pending) => VoteResult::Pending,
        }
    }

    /// Everybody who votes in either half.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.incoming.0.union(&self.outgoing.0).copied().collect()
    }

    /// Whether this voter is in either half.
    #[must_use]
    pub fn contains(&self, voter: NodeId) -> bool {
        self.incoming.0.contains(&voter) || self.outgoing.0.contains(&voter)
    }

    /// Whether there are two halves.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.0.is_empty()
    }

    /// The table of [`Majority::describe`] for everybody.
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
