//! Heartbeats and their answers.
//!
//! Source: etcd raft v3.7 raft.go (sendHeartbeat, stepLeader, MsgHeartbeatResp).

use crate::message::Body;
use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use bytes::Bytes;
use proto::NodeId;

impl Node {
    /// Tells all members that this one leads; with the newest read that waits, if one does.
    pub(crate) fn broadcast_heartbeat(&mut self) {
        let context = self.reads.heartbeat_context();
        let committed = self.log.committed();
        for member in self.tracker.progress.keys().copied().collect::<Vec<_>>() {
            if member == self.config.id {
                continue;
            }
            let Some(progress) = self.tracker.progress.get_mut(&member) else { continue };
            // The member may not have what is committed: it hears only of what it is known to have.
            let commit = progress.matched.min(committed);
            progress.sent_commit = commit;
            self.send(member, Body::Heartbeat { commit, context: context.clone() });
        }
    }

    /// A member is alive: it may get what it lacks, and its answer may confirm a read.
    pub(crate) fn handle_heartbeat_response(&mut self, from: NodeId, context: &Bytes) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&from) else { return };
        progress.recent_active = true;
        progress.paused = false;
        let lacks = progress.matched < self.log.last().index;
        if lacks || progress.state == ProgressState::Probe {
            self.send_append(from, true);
        }
        self.reads.acknowledge(from, context);
        self.advance_reads();
    }
}
