//! What a group of voters has decided: the highest index that a majority acknowledged, and whether
//! a vote is won. Pure arithmetic on sets of ids; nothing here knows of messages or logs.
//!
//! Source: etcd raft v3.7 quorum/; thesis §3.6.2, §4.3.

mod joint;
mod majority;

pub use joint::Joint;
pub use majority::Majority;

use proto::{Index, NodeId};
use std::collections::BTreeMap;
use std::fmt;

/// What each voter has acknowledged. A voter that never answered has nothing, which is not the
/// same as index 0 when it is printed.
pub trait Acked {
    /// The highest index that this voter acknowledged.
    fn acked(&self, voter: NodeId) -> Option<Index>;
}

impl Acked for BTreeMap<NodeId, Index> {
    fn acked(&self, voter: NodeId) -> Option<Index> {
        self.get(&voter).copied()
    }
}

/// The state of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Neither side has its quorum yet.
    Pending,
    /// A quorum cannot be reached any more.
    Lost,
    /// A quorum said yes.
    Won,
}

impl fmt::Display for VoteResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VoteResult::Pending => "VotePending",
            VoteResult::Lost => "VoteLost",
            VoteResult::Won => "VoteWon",
        })
    }
}

/// What an empty quorum has committed: everything. So a joint quorum with one empty half behaves
/// as the other half.
pub const EVERYTHING: Index = Index(u64::MAX);
