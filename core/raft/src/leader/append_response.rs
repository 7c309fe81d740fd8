//! The responses to appends.
//!
//! Source: etcd raft v3.7 raft.go (stepLeader, MsgAppResp).

use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use proto::{EntryId, Index, NodeId, Term};

impl Node {
    /// A member's log agrees with this one up to `index`.
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
                if progress.matched.next() >= self.log.first_index() {
                    progress.become_probe();
                    progress.become_replicate();
                }
            }
        }
        let behind_in_commit = progress.can_bump_commit(self.log.committed());
        if self.advance_commit() {
            self.release_reads();
        } else if behind_in_commit {
            self.send_append(from, true);
        }
        // There may be room for several appends now.
        while self.send_append(from, false) {}
    }

    /// A member's log does not contain the entry before those that were sent.
    pub(crate) fn handle_append_rejected(&mut self, from: NodeId, index: Index, hint: EntryId) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&from) else { return };
        progress.recent_active = true;
        tracing::debug!(
            "{:x} received MsgAppResp(rejected, hint: (index {}, term {})) from {from:x} for index {index}",
            self.config.id,
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
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            self.send_append(from, true);
        }
    }
}
