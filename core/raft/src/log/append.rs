//! Appends entries: a leader's own entries, and those of another leader, which may overwrite some.

use super::RaftLog;
use super::size::memory;
use proto::{Entry, EntryId, Index};

impl RaftLog {
    /// Appends a leader's own entries.
    pub(crate) fn append(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut last = self.last();
        for entry in entries {
            assert!(
                entry.index == last.index.next() && entry.term >= last.term,
                "an entry has the next index and no lower term: {:?} after {last:?}",
                entry.id()
            );
            last = entry.id();
            self.bytes += memory(&entry);
            self.window.push_back(entry);
        }
    }

    /// Appends a leader's entries after `prev` and drops conflicting ones. Returns the last index at
    /// which the logs now agree, or `None` if this log does not contain `prev`.
    ///
    /// # Errors
    /// If an entry conflicts with a committed one. Then nothing is changed.
    pub(crate) fn accept(
        &mut self,
        prev: EntryId,
        entries: Vec<Entry>,
    ) -> Result<Option<Index>, String> {
        if !self.matches(prev) {
            return Ok(None);
        }
        let agreed = entries.last().map_or(prev.index, |entry| entry.index);
        let Some(new) = entries.iter().position(|entry| !self.matches(entry.id())) else {
            return Ok(Some(agreed));
        };
        let first = entries[new].index;
        if first <= self.committed {
            return Err(format!(
                "entry {first} conflicts with committed entry [committed({})]",
                self.committed
            ));
        }
        if first <= self.last().index {
            tracing::info!(
                "found conflict at index {first} [existing term: {}, conflicting term: {}]",
                self.term(first).unwrap_or_default(),
                entries[new].term
            );
            self.drop_from(first);
        }
        self.append(entries.into_iter().skip(new));
        Ok(Some(agreed))
    }

    fn drop_from(&mut self, first: Index) {
        assert!(first > self.committed, "committed entries are never overwritten");
        if first <= self.persisted.next() {
            tracing::info!("replace the unstable entries from index {first}");
        } else {
            tracing::info!("truncate the unstable entries before index {first}");
        }
        while let Some(entry) = self.window.pop_back_if(|entry| entry.index >= first) {
            self.bytes -= memory(&entry);
        }
        let before = Index(first.0 - 1);
        self.handed = self.handed.min(before);
        self.persisted = self.persisted.min(before);
    }
}
