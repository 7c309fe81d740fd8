//! The responses to appends.
//!
//! Source: etcd raft v3.7 raft.go (stepLeader, MsgAppResp).

use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use proto::{EntryId, Index, NodeId, Term};

impl Node {
    /// Handles a response that a member's log agrees with this one up to `index`. The leader itself
    /// also responds, once its own entries are durable.
    pub(crate) fn handle_append_accepted(&mut self, from: NodeId, index: Index) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&from) else { return };
        progress.recent_active = true;
        let advanced = progress.maybe_update(index);
        let confirms_probe = progress.matched == index && progress.state == ProgressState::Probe;
        if !advanced && !confirms_probe {
            return;
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            ProgressState::Replicate => progress.inflights.free_to(index),
            ProgressState::Snapshot => {
                // With the log file, the leader has entries before the first one in memory.
                let has_next = progress.matched.next() >= self.log.first_index();
                let covers = progress.matched >= progress.pending_snapshot;
                if has_next || (covers && self.config.rules.reads_log) {
                    tracing::debug!(
                        "{:x} recovered from needing snapshot, resumed sending replication messages to {from:x} [{progress}]",
                        self.config.id
                    );
                    progress.become_probe();
                    progress.become_replicate();
                }
            }
        }
        let behind_in_commit = progress.can_bump_commit(self.log.committed());
        let is_own = from == self.config.id;
        if self.advance_commit() {
            self.release_reads();
        } else if behind_in_commit && !is_own {
            self.send_append(from, true);
        }
        if !is_own {
            // There may be room for several appends now.
            while self.send_append(from, false) {}
            self.continue_transfer(from);
        }
    }

    /// Handles a response that a member's log does not contain the entry before those that were
    /// sent.
    pub(crate) fn handle_append_rejected(&mut self, from: NodeId, index: Index, hint: EntryId) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&from) else { return };
        progress.recent_active = true;
        let id = self.config.id;
        tracing::debug!(
            "{id:x} received MsgAppResp(rejected, hint: (index {}, term {})) from {from:x} for index {index}",
            hint.index,
            hint.term
        );
        // The member's log contains no entry with a term above the hint's. Skip all of them at once.
        let probe = if hint.term > Term(0) {
            self.log.conflict_by_term(hint.index, hint.term).index
        } else {
            hint.index
        };
        if progress.maybe_decrement(index, probe) {
            tracing::debug!("{id:x} decreased progress of {from:x} to [{progress}]");
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            self.send_append(from, true);
        }
    }
}
