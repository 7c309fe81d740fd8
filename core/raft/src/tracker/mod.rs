//! Who is in the cluster, and what the leader knows of each: the configuration, one [`Progress`]
//! for each member, and the votes of the current election. Not here: how a configuration changes
//! (`confchange`).
//!
//! Source: etcd raft v3.7 tracker/tracker.go.

mod inflights;
mod progress;

pub use inflights::Inflights;
pub use progress::{Progress, ProgressState};

use crate::quorum::{Acked, Joint, Majority, VoteResult};
use proto::{ConfState, Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Who votes and who only listens.
///
/// - *Invariant:* nobody is a voter, of either half, and a learner at once.
/// - *Invariant:* `learners_next` is a part of the outgoing voters, so it is empty outside a joint
///   configuration; so is `auto_leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The voters.
    pub voters: Joint,
    /// Those that receive the log and do not vote.
    pub learners: BTreeSet<NodeId>,
    /// Voters of the outgoing half that become learners when the joint configuration is left;
    /// until then they still vote, so they cannot be learners yet.
    pub learners_next: BTreeSet<NodeId>,
    /// Whether the leader leaves the joint configuration by itself once it is applied.
    pub auto_leave: bool,
}

impl Config {
    /// The form that is stored.
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

    /// Whether there is one voter only, so that what it has written is committed.
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

/// What the leader knows of each member.
pub type ProgressMap = BTreeMap<NodeId, Progress>;

/// The text of a map, one line for each member.
#[must_use]
pub fn describe(progress: &ProgressMap) -> String {
    progress.iter().map(|(id, progress)| format!("{id}: {progress}\n")).collect()
}

/// The configuration with what is known of its members.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    /// The configuration.
    pub config: Config,
    /// One for each voter and learner.
    pub progress: ProgressMap,
    /// The votes of the current election; the first of a voter counts.
    pub votes: BTreeMap<NodeId, bool>,
    /// How many appends may be on their way to one member.
    pub inflight_max: usize,
}

struct Matched<'a>(&'a ProgressMap);

impl Acked for Matched<'_> {
    fn acked(&self, voter: NodeId) -> Option<Index> {
        self.0.get(&voter).map(|progress| progress.matched)
    }
}

impl Tracker {
    /// A tracker of nobody.
    #[must_use]
    pub fn new(inflight_max: usize) -> Tracker {
        Tracker { inflight_max, ..Tracker::default() }
    }

    /// The highest index that a quorum of voters holds durably.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.config.voters.committed(&Matched(&self.progress))
    }

    /// Counts a vote; a second one of the same voter changes nothing.
    pub fn record_vote(&mut self, voter: NodeId, granted: bool) {
        self.votes.entry(voter).or_insert(granted);
    }

    /// How many granted and refused, and what that means. The numbers are for people: they leave
    /// out who is not a voter, as the result does.
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
