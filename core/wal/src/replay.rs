//! Replays the records of a log in order (etcd server/storage/wal/wal.go @ v3.7.1 `ReadAll`).
//! Stricter than etcd where the crc gives no protection: it does not cover the type of a record, so
//! a record whose content does not fit its type is refused.

use crate::error::Error;
use crate::metadata::{Metadata, SnapshotRecord};
use crate::record::{Record, RecordKind};
use crate::recovered::OpenAt;
use crate::segment::Frame;
use bytes::Bytes;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::collections::VecDeque;
use std::path::Path;

/// The state after the records read so far.
#[derive(Debug)]
pub(crate) struct Replay {
    at: OpenAt,
    pub(crate) metadata: Option<(Metadata, Bytes)>,
    pub(crate) state: HardState,
    /// The hard state before the last state record.
    state_before: HardState,
    /// The entry before the first of `entries`.
    pub(crate) before: EntryId,
    pub(crate) entries: VecDeque<Entry>,
    entries_bytes: u64,
    pub(crate) snapshot_found: bool,
    /// The term of the newest entry at the snapshot's index, if there was one.
    snapshot_term: Option<Term>,
    /// The index of the last entry, or of the last snapshot if it is later.
    pub(crate) last_index: Index,
    /// The number of records in the current segment.
    pub(crate) segment_records: u64,
}

impl Replay {
    pub(crate) fn new(at: OpenAt) -> Replay {
        Replay {
            at,
            metadata: None,
            state: HardState::default(),
            state_before: HardState::default(),
            before: at.snapshot,
            entries: VecDeque::new(),
            entries_bytes: 0,
            snapshot_found: false,
            snapshot_term: None,
            last_index: Index(0),
            segment_records: 0,
        }
    }

    /// The number of records that every writer syncs before a segment gets its name.
    pub(crate) fn head_records(seq: u64) -> u64 {
        if seq == 0 { 3 } else { 2 }
    }

    pub(crate) fn frame(&mut self, frame: &Frame, seq: u64, path: &Path) -> Result<(), Error> {
        self.record(&frame.record, seq).map_err(|what| Error::corrupt(path, frame.offset, what))?;
        self.segment_records += 1;
        Ok(())
    }

    fn record(&mut self, record: &Record, seq: u64) -> Result<(), String> {
        let expected = match self.segment_records {
            0 => Some(RecordKind::Crc),
            1 => Some(RecordKind::Metadata),
            2 if seq == 0 => Some(RecordKind::Snapshot),
            _ => None,
        };
        if expected.is_some_and(|expected| expected != record.kind) {
            return Err(format!("a {:?} record instead of {expected:?}", record.kind));
        }
        match record.kind {
            RecordKind::Crc => Ok(()),
            RecordKind::Metadata => self.on_metadata(&record.data),
            RecordKind::Entry => self.on_entry(&record.data),
            RecordKind::State => self.on_state(&record.data),
            RecordKind::Snapshot => self.on_snapshot(&record.data),
        }
    }

    fn on_metadata(&mut self, data: &Bytes) -> Result<(), String> {
        match &self.metadata {
            Some((_, first)) if first != data => {
                Err("the metadata differs from that of the first segment".to_owned())
            }
            Some(_) => Ok(()),
            None => {
                self.metadata = Some((Metadata::decode(data)?, data.clone()));
                Ok(())
            }
        }
    }

    fn on_entry(&mut self, data: &Bytes) -> Result<(), String> {
        let entry = Entry::decode(data.clone()).map_err(|error| error.to_string())?;
        if entry.kind != EntryKind::Normal && entry.data.is_empty() {
            return Err("a configuration change without content".to_owned());
        }
        let index = entry.index;
        // A record without data has the same crc whatever its type is.
        if index == Index(0) {
            return Err("an entry without an index".to_owned());
        }
        self.last_index = index;
        if index > self.at.snapshot.index {
            return self.keep(entry);
        }
        if self.before != self.at.snapshot {
            return Err(format!("entry {index} replaces one that was applied"));
        }
        // An entry replaces all entries after it. (etcd does not do this here, and may restore
        // entries that another leader had replaced.)
        self.entries.clear();
        self.entries_bytes = 0;
        let at_snapshot = index == self.at.snapshot.index;
        self.snapshot_term = if at_snapshot { Some(entry.term) } else { None };
        Ok(())
    }

    fn keep(&mut self, entry: Entry) -> Result<(), String> {
        let index = entry.index;
        let kept = index.0.checked_sub(self.before.index.0 + 1);
        let Some(slot) = kept.and_then(|slot| usize::try_from(slot).ok()) else {
            return Err(format!("entry {index} replaces one that was applied"));
        };
        if slot > self.entries.len() {
            let last = self.before.index.0 + self.entries.len() as u64;
            return Err(format!("entry {index} follows entry {last}"));
        }
        for replaced in self.entries.drain(slot..) {
            self.entries_bytes -= replaced.data.len() as u64;
        }
        // Entries written before the snapshot record may have been replaced by the snapshot.
        let first = if self.snapshot_found { self.before.term } else { Term(0) };
        let last = self.entries.back().map_or(first, |last| last.term);
        if entry.term < last {
            return Err(format!("entry {index} of term {} follows term {last}", entry.term));
        }
        self.entries_bytes += entry.data.len() as u64;
        self.entries.push_back(entry);
        self.forget_old();
        Ok(())
    }

    /// Removes the oldest applied entries that exceed the limit of the caller.
    fn forget_old(&mut self) {
        while self.entries_bytes > self.at.applied_bytes_max
            && let Some(first) = self.entries.front()
            && first.index <= self.at.db_applied
        {
            self.before = first.id();
            self.entries_bytes -= first.data.len() as u64;
            self.entries.pop_front();
        }
    }

    fn on_state(&mut self, data: &Bytes) -> Result<(), String> {
        let state = decode_state(data)?;
        if state.term < self.state.term || state.commit < self.state.commit {
            return Err(format!(
                "a hard state with a lower term or commit index, term {}",
                state.term
            ));
        }
        self.state_before = std::mem::replace(&mut self.state, state);
        Ok(())
    }

    /// Drops the last state record.
    pub(crate) fn forget_last_state(&mut self) {
        self.state = self.state_before;
    }

    /// The last hard state of the log, with at least the term of the last entry. A crash can keep an
    /// entry and lose the state record of the same batch. No vote was given in the entry's term then,
    /// since a vote is synced before it is sent.
    pub(crate) fn hard_state(&self) -> HardState {
        let term = self.entries.back().map_or(self.state.term, |last| last.term);
        if term > self.state.term {
            return HardState { term, vote: NodeId::NONE, ..self.state };
        }
        self.state
    }

    fn on_snapshot(&mut self, data: &Bytes) -> Result<(), String> {
        let snapshot = SnapshotRecord::decode(data)?;
        if snapshot.id.index == self.at.snapshot.index {
            if snapshot.id.term != self.at.snapshot.term {
                let term = snapshot.id.term;
                return Err(format!("its record of the snapshot has term {term}"));
            }
            self.snapshot_found = true;
            // A snapshot from another member replaces a log that does not contain its last entry.
            if self.snapshot_term.is_some_and(|term| term != snapshot.id.term)
                || self.last_index < snapshot.id.index
            {
                self.entries.clear();
                self.entries_bytes = 0;
            }
        }
        self.last_index = self.last_index.max(snapshot.id.index);
        Ok(())
    }
}

/// Decodes a hard state, and refuses the bytes of an entry.
pub(crate) fn decode_state(data: &Bytes) -> Result<HardState, String> {
    let state = HardState::decode(data.clone()).map_err(|error| error.to_string())?;
    let longest = 3 * 11;
    let entry_like = data.len() > longest || (state.term == Term(0) && !state.is_empty());
    if entry_like { Err("not a hard state".to_owned()) } else { Ok(state) }
}
