//! A majority of one set of voters.

use super::{Acked, EVERYTHING, VoteResult};
use proto::{Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// A set of voters that decides by majority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Majority(pub BTreeSet<NodeId>);

impl Majority {
    /// The highest index that a majority acknowledged; [`EVERYTHING`] for the empty set.
    #[must_use]
    pub fn committed(&self, acked: &impl Acked) -> Index {
        // A sole voter is a common case, and needs no allocation.
        if self.0.len() == 1 {
            return self.0.first().and_then(|voter| acked.acked(*voter)).unwrap_or_default();
        }
        let mut indexes: Vec<Index> =
            self.0.iter().map(|voter| acked.acked(*voter).unwrap_or_default()).collect();
        if indexes.is_empty() {
            return EVERYTHING;
        }
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        indexes[indexes.len() / 2]
    }

    /// The state of a vote. The empty set wins every vote.
    #[must_use]
    pub fn vote_result(&self, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
        let quorum = self.quorum();
        let granted = self.0.iter().filter(|voter| votes.get(voter) == Some(&true)).count();
        let missing = self.0.iter().filter(|voter| !votes.contains_key(voter)).count();
        if self.0.is_empty() || granted >= quorum {
            VoteResult::Won
        } else if granted + missing >= quorum {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }

    /// The number of voters in a majority.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// The voters, sorted.
    #[must_use]
    pub fn to_vec(&self) -> Vec<NodeId> {
        self.0.iter().copied().collect()
    }

    /// A table of the acknowledged indexes, one line for each voter, with a bar whose length is
    /// the number of voters behind it.
    #[must_use]
    pub fn describe(&self, acked: &impl Acked) -> String {
        let count = self.0.len();
        if count == 0 {
            return "<empty majority quorum>".into();
        }
        let index = |voter: &NodeId| acked.acked(*voter).unwrap_or_default();
        let mut text = format!("{}    idx\n", " ".repeat(count));
        for voter in &self.0 {
            let own = index(voter);
            let bar = match acked.acked(*voter) {
                None => format!("?{}", " ".repeat(count)),
                Some(_) => {
                    let behind = self.0.iter().filter(|other| index(other) < own).count();
                    format!("{}>{}", "x".repeat(behind), " ".repeat(count - behind))
                }
            };
            writeln!(text, "{bar} {own:>5}    (id={voter:x})", own = own.0)
                .expect("a string takes every write");
        }
        text
    }
}

impl fmt::Display for Majority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('(')?;
        for (at, voter) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{voter:x}")?;
        }
        f.write_char(')')
    }
}

impl FromIterator<NodeId> for Majority {
    fn from_iter<I: IntoIterator<Item = NodeId>>(voters: I) -> Majority {
        Majority(voters.into_iter().collect())
    }
}
