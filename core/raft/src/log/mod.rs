//! The part of the raft log that is in memory, with the indexes up to which it is handed out for
//! writing, durable, committed and applied. Not here: files, and the choice of what is read back
//! from them.
//!
//! Source: etcd raft v3.7 log.go, log_unstable.go.

mod append;
mod applying;
mod check;
mod durable;
mod size;
#[cfg(test)]
mod tests;

pub(crate) use size::{in_a_row, memory};

use crate::config::{RaftLimits, Restored};
use crate::error::Error;
use crate::message::RaftSnapshot;
use applying::Applying;
use proto::{Entry, EntryId, Index, Term};
use size::encoded_len;
use std::collections::VecDeque;

/// A snapshot that replaced the log and is not durable yet.
#[derive(Debug)]
struct Pending {
    snapshot: RaftSnapshot,
    handed_out: bool,
}

/// The raft log.
///
/// The window holds the entries `base.index + 1 ..= last_index`, without a gap and with terms that
/// never decrease. Older entries were released; only the id of the last of them is kept.
///
/// - *Invariant:* applied ≤ applying ≤ committed ≤ last, and base ≤ applied unless a snapshot is
///   pending.
/// - *Invariant:* base ≤ persisted ≤ handed ≤ last.
/// - *Invariant:* the entries up to `persisted` are on disk with the same terms as here, and no
///   write in flight can change them. See `durable.rs` for the reason.
/// - *Invariant:* committed entries are never overwritten.
#[derive(Debug)]
pub(crate) struct RaftLog {
    base: EntryId,
    window: VecDeque<Entry>,
    /// The memory of the window in bytes, as [`memory`] counts it.
    bytes: usize,
    bytes_max: usize,
    /// The most bytes of one batch for applying.
    batch_bytes_max: usize,
    /// True if entries are applied before they are durable here.
    applies_unpersisted: bool,
    handed: Index,
    persisted: Index,
    committed: Index,
    applying: Applying,
    applied: Index,
    pending: Option<Pending>,
}

impl RaftLog {
    /// Creates the log from its stored state, all of which is durable.
    ///
    /// # Errors
    /// If the entries do not follow the snapshot without a gap, or an index is outside of the log.
    pub(crate) fn new(
        restored: Restored,
        limits: &RaftLimits,
        applies_unpersisted: bool,
    ) -> Result<RaftLog, Error> {
        let Restored { hard_state, snapshot: base, entries, applied, .. } = restored;
        let bad = |why: String| Err(Error::Restored(why));
        if let Err(why) = in_a_row(base, &entries) {
            return bad(why);
        }
        let last = entries.last().map_or(base, Entry::id).index;
        // A commit index is stored with the next batch, so the applied index of the database and
        // the index of a snapshot may be above it.
        let committed = hard_state.commit.max(applied).max(base.index);
        if committed > last {
            return bad(format!("the commit or applied index {committed} is past the log, {last}"));
        }
        if applied < base.index {
            let begins = base.index;
            return bad(format!("the log begins behind {begins}, but only {applied} is applied"));
        }
        let mut log = RaftLog {
            base,
            bytes: entries.iter().map(memory).sum(),
            window: entries.into(),
            bytes_max: limits.log_window_bytes_max,
            batch_bytes_max: limits.committed_bytes_max,
            applies_unpersisted,
            handed: last,
            persisted: last,
            committed,
            applying: Applying::new(applied, limits.applying_bytes_max),
            applied,
            pending: None,
        };
        log.shrink();
        Ok(log)
    }

    pub(crate) fn committed(&self) -> Index {
        self.committed
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    pub(crate) fn last(&self) -> EntryId {
        self.window.back().map_or(self.base, Entry::id)
    }

    /// The first entry in memory.
    pub(crate) fn first_index(&self) -> Index {
        self.base.index.next()
    }

    /// The memory of the window in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of an entry; `None` if it was released or does not exist.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.window.get(self.position(index)?).map(|entry| entry.term)
    }

    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// True if a log that ends with `last` is at least as up-to-date as this one.
    pub(crate) fn is_up_to_date(&self, last: EntryId) -> bool {
        // The derived order of `EntryId` is the rule of thesis §3.6.1: first term, then index.
        last >= self.last()
    }

    /// The last entry of this log that a log with `term` at `index` may contain: the highest index up
    /// to `index` whose term is at most `term`. The term is 0 if the entry was released.
    pub(crate) fn conflict_by_term(&self, mut index: Index, term: Term) -> EntryId {
        while index > Index(0) {
            match self.term(index) {
                None => return EntryId { term: Term(0), index },
                Some(ours) if ours <= term => return EntryId { term: ours, index },
                Some(_) => index.0 -= 1,
            }
        }
        EntryId::default()
    }

    /// Raises the commit index; never lowers it.
    pub(crate) fn commit_to(&mut self, index: Index) {
        if index > self.committed {
            assert!(index <= self.last().index, "the commit index is within the log");
            self.committed = index;
        }
    }

    /// The last index that may be handed out for applying.
    fn applicable(&self) -> Index {
        if self.applies_unpersisted {
            return self.committed;
        }
        self.committed.min(self.persisted)
    }

    pub(crate) fn has_applicable(&self) -> bool {
        // While a snapshot is pending, nothing is applied: the entries after it follow it.
        self.pending.is_none()
            && !self.applying.is_full()
            && self.applying.index < self.applicable()
    }

    /// Hands out committed entries in order, at least one if there is any.
    pub(crate) fn take_applicable(&mut self) -> Vec<Entry> {
        if !self.has_applicable() {
            return Vec::new();
        }
        let room = self.applying.room().min(self.batch_bytes_max);
        let entries = self.slice(self.applying.index.next(), self.applicable(), room);
        self.applying.hand_out(&entries);
        entries
    }

    /// Records that the entries up to `index` have been applied. Returns the bytes of data of the
    /// batches that are now applied.
    pub(crate) fn applied_to(&mut self, index: Index) -> usize {
        assert!(
            index <= self.applying.index,
            "entries are applied after they were handed out: {index}, handed out {}",
            self.applying.index
        );
        // A snapshot may already have raised it above `index`.
        self.applied = self.applied.max(index);
        let data_bytes = self.applying.applied_to(index);
        self.shrink();
        data_bytes
    }

    /// Releases the entries up to `index`, except those that are not applied or not durable.
    pub(crate) fn release(&mut self, index: Index) {
        let end = index.min(self.applied).min(self.persisted);
        while self.window.front().is_some_and(|entry| entry.index <= end) {
            self.release_first();
        }
    }

    /// Releases applied and durable entries until the window is within its limit.
    fn shrink(&mut self) {
        let end = self.applied.min(self.persisted);
        while self.bytes > self.bytes_max
            && self.window.front().is_some_and(|entry| entry.index <= end)
        {
            self.release_first();
        }
    }

    fn release_first(&mut self) {
        if let Some(entry) = self.window.pop_front() {
            self.bytes -= memory(&entry);
            self.base = entry.id();
        }
    }

    /// The entries `first ..= last`, up to `bytes_max` encoded bytes but at least one if there is
    /// any. Their data is shared, not copied.
    pub(crate) fn slice(&self, first: Index, last: Index, bytes_max: usize) -> Vec<Entry> {
        let Some(start) = self.position(first) else { return Vec::new() };
        let length = usize::try_from((last.0 + 1).saturating_sub(first.0)).unwrap_or(usize::MAX);
        let candidates = self.window.iter().skip(start).take(length);
        let mut entries = Vec::with_capacity(length.min(self.window.len() - start));
        let mut bytes = 0_usize;
        for entry in candidates {
            bytes = bytes.saturating_add(encoded_len(entry));
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// The position of an index in the window.
    fn position(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        usize::try_from(offset).ok().filter(|position| *position < self.window.len())
    }

    /// True if a committed entry that is not applied satisfies `is`.
    pub(crate) fn any_unapplied(&self, is: impl Fn(&Entry) -> bool) -> bool {
        self.window
            .iter()
            .skip_while(|entry| entry.index <= self.applied)
            .take_while(|entry| entry.index <= self.committed)
            .any(is)
    }
}
