//! The transfer of leadership to another member (thesis §3.10).
//!
//! Source: etcd raft v3.7 raft.go (MsgTransferLeader).

use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use proto::NodeId;

impl Node {
    /// Asks the leader to transfer its leadership to `to`. Does nothing without a leader, or if
    /// `to` is not a voter. A transfer that does not succeed within an election timeout is given
    /// up.
    pub fn transfer_leadership(&mut self, to: NodeId) {
        match self.role {
            Role::Leader => self.start_transfer(to),
            Role::Follower if self.leader != NodeId::NONE => {
                // The sender of this message is the member that shall become leader.
                let request = self.message(self.leader, Body::TransferLeader);
                self.out.outbox.messages.push(Message { from: to, ..request });
            }
            Role::Follower => tracing::info!(
                "{:x} no leader at term {}; dropping leader transfer msg",
                self.config.id,
                self.term
            ),
            Role::Candidate | Role::PreCandidate => {}
        }
    }

    fn start_transfer(&mut self, to: NodeId) {
        let (id, term) = (self.config.id, self.term);
        let Some(progress) = self.tracker.progress.get(&to) else {
            tracing::debug!("{id:x} no progress available for {to:x}");
            return;
        };
        if progress.is_learner {
            tracing::debug!("{id:x} is learner. Ignored transferring leadership");
            return;
        }
        let is_up_to_date = progress.matched == self.log.last().index;
        let before = self.leading.transferee;
        if before == to {
            tracing::info!(
                "{id:x} [term {term}] transfer leadership to {to:x} is in progress, ignores request to same node {to:x}"
            );
            return;
        }
        if before != NodeId::NONE {
            self.leading.transferee = NodeId::NONE;
            tracing::info!(
                "{id:x} [term {term}] abort previous transferring leadership to {before:x}"
            );
        }
        if to == id {
            tracing::debug!("{id:x} is already leader. Ignored transferring leadership to self");
            return;
        }
        tracing::info!("{id:x} [term {term}] starts to transfer leadership to {to:x}");
        // The transfer has one election timeout.
        self.clock.election_elapsed = 0;
        self.leading.transferee = to;
        if is_up_to_date {
            self.send(to, Body::TimeoutNow);
            tracing::info!(
                "{id:x} sends MsgTimeoutNow to {to:x} immediately as {to:x} already has up-to-date log"
            );
        } else {
            self.send_append(to, true);
        }
    }

    /// Called when a member has all entries: if it is the target of a transfer, tells it to
    /// campaign.
    pub(crate) fn continue_transfer(&mut self, to: NodeId) {
        let progress = self.tracker.progress.get(&to);
        let has_all = progress.is_some_and(|known| known.matched == self.log.last().index);
        if to == self.leading.transferee && has_all {
            tracing::info!(
                "{:x} sent MsgTimeoutNow to {to:x} after received MsgAppResp",
                self.config.id
            );
            self.send(to, Body::TimeoutNow);
        }
    }
}
