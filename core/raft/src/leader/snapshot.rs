//! Snapshots to members that are too far behind, and the reports of the transport.
//!
//! Source: etcd raft v3.7 raft.go (maybeSendSnapshot, MsgSnapStatus, MsgUnreachable).

use crate::message::{Body, RaftSnapshot};
use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use proto::{Index, NodeId};

impl Node {
    pub(crate) fn send_snapshot(&mut self, to: NodeId) -> bool {
        let id = self.config.id;
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return false };
        if !progress.recent_active {
            tracing::debug!("ignore sending snapshot to {to:x} since it is not recently active");
            return false;
        }
        let first_index = self.log.first_index();
        let reads_log = self.config.rules.reads_log;
        let matched = progress.matched;
        let helps = |snapshot: &RaftSnapshot| {
            // The leader must have the entries after the snapshot, and the member must not have
            // more than the snapshot. A member accepts only a snapshot whose configuration contains
            // it.
            snapshot.has_member(to)
                && snapshot.id.index >= matched
                && (reads_log || snapshot.id.index.next() >= first_index)
        };
        let Some(snapshot) = self.newest_snapshot.clone().filter(helps) else {
            self.out.outbox.wants_snapshot = true;
            tracing::debug!(
                "{id:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable"
            );
            return false;
        };
        tracing::debug!(
            "{id:x} [firstindex: {}, commit: {}] sent snapshot[index: {}, term: {}] to {to:x} [{progress}]",
            first_index,
            self.log.committed(),
            snapshot.id.index,
            snapshot.id.term
        );
        progress.become_snapshot(snapshot.id.index);
        tracing::debug!("{id:x} paused sending replication messages to {to:x} [{progress}]");
        self.send(to, Body::Snapshot(Box::new(snapshot)));
        true
    }

    /// Reports whether the transport has delivered a snapshot to a member.
    pub fn report_snapshot(&mut self, to: NodeId, delivered: bool) {
        if self.role != Role::Leader {
            return;
        }
        let id = self.config.id;
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        if !delivered {
            progress.pending_snapshot = Index(0);
        }
        progress.become_probe();
        let done = if delivered { "succeeded" } else { "failed" };
        tracing::debug!(
            "{id:x} snapshot {done}, resumed sending replication messages to {to:x} [{progress}]"
        );
        // Sending continues with the member's response to the snapshot if it was delivered, and
        // with its next response to a heartbeat otherwise.
        progress.paused = true;
    }

    /// Reports that the transport could not send a message to a member.
    pub fn report_unreachable(&mut self, to: NodeId) {
        if self.role != Role::Leader {
            return;
        }
        let id = self.config.id;
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return };
        // The appends in flight may be lost.
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        tracing::debug!(
            "{id:x} failed to send message to {to:x} because it is unreachable [{progress}]"
        );
    }
}
