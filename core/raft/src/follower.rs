//! A follower's handling of its leader's messages.
//!
//! Source: etcd raft v3.7 raft.go (handleAppendEntries, handleHeartbeat); thesis §3.5.

use crate::error::Error;
use crate::message::Body;
use crate::node::Node;
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
            self.send_when_durable(from, Body::AppendAccepted { index });
            return Ok(());
        }
        let accepted = self.log.accept(prev, entries).map_err(|what| Error::Peer { from, what })?;
        if let Some(index) = accepted {
            self.log.commit_to(commit.min(index));
            self.send_when_durable(from, Body::AppendAccepted { index });
            return Ok(());
        }
        let hint = self.log.conflict_by_term(prev.index.min(self.log.last().index), prev.term);
        tracing::debug!(
            "{:x} rejected MsgApp [logterm: {}, index: {}] from {from:x}",
            self.config.id,
            prev.term,
            prev.index
        );
        self.send_when_durable(from, Body::AppendRejected { index: prev.index, hint });
        Ok(())
    }

    pub(crate) fn handle_heartbeat(
        &mut self,
        from: NodeId,
        commit: Index,
        context: Bytes,
    ) -> Result<(), Error> {
        self.log.commit_to(commit);
        self.send(from, Body::HeartbeatResponse { context });
        Ok(())
    }
}
