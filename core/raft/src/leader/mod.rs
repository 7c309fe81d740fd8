//! The leader: its start and the commit index. The submodules handle the responses to appends,
//! heartbeats, sending, snapshots and the transfer of leadership.
//!
//! Source: etcd raft v3.7 raft.go (becomeLeader, maybeCommit).

mod append_response;
mod heartbeat;
mod replicate;
mod snapshot;
mod transfer;

use crate::node::Node;
use crate::output::Role;
use proto::Entry;

impl Node {
    pub(crate) fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate becomes leader");
        self.reset(self.term);
        self.leader = self.config.id;
        self.role = Role::Leader;
        if let Some(own) = self.tracker.progress.get_mut(&self.config.id) {
            own.become_replicate();
            own.recent_active = true;
        }
        // The log may contain a configuration change that is not applied. Instead of searching for
        // it, no change is accepted until the whole log is applied.
        self.leading.pending_conf_index = self.log.last().index;
        // Entries of earlier terms are committed with an entry of the leader's own term (thesis
        // §6.4).
        let taken = self.append_own(vec![Entry::default()]);
        assert!(taken, "an empty entry is always taken");
        tracing::info!("{:x} became leader at term {}", self.config.id, self.term);
    }

    /// Raises the commit index to the last entry that a quorum holds, if that is an entry of this
    /// term, and sends it to the others. Returns false if the commit index did not change.
    pub(crate) fn advance_commit(&mut self) -> bool {
        let index = self.tracker.committed();
        // An entry of an earlier term may still be overwritten although a quorum holds it (thesis
        // §3.6.2).
        let of_this_term = self.log.term(index) == Some(self.term);
        if index <= self.log.committed() || !of_this_term {
            return false;
        }
        self.log.commit_to(index);
        self.broadcast_append();
        true
    }
}
