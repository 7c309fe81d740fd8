//! A follower's handling of its leader's messages.
//!
//! Source: etcd raft v3.7 raft.go (handleAppendEntries, handleHeartbeat, handleSnapshot, restore,
//! MsgForgetLeader); thesis §3.5, §5.

use crate::confchange;
use crate::config::ReadMode;
use crate::error::Error;
use crate::message::{Body, RaftSnapshot};
use crate::node::Node;
use crate::output::Role;
use bytes::Bytes;
use proto::{Entry, EntryId, Index, NodeId};

impl Node {
    /// Appends the leader's entries. The response is sent once they are durable.
    pub(crate) fn handle_append(
        &mut self,
        from: NodeId,
        prev: EntryId,
        entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), Error> {
        if prev.index < self.log.committed() {
            // An old append. Committed entries agree with the log of every later leader.
            let index = self.log.committed();
            self.send_after_write(from, Body::AppendAccepted { index });
            return Ok(());
        }
        let accepted = self.log.accept(prev, entries).map_err(|what| Error::Peer { from, what })?;
        if let Some(index) = accepted {
            self.log.commit_to(commit.min(index));
            self.send_after_write(from, Body::AppendAccepted { index });
            return Ok(());
        }
        tracing::debug!(
            "{:x} [logterm: {}, index: {}] rejected MsgApp [logterm: {}, index: {}] from {from:x}",
            self.config.id,
            self.log.term(prev.index).unwrap_or_default(),
            prev.index,
            prev.term,
            prev.index
        );
        let hint = self.log.conflict_by_term(prev.index.min(self.log.last().index), prev.term);
        self.send_after_write(from, Body::AppendRejected { index: prev.index, hint });
        Ok(())
    }

    pub(crate) fn handle_heartbeat(&mut self, from: NodeId, commit: Index, context: Bytes) {
        self.log.commit_to(commit);
        // This promises nothing, so it need not wait for a write.
        self.send(from, Body::HeartbeatResponse { context });
    }

    /// Replaces the log by a snapshot, unless the log has its last entry.
    pub(crate) fn handle_snapshot(&mut self, from: NodeId, snapshot: RaftSnapshot) {
        let EntryId { term, index } = snapshot.id;
        let restored = self.restore(snapshot);
        let done = if restored { "restored" } else { "ignored" };
        tracing::info!(
            "{:x} [commit: {}] {done} snapshot [index: {index}, term: {term}]",
            self.config.id,
            self.log.committed()
        );
        let index = if restored { self.log.last().index } else { self.log.committed() };
        self.send_after_write(from, Body::AppendAccepted { index });
    }

    fn restore(&mut self, snapshot: RaftSnapshot) -> bool {
        let (me, id) = (self.config.id, snapshot.id);
        if id.index <= self.log.committed() {
            return false;
        }
        let conf_state = &snapshot.conf_state;
        if !snapshot.has_member(me) {
            tracing::warn!(
                "{me:x} attempted to restore snapshot but it is not in the ConfState {conf_state:?}; should never happen"
            );
            return false;
        }
        let last = self.log.last();
        if self.log.matches(id) {
            // The log contains the last entry of the snapshot, and maybe more.
            tracing::info!(
                "{me:x} [commit: {}, lastindex: {}, lastterm: {}] fast-forwarded commit to snapshot [index: {}, term: {}]",
                self.log.committed(),
                last.index,
                last.term,
                id.index,
                id.term
            );
            self.log.commit_to(id.index);
            return false;
        }
        let inflight = self.config.limits.inflight;
        let configured = match confchange::restore(conf_state, id.index, inflight) {
            Ok(configured) => configured,
            Err(why) => unreachable!("the configuration was checked: {why}"),
        };
        self.log.restore(snapshot);
        self.switch_to(configured);
        let last = self.log.last();
        tracing::info!(
            "{me:x} [commit: {}, lastindex: {}, lastterm: {}] restored snapshot [index: {}, term: {}]",
            self.log.committed(),
            last.index,
            last.term,
            id.index,
            id.term
        );
        true
    }

    /// Forgets the leader, so that this member may vote for another one before the election timeout
    /// has passed. Does nothing on a leader or a candidate, nor with leases, which it would break.
    pub fn forget_leader(&mut self) {
        if self.role != Role::Follower {
            return;
        }
        if self.config.rules.read_mode == ReadMode::Lease {
            tracing::error!("ignoring MsgForgetLeader due to ReadOnlyLeaseBased");
            return;
        }
        if self.leader != NodeId::NONE {
            tracing::info!(
                "{:x} forgetting leader {:x} at term {}",
                self.config.id,
                self.leader,
                self.term
            );
            self.leader = NodeId::NONE;
        }
    }
}
