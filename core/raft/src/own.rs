//! The messages of a member to itself, which report that its own write is durable.
//!
//! Source: etcd raft v3.7 raft.go (MsgStorageAppendResp).

use crate::error::Error;
use crate::message::{Body, Message, OWN_LOG, RaftSnapshot};
use crate::node::Node;
use proto::EntryId;

impl Node {
    /// Takes back a message of [`crate::LogWrite::after`] that is for this member itself. The
    /// write, and all writes before it, are durable.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`] if this member was removed from the configuration meanwhile.
    ///
    /// # Panics
    /// If it is another member's message.
    pub fn step_own(&mut self, message: Message) -> Result<(), Error> {
        let (id, from) = (self.config.id, message.from);
        assert!(
            message.to == id && (from == id || from == OWN_LOG),
            "only a message to this member itself is taken back"
        );
        if from == id && !self.tracker.progress.contains_key(&id) {
            return Err(Error::UnknownPeer { from });
        }
        if !self.take_term(&message) {
            return Ok(());
        }
        if let Body::Stored { last, snapshot } = message.body {
            self.stored(last, snapshot.as_deref());
            return Ok(());
        }
        self.dispatch(message)
    }

    fn stored(&mut self, last: Option<EntryId>, snapshot: Option<&RaftSnapshot>) {
        if let Some(last) = last {
            self.log.durable(last);
        }
        self.snapshot_stored(snapshot);
    }

    /// Handles the report of a write of an earlier term. Its entries may have been overwritten, but
    /// its snapshot is still valid.
    pub(crate) fn stored_in_earlier_term(&mut self, message: &Message) {
        let Body::Stored { last, snapshot } = &message.body else { return };
        if last.is_some() {
            tracing::info!(
                "{:x} [term: {}] ignored entry appends from a {} message with lower term [term: {}]",
                self.config.id,
                self.term,
                message.body.name(),
                message.term
            );
        }
        self.snapshot_stored(snapshot.as_deref());
    }

    fn snapshot_stored(&mut self, snapshot: Option<&RaftSnapshot>) {
        if let Some(snapshot) = snapshot {
            self.log.snapshot_durable(snapshot.id.index);
            self.leave_joint_if_due();
        }
    }
}
