//! Heartbeats and their responses.
//!
//! Source: etcd raft v3.7 raft.go (sendHeartbeat, stepLeader, MsgHeartbeatResp).

use crate::message::Body;
use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use bytes::Bytes;
use proto::NodeId;

impl Node {
    /// Sends a heartbeat to all members, with the position of the newest waiting read.
    pub(crate) fn broadcast_heartbeat(&mut self) {
        let context = self.reads.heartbeat_context();
        let committed = self.log.committed();
        for member in self.tracker.progress.keys().copied().collect::<Vec<_>>() {
            if member == self.config.id {
                continue;
            }
            let Some(progress) = self.tracker.progress.get_mut(&member) else { continue };
            // The member may not have all committed entries, so the commit index is limited to the
            // last entry that it is known to have.
            let commit = progress.matched.min(committed);
            progress.sent_commit = commit;
            self.send(member, Body::Heartbeat { commit, context: context.clone() });
        }
    }

    /// Sends missing entries to the member, and confirms reads.
    pub(crate) fn handle_heartbeat_response(&mut self, from: NodeId, context: &Bytes) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&from) else { return };
        progress.recent_active = true;
        progress.paused = false;
        let has_missing = progress.matched < self.log.last().index;
        if has_missing || progress.state == ProgressState::Probe {
            self.send_append(from, true);
        }
        self.reads.acknowledge(from, context);
        self.advance_reads();
    }
}
