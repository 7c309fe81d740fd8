//! What the records of a log mean, read in their order (etcd server/storage/wal/wal.go @ v3.7.1
//! `ReadAll`). Stricter than etcd where the crc does not reach: a record's type lies outside of
//! it, so what a wrong type would make is refused by its content.

use crate::error::Error;
use crate::metadata::{Metadata, SnapshotRecord};
use crate::record::{Record, RecordKind};
use crate::recovered::OpenAt;
use crate::segment::Frame;
use bytes::Bytes;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::collections::VecDeque;
use std::path::Path;

/// What has been read so far.
#[derive(Debug)]
pub(crate) struct Replay {
    at: OpenAt,
    pub(crate) metadata: Option<(Metadata, Bytes)>,
    pub(crate) state: HardState,
    /// The entry before the first of `entries`.
    pub(crate) before: EntryId,
    pub(crate) entries: VecDeque<Entry>,
    entries_bytes: u64,
    pub(crate) snapshot_found: bool,
    /// The term of the newest entry at the snapshot's index, if that was read.
    snapshot_term: Option<Term>,
    /// The last entry written, or the last snapshot's, whichever is later.
    pub(crate) last_index: Index,
    /// Records in the present segment.
    pub(crate) segment_records: u64,
}

impl Replay {
    pub(crate) fn new(at: OpenAt) -> Replay {
        Replay {
            at,
            metadata: None,
            state: HardState::default(),
            before: at.snapshot,
            entries: VecDeque::new(),
            entries_bytes: 0,
            snapshot_found: false,
            snapshot_term: None,
            last_index: Index(0),
            segment_records: 0,
        }
    }

    /// How many records every writer syncs before a segment gets its name.
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
            return Err(format!("a {:?} record where {expected:?} belongs", record.kind));
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
            Some((_, first)) if first != data => Err("metadata of another log".to_owned()),
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
        // The crc of a record without data says nothing of its type.
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
        // Whatever follows an entry is replaced with it. (etcd does not look here, and may bring
        // entries back that another leader had replaced.)
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
        // Entries written before the snapshot may be of a branch that was given up.
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

    /// Entries that were applied are only kept as far as the caller wants them.
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
            return Err(format!("a state that goes back, to term {}", state.term));
        }
        self.state = state;
        Ok(())
    }

    /// The state that the log gives: the last one written, and no older than the last entry. A
    /// crash can keep an entry and lose the state that was written with it; no vote can have been
    /// given in that entry's term then, since a vote is synced before it is given.
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
                return Err(format!("the snapshot has term {term} here"));
            }
            self.snapshot_found = true;
            // A snapshot from another member replaces a log that differs from it.
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

/// A hard state; what an entry's bytes would give is refused.
pub(crate) fn decode_state(data: &Bytes) -> Result<HardState, String> {
    let state = HardState::decode(data.clone()).map_err(|error| error.to_string())?;
    let longest = 3 * 11;
    let entry_like = data.len() > longest || (state.term == Term(0) && !state.is_empty());
    if entry_like { Err("not a hard state".to_owned()) } else { Ok(state) }
}
