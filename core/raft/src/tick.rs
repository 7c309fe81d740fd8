//! The passing of time: heartbeats and check-quorum of a leader, elections of the others.
//!
//! Source: etcd raft v3.7 raft.go (tickElection, tickHeartbeat, MsgCheckQuorum).

use crate::node::Node;
use crate::output::Role;
use proto::NodeId;

impl Node {
    /// Advances the time by one tick. A sole voter campaigns at once.
    pub fn tick(&mut self) {
        if self.role == Role::Leader {
            self.tick_leader();
        } else {
            self.tick_election();
        }
    }

    fn tick_election(&mut self) {
        self.clock.election_elapsed += 1;
        let alone = self.tracker.config.is_singleton();
        let campaigns = matches!(self.role, Role::Candidate | Role::PreCandidate);
        let own_vote_under_way = campaigns && !self.tracker.votes.contains_key(&self.config.id);
        let due = self.clock.election_elapsed >= self.clock.timeout
            || (alone && self.role == Role::Follower);
        // A sole voter whose own vote is still being written does not start another election.
        if due && self.is_promotable() && !(alone && own_vote_under_way) {
            self.clock.election_elapsed = 0;
            self.campaign();
        }
    }

    fn tick_leader(&mut self) {
        self.clock.heartbeat_elapsed += 1;
        self.clock.election_elapsed += 1;
        if self.clock.election_elapsed >= self.config.election_ticks {
            self.clock.election_elapsed = 0;
            if self.config.rules.check_quorum {
                self.check_quorum();
            }
            // A transfer that takes this long has failed.
            self.leading.transferee = NodeId::NONE;
        }
        if self.role == Role::Leader && self.clock.heartbeat_elapsed >= self.config.heartbeat_ticks
        {
            self.clock.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Steps down if no quorum has responded since the last check.
    fn check_quorum(&mut self) {
        if !self.tracker.is_quorum_active() {
            tracing::warn!(
                "{:x} stepped down to follower since quorum is not active",
                self.config.id
            );
            self.become_follower(self.term, NodeId::NONE);
        }
        for (id, progress) in &mut self.tracker.progress {
            if *id != self.config.id {
                progress.recent_active = false;
            }
        }
    }
}
