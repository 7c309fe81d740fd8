//! Appending to a log: batches, syncs, cutting segments, purging old ones.
//!
//! Rules, on which `tail.rs` relies to tell a torn tail from damage and `unsynced.rs` to find what
//! may not be durable:
//! - At most one batch is not synced.
//! - A batch is one write. Its last record is a state or snapshot record that carries the offset
//!   at which the batch begins.
//! - A commit index alone is never written; it goes with the next batch.
//! - A segment is synced before its successor is written, and the head of a segment is synced
//!   before the segment gets its name.
//!
//! Only the write and the sync of a batch and the cut to a prepared segment can fail the log. If
//! the next segment cannot be prepared, the present one grows beyond its length; if an old segment
//! cannot be removed, it stays. Both are logged and tried again later.

use crate::error::Error;
use crate::frame::Encoder;
use crate::metadata::{Metadata, SnapshotRecord};
use crate::name::SegmentName;
use crate::places::{Place, Places};
use crate::record::RecordKind;
use crate::walk::{self, OpenSegment};
use prost::Message as _;
use proto::{Entry, EntryId, HardState, Index};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{File, LockKind, Mode, Vfs};

/// After a failure to prepare the next segment, it is tried again when a segment's length divided
/// by this has been written. A failed allocation may use up all free space for a moment, so it is
/// not tried with every batch.
const SPARE_RETRIES_PER_SEGMENT: u64 = 16;

/// A log that can be appended to. If a write or a sync fails, this and every later call fails
/// ([`Error::Poisoned`]): the content of the file is not known then, and the member stops.
#[derive(Debug)]
pub struct Wal {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) metadata: Metadata,
    /// The length in bytes at which a segment is full.
    pub(crate) segment_bytes: u64,
    /// The segments whose locks are held, oldest first. The last one is written.
    pub(crate) segments: VecDeque<OpenSegment>,
    pub(crate) spare: Spare,
    pub(crate) encoder: Encoder,
    /// The newest state given to [`Wal::append`]. The file may lack its commit index.
    pub(crate) state: HardState,
    pub(crate) written: Written,
    pub(crate) places: Places,
    pub(crate) poisoned: bool,
}

/// The next segment, prepared ahead of time: allocated and locked, under a temporary name.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    segment: Option<(PathBuf, Arc<dyn File>)>,
    /// The value of [`Written::total`] at which to try again after a failure.
    retry_at: u64,
}

/// The content of the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// The end of the last frame.
    pub(crate) offset: u64,
    /// The bytes of all frames written since the log was opened.
    pub(crate) total: u64,
    /// The newest state.
    pub(crate) state: HardState,
    /// The index of the last entry, or of the last snapshot if that was written later.
    pub(crate) last_index: Index,
    /// True if the last batch is not synced.
    pub(crate) unsynced: bool,
}

impl Wal {
    /// Writes a batch: the entries, then the state. It is durable after [`Wal::sync`]. If the
    /// batch before is not synced yet, this syncs it first. Without entries and with only a new
    /// commit index, nothing is written; the index goes with the next batch.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn append(&mut self, entries: &[Entry], state: HardState) -> Result<(), Error> {
        self.check()?;
        let votes = |state: HardState| (state.term, state.vote);
        self.state = state;
        if entries.is_empty() && votes(state) == votes(self.written.state) {
            return Ok(());
        }
        self.begin_batch()?;
        let (segment, start) = (self.tail().name, self.written.offset);
        for entry in entries {
            let offset = start + self.encoder.bytes().len() as u64;
            let place = Place { segment, offset, crc: self.encoder.crc() };
            self.places.note(entry.index, place);
            self.encoder.entry(entry);
        }
        let seq = segment.seq;
        let data = state.to_pb().encode_to_vec();
        self.encoder.last_record(RecordKind::State, &data, seq, start);
        self.write_batch()?;
        self.written.state = state;
        if let Some(last) = entries.last() {
            self.written.last_index = last.index;
        }
        Ok(())
    }

    /// Makes the last batch durable with one `fdatasync`. Does nothing if it is durable already.
    ///
    /// # Errors
    /// [`Error::Io`]: the batch may be lost, as a whole or in part. [`Error::Poisoned`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check()?;
        if !self.written.unsynced {
            return Ok(());
        }
        let tail = self.tail();
        let synced = tail.file.sync_data().map_err(Error::io(&tail.path, "sync"));
        self.guard(synced)?;
        self.written.unsynced = false;
        Ok(())
    }

    /// Records a snapshot whose `.snap` file is durable, and a state with at least its commit
    /// index. Both are durable on return.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn save_snapshot(&mut self, snapshot: &SnapshotRecord) -> Result<(), Error> {
        self.check()?;
        self.begin_batch()?;
        let (seq, start) = (self.tail().name.seq, self.written.offset);
        // A snapshot contains committed entries only, and readers ignore a snapshot record with an
        // index above the commit index of the log.
        self.state.commit = self.state.commit.max(snapshot.id.index);
        if self.written.state != self.state {
            self.encoder.record(RecordKind::State, &self.state.to_pb().encode_to_vec());
            self.written.state = self.state;
        }
        self.encoder.last_record(RecordKind::Snapshot, &snapshot.encode(), seq, start);
        self.write_batch()?;
        self.written.last_index = self.written.last_index.max(snapshot.id.index);
        self.sync()
    }

    /// A snapshot of another member has replaced the log: the next entry follows `snapshot`, and
    /// those before are not read back. To be called after its [`Wal::save_snapshot`].
    pub fn follow_snapshot(&mut self, snapshot: EntryId) {
        self.places = Places::after(snapshot);
    }

    /// Cuts a full segment and prepares the next one. To be called after [`Wal::sync`], when the
    /// clients have their answers; otherwise the next batch waits for the cut. A failure to
    /// prepare a segment is logged and tried again later.
    ///
    /// # Errors
    /// [`Error::Io`] if the cut fails. [`Error::Poisoned`].
    pub fn tend(&mut self) -> Result<(), Error> {
        self.check()?;
        self.cut_if_full()?;
        self.prepare_spare();
        Ok(())
    }

    /// Unlocks the segments that have no entry after `index`, so that they may be purged by this
    /// process or another. The segment that may contain `index` itself stays locked.
    pub fn release_to(&mut self, index: Index) {
        while self.segments.get(1).is_some_and(|next| next.name.index < index)
            && let Some(old) = self.segments.pop_front()
        {
            // The lock ends with the file handle in any case.
            old.file.unlock(LockKind::OpenFileDescription).unwrap_or_default();
        }
    }

    /// Removes released segments, oldest first, until `segments_max` segments are left (0: removes
    /// none), and returns their paths. Stops at a segment that another process has locked, and at
    /// one that cannot be removed: that is logged, and the next purge tries again.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn purge(&mut self, segments_max: usize) -> Result<Vec<PathBuf>, Error> {
        self.check()?;
        let mut purged = Vec::new();
        if let Err(error) = self.purge_released(segments_max, &mut purged) {
            tracing::warn!(%error, "failed to purge old WAL segments; trying again later");
        }
        Ok(purged)
    }

    fn purge_released(
        &mut self,
        segments_max: usize,
        purged: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        let names = walk::segment_names(&*self.vfs, &self.dir)?;
        let surplus = if segments_max == 0 { 0 } else { names.len().saturating_sub(segments_max) };
        let oldest_held = self.segments.front().map_or(0, |segment| segment.name.seq);
        for name in names.iter().take(surplus).take_while(|name| name.seq < oldest_held) {
            let path = self.dir.join(name.to_string());
            let file = self.vfs.open(&path, Mode::Write).map_err(Error::io(&path, "open"))?;
            let kind = LockKind::OpenFileDescription;
            if !file.try_lock(kind).map_err(Error::io(&path, "lock"))? {
                break;
            }
            self.vfs.remove_file(&path).map_err(Error::io(&path, "remove"))?;
            self.places.forget_to(name.seq);
            purged.push(path);
            // After each removal, so that a crash leaves no hole in the sequence.
            self.vfs.sync_dir(&self.dir).map_err(Error::io(&self.dir, "sync"))?;
        }
        Ok(())
    }

    /// Syncs the last batch and removes the prepared segment, as etcd does on a clean stop.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        match self.spare.segment.take() {
            Some((path, _)) => self.vfs.remove_file(&path).map_err(Error::io(&path, "remove")),
            None => Ok(()),
        }
    }

    /// The ids of the member and the cluster.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The index of the last entry written, or of the last snapshot if that was written later.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.written.last_index
    }

    /// The bytes written since the log was opened.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written.total
    }

    /// True after a write or a sync has failed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn check(&self) -> Result<(), Error> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    fn guard<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.poisoned |= result.is_err();
        result
    }

    /// The segment that is written.
    fn tail(&self) -> &OpenSegment {
        self.segments.back().expect("invariant: the segment that is written is open")
    }

    fn begin_batch(&mut self) -> Result<(), Error> {
        self.sync()?;
        self.cut_if_full()?;
        self.encoder.clear();
        Ok(())
    }

    /// Writes the records in the encoder, as one write.
    pub(crate) fn write_batch(&mut self) -> Result<(), Error> {
        let tail = self.tail();
        let bytes = self.encoder.bytes();
        let written =
            tail.file.write_at(bytes, self.written.offset).map_err(Error::io(&tail.path, "write"));
        self.written.offset += bytes.len() as u64;
        self.written.total += bytes.len() as u64;
        self.written.unsynced = true;
        self.guard(written)
    }

    /// Begins a new segment if the present one is full and the new one could be prepared.
    fn cut_if_full(&mut self) -> Result<(), Error> {
        if self.written.offset < self.segment_bytes {
            return Ok(());
        }
        self.prepare_spare();
        let Some((path, file)) = self.spare.segment.take() else {
            return Ok(());
        };
        self.sync()?;
        let cut = self.cut(&path, file);
        self.guard(cut)
    }

    /// Ends the present segment at its last frame and makes the spare its successor.
    fn cut(&mut self, spare: &Path, file: Arc<dyn File>) -> Result<(), Error> {
        assert!(!self.written.unsynced, "invariant: a segment is cut when all of it is synced");
        let tail = self.tail();
        tail.file.set_len(self.written.offset).map_err(Error::io(&tail.path, "cut"))?;
        tail.file.sync_data().map_err(Error::io(&tail.path, "sync"))?;
        let name = SegmentName { seq: tail.name.seq + 1, index: self.written.last_index.next() };
        self.encoder.clear();
        self.encoder.crc_record();
        self.encoder.record(RecordKind::Metadata, &self.metadata.encode());
        if !self.written.state.is_empty() {
            let data = self.written.state.to_pb().encode_to_vec();
            self.encoder.record(RecordKind::State, &data);
        }
        file.write_at(self.encoder.bytes(), 0).map_err(Error::io(spare, "write"))?;
        file.sync_data().map_err(Error::io(spare, "sync"))?;
        let path = self.dir.join(name.to_string());
        self.vfs.rename(spare, &path).map_err(Error::io(&path, "rename"))?;
        self.vfs.sync_dir(&self.dir).map_err(Error::io(&self.dir, "sync"))?;
        self.written.offset = self.encoder.bytes().len() as u64;
        self.written.total += self.written.offset;
        self.segments.push_back(OpenSegment { name, path, file });
        Ok(())
    }

    /// Prepares the next segment if there is none. Nothing is lost if that fails: the present
    /// segment grows until it succeeds.
    fn prepare_spare(&mut self) {
        if self.spare.segment.is_some() || self.written.total < self.spare.retry_at {
            return;
        }
        let path = self.dir.join(format!("{}.tmp", self.tail().name.seq % 2));
        match make_segment(&*self.vfs, &path, self.segment_bytes) {
            Ok(file) => self.spare.segment = Some((path, file)),
            Err(error) => {
                let wait = self.segment_bytes.div_ceil(SPARE_RETRIES_PER_SEGMENT);
                self.spare.retry_at = self.written.total + wait;
                // Gives back the space that a failed allocation may have taken.
                let removed = self.vfs.remove_file(&path);
                tracing::warn!(
                    %error,
                    removed = removed.is_ok(),
                    "failed to prepare the next WAL segment; the current one is used meanwhile"
                );
            }
        }
    }
}

/// Makes a file ready to be a segment: empty, locked, and allocated to `len` bytes.
pub(crate) fn make_segment(vfs: &dyn Vfs, path: &Path, len: u64) -> Result<Arc<dyn File>, Error> {
    let file = vfs.open(path, Mode::Create).map_err(Error::io(path, "create"))?;
    walk::lock(&*file, path)?;
    file.set_len(0).map_err(Error::io(path, "empty"))?;
    file.allocate(len).map_err(Error::io(path, "allocate"))?;
    Ok(file)
}
