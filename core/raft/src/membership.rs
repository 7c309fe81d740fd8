//! Applying committed entries and configuration changes.
//!
//! Source: etcd raft v3.7 raft.go (applyConfChange, switchToConfig, appliedTo).

use crate::confchange::{Changer, ConfChanges, Configured};
use crate::error::Error;
use crate::node::Node;
use crate::output::Role;
use proto::{ConfState, Entry, EntryKind, Index, NodeId};

impl Node {
    /// Applies the change of a committed entry. Must be called for each such entry before
    /// [`Node::applied`] reports it. Pass an invalid change with [`NodeId::NONE`] as its member.
    ///
    /// # Errors
    /// [`Error::ConfChange`] if the change is not possible. Then the member must stop, since
    /// another member may have applied it.
    pub fn apply_conf_change(&mut self, changes: &ConfChanges) -> Result<ConfState, Error> {
        let changer = Changer { tracker: &self.tracker, last_index: self.log.last().index };
        let configured = if changes.leaves_joint() {
            changer.leave_joint()
        } else if let Some(auto_leave) = changes.enters_joint() {
            changer.enter_joint(auto_leave, &changes.changes)
        } else {
            changer.simple(&changes.changes)
        };
        let configured = configured?;
        self.switch_to(configured);
        Ok(self.conf_state())
    }

    pub(crate) fn switch_to(&mut self, (config, progress): Configured) {
        self.tracker.config = config;
        self.tracker.progress = progress;
        tracing::info!("{:x} switched to configuration {}", self.config.id, self.tracker.config);
        if self.role != Role::Leader {
            return;
        }
        if !self.is_promotable() {
            // This leader was removed, or became a learner.
            if self.config.rules.steps_down_on_removal {
                self.become_follower(self.term, NodeId::NONE);
            }
            return;
        }
        // The quorum may be smaller now.
        if self.advance_commit() {
            self.release_reads();
        } else {
            self.send_new_entries();
        }
        self.advance_reads();
        if !self.tracker.config.voters.contains(self.leading.transferee) {
            self.leading.transferee = NodeId::NONE;
        }
    }

    /// Reports that the entries up to `index` have been applied.
    ///
    /// # Panics
    /// If they were not handed out by [`Node::ready`].
    pub fn applied(&mut self, index: Index) {
        let data_bytes = self.log.applied_to(index);
        let uncommitted = self.leading.uncommitted_bytes;
        self.leading.uncommitted_bytes = uncommitted.saturating_sub(data_bytes);
        self.leave_joint_if_due();
    }

    /// Leaves a joint configuration that was entered with `auto_leave`, once it is applied.
    pub(crate) fn leave_joint_if_due(&mut self) {
        let due = self.tracker.config.auto_leave
            && self.role == Role::Leader
            && self.log.applied() >= self.leading.pending_conf_index;
        if !due {
            return;
        }
        let leave = Entry { kind: EntryKind::ConfChangeV2, ..Entry::default() };
        match self.propose_entries(vec![leave]) {
            Ok(_) => tracing::info!(
                "initiating automatic transition out of joint configuration {}",
                self.tracker.config
            ),
            Err(dropped) => tracing::debug!(
                "not initiating automatic transition out of joint configuration {}: {dropped}",
                self.tracker.config
            ),
        }
    }
}
