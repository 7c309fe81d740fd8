//! The checks that a proposer makes before a membership change, so that the change does not lose
//! the quorum. Other members do not make them: a committed change is applied.
//!
//! | change | started voters | connected voters |
//! |---|---|---|
//! | add a voter | a quorum of the voters with the new one; a single voter may always grow | a quorum of the voters with the new one; one voter is enough if there is only one |
//! | add a learner | | the same |
//! | remove a voter | a quorum of those that remain | one more than a quorum of those that remain, unless the member is not reached anyway |
//! | remove a learner | | |
//! | promote a learner | a quorum of the voters with the learner, which counts as started | |
//!
//! A member is started when it has published its name, and connected when it has been reached for
//! longer than [`HEALTH_INTERVAL`]. The proposer itself is connected.
//!
//! Source: etcd v3.7 server/etcdserver/server.go (`mayAddMember`, `mayRemoveMember`,
//! `mayPromoteMember`, `isLearnerReady`), util.go, api/membership/cluster.go (`IsReadyTo…`).

use crate::change::Cluster;
use crate::member::Member;
use proto::{Index, NodeId};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A member that has been reached for longer than this counts as connected.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// A learner can be promoted once its log has this many tenths of the leader's log.
const LEARNER_READY_TENTHS: u128 = 9;

/// Why a change is not proposed. The texts and gRPC codes are in `rpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsafeChange {
    /// Fewer members than a quorum would be started.
    NotEnoughStarted,
    /// This member has not been connected to enough voters.
    Unhealthy,
    /// The learner's log is too far behind.
    LearnerNotReady,
}

impl fmt::Display for UnsafeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnsafeChange::NotEnoughStarted => {
                "etcdserver: re-configuration failed due to not enough started members"
            }
            UnsafeChange::Unhealthy => "etcdserver: unhealthy cluster",
            UnsafeChange::LearnerNotReady => {
                "etcdserver: can only promote a learner member which is in sync with leader"
            }
        })
    }
}

impl std::error::Error for UnsafeChange {}

/// The members that the proposer reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The proposer.
    pub own: NodeId,
    /// The other members that are reached, and for how long without a failure.
    pub others: BTreeMap<NodeId, Duration>,
}

impl Reach {
    /// Whether this member has been reached for longer than `time`.
    #[must_use]
    pub fn is_connected(&self, member: NodeId, time: Duration) -> bool {
        member == self.own || self.others.get(&member).is_some_and(|reached| *reached > time)
    }

    fn connected(&self, cluster: &Cluster) -> usize {
        let voters = cluster.voters();
        voters.filter(|voter| self.is_connected(voter.id, HEALTH_INTERVAL)).count()
    }
}

/// The smallest majority.
fn quorum(members: usize) -> usize {
    members / 2 + 1
}

impl Cluster {
    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// Checks that a member can be added.
    ///
    /// # Errors
    /// `NotEnoughStarted`, `Unhealthy`.
    pub fn check_add(&self, as_learner: bool, reach: &Reach) -> Result<(), UnsafeChange> {
        let voters = self.voters().count();
        let started = self.voters().filter(|voter| voter.is_started()).count();
        let is_alone = started == 1 && voters == 1;
        if !as_learner && !is_alone && started < quorum(voters + 1) {
            return Err(UnsafeChange::NotEnoughStarted);
        }
        if voters != 1 && reach.connected(self) < quorum(voters + 1) {
            return Err(UnsafeChange::Unhealthy);
        }
        Ok(())
    }

    /// Checks that a member can be removed. There need not be such a member.
    ///
    /// # Errors
    /// `NotEnoughStarted`, `Unhealthy`.
    pub fn check_remove(&self, id: NodeId, reach: &Reach) -> Result<(), UnsafeChange> {
        if self.member(id).is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        let remaining = || self.voters().filter(|voter| voter.id != id);
        let started = remaining().filter(|voter| voter.is_started()).count();
        if started < quorum(remaining().count()) {
            return Err(UnsafeChange::NotEnoughStarted);
        }
        if id != reach.own && !reach.others.contains_key(&id) {
            return Ok(());
        }
        // etcd counts all voters, including the one to be removed, and one less of the connected
        // ones.
        let others = self.voters().count().saturating_sub(1);
        if reach.connected(self) <= quorum(others) {
            return Err(UnsafeChange::Unhealthy);
        }
        Ok(())
    }

    /// Checks that a learner can become a voter.
    ///
    /// # Errors
    /// `NotEnoughStarted`.
    pub fn check_promote(&self) -> Result<(), UnsafeChange> {
        let started = self.voters().filter(|voter| voter.is_started()).count();
        if started + 1 < quorum(self.voters().count() + 1) {
            return Err(UnsafeChange::NotEnoughStarted);
        }
        Ok(())
    }
}

/// Checks that a learner has most of the leader's log. Both indexes are of durable entries.
///
/// # Errors
/// `LearnerNotReady`.
pub fn check_in_sync(learner: Index, leader: Index) -> Result<(), UnsafeChange> {
    if u128::from(learner.0) * 10 < u128::from(leader.0) * LEARNER_READY_TENTHS {
        return Err(UnsafeChange::LearnerNotReady);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
