//! The part of the raft log that is in memory, with the indexes up to which it is written, durable,
//! committed and applied. Not here: files. Entries are handed out for writing, and
//! [`RaftLog::durable`] reports finished writes.
//!
//! Source: etcd raft v3.7 log.go, log_unstable.go.

#[cfg(test)]
mod tests;

use crate::error::Error;
use proto::{Entry, EntryId, Index, Term};
use std::collections::VecDeque;

/// Entries that were handed out for writing.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    first: Index,
}

/// The raft log.
///
/// The window holds the entries `base.index + 1 ..= last_index`, without a gap and with terms that
/// never decrease. Older entries were released; only the id of the last of them is kept.
///
/// - *Invariant:* base ≤ applied ≤ applying ≤ committed ≤ last, and applying ≤ persisted: only
///   entries that are durable here are applied.
/// - *Invariant:* base ≤ persisted ≤ handed ≤ last, and no write in flight begins at or below
///   `persisted`. So the entries up to `persisted` are on disk with the same terms as here, and no
///   write in flight can change them. A finished write of entries that were overwritten meanwhile
///   therefore does not count, even if the same entries were appended again (A, then B, then A: the
///   write of B may still be in flight).
/// - *Invariant:* committed entries are never overwritten.
#[derive(Debug)]
pub(crate) struct RaftLog {
    base: EntryId,
    window: VecDeque<Entry>,
    /// The memory of the window in bytes, as [`memory`] counts it.
    bytes: usize,
    bytes_max: usize,
    handed: Index,
    writes: VecDeque<Write>,
    persisted: Index,
    committed: Index,
    applying: Index,
    applied: Index,
}

/// The commit and applied index of the stored log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progressed {
    pub(crate) committed: Index,
    pub(crate) applied: Index,
}

impl RaftLog {
    /// The stored log. All of it is durable.
    ///
    /// # Errors
    /// If the entries do not follow `base` without a gap, or an index is outside of the log.
    pub(crate) fn new(
        base: EntryId,
        entries: Vec<Entry>,
        at: Progressed,
        bytes_max: usize,
    ) -> Result<RaftLog, Error> {
        let bad = |why: String| Err(Error::Restored(why));
        if let Err(why) = in_a_row(base, &entries) {
            return bad(why);
        }
        let last = entries.last().map_or(base, Entry::id).index;
        // A commit index is stored with the next batch, so the applied index of the database and
        // the index of a snapshot may be above it.
        let committed = at.committed.max(at.applied).max(base.index);
        if committed > last {
            return bad(format!("the commit or applied index {committed} is past the log, {last}"));
        }
        if at.applied < base.index {
            return bad(format!(
                "the log begins behind {}, but only {} is applied",
                base.index, at.applied
            ));
        }
        let mut log = RaftLog {
            base,
            bytes: entries.iter().map(memory).sum(),
            window: entries.into(),
            bytes_max,
            handed: last,
            writes: VecDeque::new(),
            persisted: last,
            committed,
            applying: at.applied,
            applied: at.applied,
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
    /// If an entry conflicts with a committed one; nothing is changed then.
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
        while self.window.back().is_some_and(|entry| entry.index >= first) {
            if let Some(entry) = self.window.pop_back() {
                self.bytes -= memory(&entry);
            }
        }
        let before = Index(first.0 - 1);
        self.handed = self.handed.min(before);
        self.persisted = self.persisted.min(before);
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

    /// True if there are entries that were not handed out for writing yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed < self.last().index
    }

    /// Hands out the entries to write, as write `number`. Numbers must ascend.
    pub(crate) fn take_unwritten(&mut self, number: u64) -> Vec<Entry> {
        if !self.has_unwritten() {
            return Vec::new();
        }
        let first = self.handed.next();
        self.writes.push_back(Write { number, first });
        self.handed = self.last().index;
        self.slice(first, self.handed, usize::MAX)
    }

    /// All writes up to `number` are durable. Entries that were overwritten meanwhile do not count.
    pub(crate) fn durable(&mut self, number: u64) {
        while self.writes.front().is_some_and(|write| write.number <= number) {
            self.writes.pop_front();
        }
        let touched = self.writes.iter().map(|write| Index(write.first.0 - 1)).min();
        let reached = touched.map_or(self.handed, |before| before.min(self.handed));
        self.persisted = self.persisted.max(reached);
    }

    /// The last index that may be handed out for applying.
    fn applicable(&self) -> Index {
        self.committed.min(self.persisted)
    }

    pub(crate) fn has_applicable(&self) -> bool {
        self.applying < self.applicable()
    }

    /// Hands out committed and durable entries in order, at least one if there is any.
    pub(crate) fn take_applicable(&mut self, bytes_max: usize) -> Vec<Entry> {
        let entries = self.slice(self.applying.next(), self.applicable(), bytes_max);
        self.applying = entries.last().map_or(self.applying, |entry| entry.index);
        entries
    }

    /// The entries up to `index` have been applied.
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(
            self.applied <= index && index <= self.applying,
            "entries are applied in order, after they were handed out: {} then {index}, handed out {}",
            self.applied,
            self.applying
        );
        self.applied = index;
        self.shrink();
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

    /// The entries `first ..= last`, up to `bytes_max` encoded bytes but at least one if there is any.
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

    /// Checks the invariants of [`RaftLog`].
    pub(crate) fn check(&self) {
        let entries: Vec<Entry> = self.window.iter().cloned().collect();
        in_a_row(self.base, &entries).unwrap_or_else(|why| panic!("the window has no gap: {why}"));
        let last = self.last().index;
        let RaftLog { base, handed, persisted, committed, applying, applied, .. } = self;
        assert!(
            base.index <= *applied && applied <= applying && applying <= committed,
            "base ≤ applied ≤ applying ≤ committed: {self:?}"
        );
        assert!(*committed <= last, "committed ≤ last: {self:?}");
        assert!(applying <= persisted, "only durable entries are applied: {self:?}");
        assert!(
            base.index <= *persisted && persisted <= handed && *handed <= last,
            "base ≤ persisted ≤ handed ≤ last: {self:?}"
        );
        assert!(
            self.writes.iter().all(|write| write.first > *persisted),
            "no write in flight contains a persisted index: {self:?}"
        );
        assert!(
            self.writes.iter().zip(self.writes.iter().skip(1)).all(|(a, b)| a.number < b.number),
            "writes are numbered in order: {self:?}"
        );
        let bytes: usize = self.window.iter().map(memory).sum();
        assert_eq!(bytes, self.bytes, "the memory of the window is counted");
    }
}

/// Checks that the entries follow `base` without a gap, and that terms never decrease.
pub(crate) fn in_a_row(base: EntryId, entries: &[Entry]) -> Result<(), String> {
    let mut last = base;
    for entry in entries {
        let id = entry.id();
        if last.index.0.checked_add(1) != Some(id.index.0) || id.term < last.term {
            return Err(format!(
                "entry {}/{} does not follow {}/{}",
                id.term, id.index, last.term, last.index
            ));
        }
        last = id;
    }
    Ok(())
}

/// The memory of an entry in bytes. Its data may be part of a larger shared buffer.
pub(crate) fn memory(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.data.len()
}

/// The length of an encoded entry in bytes, to which etcd's limits apply.
fn encoded_len(entry: &Entry) -> usize {
    let varint = prost::encoding::encoded_len_varint;
    let fixed = 4 + varint(entry.term.0) + varint(entry.index.0);
    let length = entry.data.len();
    if length == 0 { fixed } else { fixed + 1 + varint(length as u64) + length }
}
