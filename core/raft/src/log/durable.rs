//! Handing out entries and snapshots for writing, and the reports of finished writes.
//!
//! A report names the last entry of the log at the time when the write was handed out, and the
//! term of the node then. It counts only while the node is in that term. Within a term entries are
//! only appended, so a write that is still in flight begins behind the reported entry. After the
//! term has changed, another leader may have overwritten entries, and written the old ones again
//! later (A, then B, then A: the write of B may still be in flight); therefore late reports do not
//! count. The change of the term is itself a write, whose report follows.
//!
//! Source: etcd raft v3.7 rawnode.go (newStorageAppendRespMsg).

use super::{Pending, RaftLog};
use crate::message::RaftSnapshot;
use proto::{Entry, EntryId, Index};

impl RaftLog {
    /// True if there are entries that were not handed out for writing yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed < self.last().index
    }

    /// True if there are entries that are not durable, handed out or not.
    pub(crate) fn has_unpersisted(&self) -> bool {
        self.persisted < self.last().index
    }

    /// Hands out the entries to write.
    pub(crate) fn take_unwritten(&mut self) -> Vec<Entry> {
        let entries = self.slice(self.handed.next(), self.last().index, usize::MAX);
        self.handed = self.last().index;
        entries
    }

    /// Reports that the log up to `id` was written in the current term.
    pub(crate) fn durable(&mut self, id: EntryId) {
        let EntryId { term, index } = id;
        if index <= self.persisted || index > self.last().index {
            let snapshot = self.pending.as_ref().map(|pending| pending.snapshot.id.index);
            if index <= self.persisted && snapshot == Some(index) {
                tracing::info!("entry at index {index} matched unstable snapshot; ignoring");
            } else {
                tracing::info!("entry at index {index} missing from unstable log; ignoring");
            }
        } else if !self.matches(id) {
            let here = self.term(index).unwrap_or_default();
            tracing::info!(
                "entry at (index,term)=({index},{term}) mismatched with entry at ({index},{here}) in unstable log; ignoring"
            );
        } else {
            self.persisted = index;
            self.handed = self.handed.max(index);
            self.shrink();
        }
    }

    /// True if a snapshot is not durable yet, handed out or not.
    pub(crate) fn has_pending_snapshot(&self) -> bool {
        self.pending.is_some()
    }

    /// True if a snapshot was not handed out for writing yet.
    pub(crate) fn has_unwritten_snapshot(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.handed_out)
    }

    /// Hands out the snapshot to write.
    pub(crate) fn take_snapshot(&mut self) -> Option<RaftSnapshot> {
        let pending = self.pending.as_mut().filter(|pending| !pending.handed_out)?;
        pending.handed_out = true;
        Some(pending.snapshot.clone())
    }

    /// Replaces the log by a snapshot.
    pub(crate) fn restore(&mut self, snapshot: RaftSnapshot) {
        let id = snapshot.id;
        assert!(id.index > self.committed, "a snapshot that is restored is ahead of the log");
        tracing::info!(
            "log [committed={}, applied={}, applying={}, unstable.offset={}, unstable.offsetInProgress={}, len(unstable.Entries)={}] starts to restore snapshot [index: {}, term: {}]",
            self.committed,
            self.applied,
            self.applying.index,
            self.persisted.next(),
            self.handed.next(),
            self.last().index.0 - self.persisted.0,
            id.index,
            id.term
        );
        self.window.clear();
        self.bytes = 0;
        self.base = id;
        (self.handed, self.persisted, self.committed) = (id.index, id.index, id.index);
        self.pending = Some(Pending { snapshot, handed_out: false });
    }

    /// Reports that the snapshot at `index` is durable, so that the state machine continues from
    /// it. If a newer snapshot has arrived meanwhile, it continues from this one first, and then from
    /// the newer one, which stays pending.
    pub(crate) fn snapshot_durable(&mut self, index: Index) {
        self.applying.restart(index);
        self.applied = self.applied.max(index);
        if self.pending.as_ref().is_some_and(|pending| pending.snapshot.id.index == index) {
            self.pending = None;
        }
    }
}
