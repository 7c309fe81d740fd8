//! The part of the raft log that is in memory, and how far the rest of the world has come with it.
//! Not here: files; what is handed out for writing comes back as a [`RaftLog::durable`].
//!
//! Source: etcd raft v3.7 log.go, log_unstable.go.

#[cfg(test)]
mod tests;

use crate::error::Error;
use proto::{Entry, EntryId, Index, Term};
use std::collections::VecDeque;

/// A run of entries that was handed out for writing.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    first: Index,
}

/// The log.
///
/// The window holds the entries `base.index + 1 ..= last_index`, each directly behind the one
/// before it, with terms that never fall. Older ones have been released: only the identity of the
/// last of them is known.
///
/// - *Invariant:* base ≤ applied ≤ applying ≤ committed ≤ last, and applying ≤ persisted: only what
///   is durable here is applied.
/// - *Invariant:* base ≤ persisted ≤ handed ≤ last, and no write in flight begins at or below
///   `persisted`. So what lies at or below `persisted` is on disk with the term that it has here,
///   and stays there whatever is written next. That is how the completion of a write whose entries
///   were overwritten meanwhile counts for nothing, even if they came back later (A, then B, then
///   A again: the disk may still be about to hold B).
/// - *Invariant:* what is committed is never overwritten.
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

/// How far the stored log had come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progressed {
    pub(crate) committed: Index,
    pub(crate) applied: Index,
}

impl RaftLog {
    /// The log as it was stored: all of it is durable.
    ///
    /// # Errors
    /// When the entries are not in a row behind `base`, or `committed` or `applied` lie outside.
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
        // A commit index is written with the batch that follows it, so the applied index of the
        // database and that of a snapshot may be ahead of it.
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

    /// The term of an entry; nothing if it has been released or does not exist.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.window.get(self.position(index)?).map(|entry| entry.term)
    }

    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// Whether a log that ends with `last` holds all that this one may have committed.
    pub(crate) fn is_up_to_date(&self, last: EntryId) -> bool {
        // The derived order of an identity is the rule of thesis §3.6.1: term first, then index.
        last >= self.last()
    }

    /// Appends a leader's own entries.
    pub(crate) fn append(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut last = self.last();
        for entry in entries {
            assert!(
                entry.index == last.index.next() && entry.term >= last.term,
                "an entry follows the last one in index, and not below it in term: {:?} after {last:?}",
                entry.id()
            );
            last = entry.id();
            self.bytes += memory(&entry);
            self.window.push_back(entry);
        }
    }

    /// Takes over a leader's entries behind `prev`, if the logs agree there: what conflicts is
    /// dropped. Answers the last index that is now known to agree, or nothing.
    ///
    /// # Errors
    /// When the entries contradict what is committed; nothing has changed then.
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
        assert!(first > self.committed, "what is committed is never overwritten");
        while self.window.back().is_some_and(|entry| entry.index >= first) {
            if let Some(entry) = self.window.pop_back() {
                self.bytes -= memory(&entry);
            }
        }
        let before = Index(first.0 - 1);
        self.handed = self.handed.min(before);
        self.persisted = self.persisted.min(before);
    }

    /// Where a log that has `term` at `index` may agree with this one: the highest index not above
    /// it whose term here is not above `term`. The term is 0 when it is not known any more.
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
            assert!(index <= self.last().index, "only entries that are here can be committed");
            self.committed = index;
        }
    }

    /// Whether there are entries to write that were not handed out yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed < self.last().index
    }

    /// Hands out what is to be written, as write `number`. Numbers ascend.
    pub(crate) fn take_unwritten(&mut self, number: u64) -> Vec<Entry> {
        if !self.has_unwritten() {
            return Vec::new();
        }
        let first = self.handed.next();
        self.writes.push_back(Write { number, first });
        self.handed = self.last().index;
        self.slice(first, self.handed, usize::MAX)
    }

    /// All writes up to `number` are on disk. What was overwritten meanwhile does not count.
    pub(crate) fn durable(&mut self, number: u64) {
        while self.writes.front().is_some_and(|write| write.number <= number) {
            self.writes.pop_front();
        }
        let touched = self.writes.iter().map(|write| Index(write.first.0 - 1)).min();
        let reached = touched.map_or(self.handed, |before| before.min(self.handed));
        self.persisted = self.persisted.max(reached);
    }

    /// The last index that may be handed out for applying now.
    fn applicable(&self) -> Index {
        self.committed.min(self.persisted)
    }

    pub(crate) fn has_applicable(&self) -> bool {
        self.applying < self.applicable()
    }

    /// Hands out what is committed and durable, in order, and at least one entry if there is any.
    pub(crate) fn take_applicable(&mut self, bytes_max: usize) -> Vec<Entry> {
        let entries = self.slice(self.applying.next(), self.applicable(), bytes_max);
        self.applying = entries.last().map_or(self.applying, |entry| entry.index);
        entries
    }

    /// Everything up to `index` has been applied.
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

    /// Releases the entries up to `index`; those that are not applied or not durable stay.
    pub(crate) fn release(&mut self, index: Index) {
        let end = index.min(self.applied).min(self.persisted);
        while self.window.front().is_some_and(|entry| entry.index <= end) {
            self.release_first();
        }
    }

    /// Keeps the window within its limit, as far as it may release entries.
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

    /// The entries `first ..= last`, as far as they fit into `bytes_max` when encoded, and at least
    /// one if there is any.
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

    /// The place of an index in the window, if it is in it.
    fn position(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        usize::try_from(offset).ok().filter(|position| *position < self.window.len())
    }

    /// Whether one of the entries that are committed and not applied satisfies `is`.
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
        in_a_row(self.base, &entries).unwrap_or_else(|why| panic!("the window is in a row: {why}"));
        let last = self.last().index;
        let RaftLog { base, handed, persisted, committed, applying, applied, .. } = self;
        assert!(
            base.index <= *applied && applied <= applying && applying <= committed,
            "base ≤ applied ≤ applying ≤ committed: {self:?}"
        );
        assert!(*committed <= last, "committed ≤ last: {self:?}");
        assert!(applying <= persisted, "only what is durable is applied: {self:?}");
        assert!(
            base.index <= *persisted && persisted <= handed && *handed <= last,
            "base ≤ persisted ≤ handed ≤ last: {self:?}"
        );
        assert!(
            self.writes.iter().all(|write| write.first > *persisted),
            "no write in flight touches what is persisted: {self:?}"
        );
        assert!(
            self.writes.iter().zip(self.writes.iter().skip(1)).all(|(a, b)| a.number < b.number),
            "writes are numbered in order: {self:?}"
        );
        let bytes: usize = self.window.iter().map(memory).sum();
        assert_eq!(bytes, self.bytes, "the window's memory is counted");
    }
}

/// Checks that the entries follow `base` and each other, with terms that never fall.
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

/// What an entry costs in memory, in bytes. Its data may share a larger buffer with others.
pub(crate) fn memory(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.data.len()
}

/// The length of an encoded entry in bytes, as etcd's limits count it.
fn encoded_len(entry: &Entry) -> usize {
    let varint = prost::encoding::encoded_len_varint;
    let fixed = 4 + varint(entry.term.0) + varint(entry.index.0);
    let length = entry.data.len();
    if length == 0 { fixed } else { fixed + 1 + varint(length as u64) + length }
}
