//! Decisions of a group of voters: the highest index that a majority acknowledged, and whether a
//! vote is won. Pure arithmetic on sets of ids, without messages or logs.
//!
//! Source: etcd raft v3.7 quorum/; thesis §3.6.2, §4.3.

mod joint;
mod majority;

pub use joint::Joint;
pub use majority::Majority;

use proto::{Index, NodeId};
use std::collections::BTreeMap;
use std::fmt;

/// The index that each voter has acknowledged. A voter without a response has `None`, which is
/// printed differently from index 0.
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
    /// Neither side has a quorum yet.
    Pending,
    /// A quorum cannot be reached any more.
    Lost,
    /// A quorum granted its votes.
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

/// The committed index of an empty quorum. It makes a joint quorum with one empty half behave like
/// the other half.
pub const EVERYTHING: Index = Index(u64::MAX);
