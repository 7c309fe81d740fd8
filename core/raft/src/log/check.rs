//! The check of the invariants of [`RaftLog`].

use super::RaftLog;
use super::size::{in_a_row, memory};
use proto::{Entry, Index};

impl RaftLog {
    /// Checks the invariants of [`RaftLog`].
    pub(crate) fn check(&self) {
        in_a_row(self.base, &self.window)
            .unwrap_or_else(|why| panic!("the window has no gap: {why}"));
        let last = self.last().index;
        let RaftLog { base, handed, persisted, committed, applied, .. } = self;
        let applying = self.applying.index;
        assert!(
            *applied <= applying && applying <= *committed && *committed <= last,
            "applied ≤ applying ≤ committed ≤ last: {self:?}"
        );
        assert!(
            self.pending.is_some() || base.index <= *applied,
            "only applied entries are released: {self:?}"
        );
        assert!(
            self.applies_unpersisted || applying <= *persisted,
            "only durable entries are applied: {self:?}"
        );
        assert!(
            base.index <= *persisted && persisted <= handed && *handed <= last,
            "base ≤ persisted ≤ handed ≤ last: {self:?}"
        );
        let bytes: usize = self.window.iter().map(memory).sum();
        assert_eq!(bytes, self.bytes, "the memory of the window is counted");
    }

    /// The entries in memory from `first` on.
    pub(crate) fn in_memory(&self, first: Index) -> impl Iterator<Item = &Entry> {
        let released = first.0.saturating_sub(self.first_index().0);
        let count = usize::try_from(released).unwrap_or(usize::MAX).min(self.window.len());
        self.window.range(count..)
    }
}
