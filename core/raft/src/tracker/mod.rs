//! The configuration, the leader's knowledge of each member's log ([`Progress`]), and the votes of
//! the current election. Not here: configuration changes (`confchange`).
//!
//! Source: etcd raft v3.7 tracker/tracker.go.

mod inflights;
mod progress;

pub use inflights::{InflightLimits, Inflights};
pub use progress::{Progress, ProgressState};

use crate::quorum::{Acked, Joint, Majority, VoteResult};
use proto::{ConfState, Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The voters and learners.
///
/// - *Invariant:* no member is a voter of either half and a learner.
/// - *Invariant:* `learners_next` is a subset of the outgoing voters. Outside a joint configuration
///   it is empty, and `auto_leave` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The voters.
    pub voters: Joint,
    /// The members that receive the log but do not vote.
    pub learners: BTreeSet<NodeId>,
    /// Voters of the outgoing half that become learners when the joint configuration is left. Until
    /// then they still vote.
    pub learners_next: BTreeSet<NodeId>,
    /// True if the leader leaves the joint configuration automatically once it is applied.
    pub auto_leave: bool,
}

impl Config {
    /// The stored form.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.to_vec(),
            learners: self.learners.iter().copied().collect(),
            voters_outgoing: self.voters.outgoing.to_vec(),
            learners_next: self.learners_next.iter().copied().collect(),
            auto_leave: self.auto_leave,
        }
    }

    /// True if there is a single voter, whose durable entries are committed.
    #[must_use]
    pub fn is_singleton(&self) -> bool {
        self.voters.incoming.0.len() == 1 && !self.voters.is_joint()
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", self.voters)?;
        if !self.learners.is_empty() {
            write!(f, " learners={}", Majority(self.learners.clone()))?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", Majority(self.learners_next.clone()))?;
        }
        if self.auto_leave {
            f.write_str(" autoleave")?;
        }
        Ok(())
    }
}

/// The progress of each member.
pub type ProgressMap = BTreeMap<NodeId, Progress>;

/// The text of a map, one line for each member.
#[must_use]
pub fn describe(progress: &ProgressMap) -> String {
    progress.iter().map(|(id, progress)| format!("{id}: {progress}\n")).collect()
}

/// The configuration with the progress and votes of its members.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    /// The configuration.
    pub config: Config,
    /// One for each voter and learner.
    pub progress: ProgressMap,
    /// The votes of the current election. The first vote of a voter counts.
    pub votes: BTreeMap<NodeId, bool>,
    /// The limits on the appends in flight to one member.
    pub inflight: InflightLimits,
}

struct Matched<'a>(&'a ProgressMap);

impl Acked for Matched<'_> {
    fn acked(&self, voter: NodeId) -> Option<Index> {
        self.0.get(&voter).map(|progress| progress.matched)
    }
}

impl Tracker {
    /// A tracker without members.
    #[must_use]
    pub fn new(inflight: InflightLimits) -> Tracker {
        Tracker { inflight, ..Tracker::default() }
    }

    /// The highest index that a quorum of voters holds durably.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.config.voters.committed(&Matched(&self.progress))
    }

    /// True if a quorum of voters responded recently.
    #[must_use]
    pub fn is_quorum_active(&self) -> bool {
        let active = self
            .progress
            .iter()
            .filter(|(_, progress)| !progress.is_learner)
            .map(|(id, progress)| (*id, progress.recent_active))
            .collect();
        self.config.voters.vote_result(&active) == VoteResult::Won
    }

    /// Records a vote. A second vote of the same voter is ignored.
    pub fn record_vote(&mut self, voter: NodeId, granted: bool) {
        self.votes.entry(voter).or_insert(granted);
    }

    /// The numbers of granted and refused votes, and the result. All of them ignore members that are
    /// not voters.
    #[must_use]
    pub fn tally(&self) -> (usize, usize, VoteResult) {
        let count = |wanted: bool| {
            self.progress
                .iter()
                .filter(|(id, progress)| {
                    !progress.is_learner && self.votes.get(id) == Some(&wanted)
                })
                .count()
        };
        (count(true), count(false), self.config.voters.vote_result(&self.votes))
    }
}
