//! Writing a log: creating, appending, cutting, letting old segments go.
//!
//! Rules, on which telling a torn tail from damage rests (`tail.rs`):
//! - At most one batch is not synced.
//! - Each batch goes to the file in one write, ends with a state or snapshot record, and that
//!   record says where the batch began.
//! - A commit index alone is never written; it rides on the next batch.
//! - A segment gets its name only after its head was synced.

use crate::error::Error;
use crate::frame::Encoder;
use crate::name::SegmentName;
use crate::open::make_segment;
use crate::record::RecordKind;
use crate::walk::{self, Held};
use crate::{Metadata, SEGMENT_BYTES, SnapshotRecord};
use prost::Message as _;
use proto::{Entry, HardState, Index};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{File, LockKind, Mode, Vfs};

/// A log that can be appended to. After an error of the disk every call answers
/// [`Error::Poisoned`]: the file must not be trusted any more, and the member stops.
#[derive(Debug)]
pub struct Wal {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) metadata: Metadata,
    /// When a segment is full.
    pub(crate) segment_bytes: u64,
    /// The segments whose locks are held, oldest first; the last is written.
    pub(crate) segments: VecDeque<Held>,
    /// The next segment, made ahead.
    pub(crate) spare: Option<(PathBuf, Arc<dyn File>)>,
    pub(crate) encoder: Encoder,
    /// The newest state that was given to [`Wal::append`]. The file lags behind it by a commit
    /// index at most.
    pub(crate) state: HardState,
    pub(crate) written: Written,
    pub(crate) poisoned: bool,
}

/// What the file holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// The end of the last frame.
    pub(crate) offset: u64,
    /// The bytes of all frames that were written since the log was opened.
    pub(crate) total: u64,
    /// The newest state.
    pub(crate) state: HardState,
    /// The last entry or the last snapshot's, whichever came later.
    pub(crate) last_index: Index,
    /// Whether the last batch is not known to be durable.
    pub(crate) unsynced: bool,
}

impl Wal {
    /// Makes a new log. It is there as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one; [`Error::Io`], and then there is none.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, metadata: &Metadata) -> Result<Wal, Error> {
        Wal::create_with_segments(vfs, dir, metadata, SEGMENT_BYTES)
    }

    /// As [`Wal::create`], with segments of another length, for simulations: readers do not care.
    ///
    /// # Errors
    /// As [`Wal::create`].
    pub fn create_with_segments(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        metadata: &Metadata,
        segment_bytes: u64,
    ) -> Result<Wal, Error> {
        if crate::exists(&*vfs, dir)? {
            return Err(Error::Exists { dir: dir.to_path_buf() });
        }
        let building = with_suffix(dir, ".tmp");
        let above = dir.parent().unwrap_or(dir);
        vfs::create_dir_durable(&*vfs, above).map_err(Error::io(above, "create"))?;
        if vfs.exists(&building).map_err(Error::io(&building, "look for"))? {
            vfs.remove_dir_all(&building).map_err(Error::io(&building, "remove"))?;
        }
        vfs.create_dir_all(&building).map_err(Error::io(&building, "create"))?;
        let name = SegmentName { seq: 0, index: Index(0) };
        let file = make_segment(&*vfs, &building.join(name.to_string()), segment_bytes)?;
        let path = dir.join(name.to_string());
        let mut wal = Wal {
            vfs,
            dir: dir.to_path_buf(),
            metadata: *metadata,
            segment_bytes,
            segments: VecDeque::from([Held { name, path, file }]),
            spare: None,
            encoder: Encoder::new(0),
            state: HardState::default(),
            written: Written::default(),
            poisoned: false,
        };
        wal.encoder.crc_record();
        wal.encoder.record(RecordKind::Metadata, &metadata.encode());
        wal.encoder.record(RecordKind::Snapshot, &SnapshotRecord::default().encode());
        wal.write_batch()?;
        wal.sync()?;
        wal.vfs.sync_dir(&building).map_err(Error::io(&building, "sync"))?;
        if wal.vfs.exists(dir).map_err(Error::io(dir, "look for"))? {
            wal.vfs.remove_dir_all(dir).map_err(Error::io(dir, "remove"))?;
        }
        wal.vfs.rename(&building, dir).map_err(Error::io(dir, "rename"))?;
        let named = wal.vfs.sync_dir(above).map_err(Error::io(above, "sync"));
        named.inspect_err(|_| put_aside(&*wal.vfs, dir))?;
        Ok(wal)
    }

    /// Writes a batch: the entries, then the state; not durable before [`Wal::sync`]. A batch that
    /// is not yet durable is synced first. Where there are no entries and only the commit index is
    /// new, nothing is written: it goes with the next batch.
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
        for entry in entries {
            self.encoder.entry(entry);
        }
        let (seq, start) = (self.tail().name.seq, self.written.offset);
        let data = state.to_pb().encode_to_vec();
        self.encoder.last_record(RecordKind::State, &data, seq, start);
        self.write_batch()?;
        self.written.state = state;
        if let Some(last) = entries.last() {
            self.written.last_index = last.index;
        }
        Ok(())
    }

    /// Makes what was appended durable, with one `fdatasync`; nothing to do if there is nothing.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing of the batch may be taken for durable. [`Error::Poisoned`].
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

    /// Notes a snapshot whose `.snap` file is durable, with a state that is committed as far; both
    /// are durable on return.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn save_snapshot(&mut self, snapshot: &SnapshotRecord) -> Result<(), Error> {
        self.check()?;
        self.begin_batch()?;
        let (seq, start) = (self.tail().name.seq, self.written.offset);
        // A snapshot holds nothing that is not committed, and readers pass one over whose log
        // does not say so.
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

    /// Does what need not be done while somebody waits: ends a full segment, and makes the next
    /// one ahead. To be called after a sync, when the waiting have their answers; without it the
    /// next batch has to wait for it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn tend(&mut self) -> Result<(), Error> {
        self.check()?;
        if self.written.offset >= self.segment_bytes {
            self.sync()?;
            let cut = self.cut();
            self.guard(cut)?;
        }
        if self.spare.is_none() {
            let spare = self.make_spare();
            self.spare = Some(self.guard(spare)?);
        }
        Ok(())
    }

    /// Lets go of the segments that hold nothing behind an index: they may then be purged, by us
    /// or another. The one that may still hold the index itself is kept.
    pub fn release_to(&mut self, index: Index) {
        while self.segments.get(1).is_some_and(|next| next.name.index < index)
            && let Some(old) = self.segments.pop_front()
        {
            // The lock goes with the file anyway.
            old.file.unlock(LockKind::OpenFileDescription).unwrap_or_default();
        }
    }

    /// Removes released segments, oldest first, until this many segments remain (0: all of them
    /// do), and says which. Stops at one that somebody has locked.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn purge(&mut self, segments_max: usize) -> Result<Vec<PathBuf>, Error> {
        self.check()?;
        let purged = self.purge_released(segments_max);
        self.guard(purged)
    }

    fn purge_released(&self, segments_max: usize) -> Result<Vec<PathBuf>, Error> {
        let names = walk::segment_names(&*self.vfs, &self.dir)?;
        let surplus = if segments_max == 0 { 0 } else { names.len().saturating_sub(segments_max) };
        let oldest_held = self.segments.front().map_or(0, |held| held.name.seq);
        let mut purged = Vec::new();
        for name in names.iter().take(surplus).take_while(|name| name.seq < oldest_held) {
            let path = self.dir.join(name.to_string());
            let file = self.vfs.open(&path, Mode::Write).map_err(Error::io(&path, "open"))?;
            let kind = LockKind::OpenFileDescription;
            if !file.try_lock(kind).map_err(Error::io(&path, "lock"))? {
                break;
            }
            self.vfs.remove_file(&path).map_err(Error::io(&path, "remove"))?;
            // One by one, so that no crash leaves a hole in the sequence.
            self.vfs.sync_dir(&self.dir).map_err(Error::io(&self.dir, "sync"))?;
            purged.push(path);
        }
        Ok(purged)
    }

    /// Syncs what is not durable and removes the segment made ahead, as etcd does when it stops
    /// cleanly.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`].
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        match self.spare.take() {
            Some((path, _)) => self.vfs.remove_file(&path).map_err(Error::io(&path, "remove")),
            None => Ok(()),
        }
    }

    /// The ids of member and cluster.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The last entry written or the last snapshot's, whichever came later.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.written.last_index
    }

    /// How many bytes were written since the log was opened.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written.total
    }

    /// True once the disk has failed.
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

    fn tail(&self) -> &Held {
        self.segments.back().expect("invariant: the segment that is written is held")
    }

    fn begin_batch(&mut self) -> Result<(), Error> {
        self.sync()?;
        if self.written.offset >= self.segment_bytes {
            let cut = self.cut();
            self.guard(cut)?;
        }
        self.encoder.clear();
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        let tail = self.tail();
        let bytes = self.encoder.bytes();
        let written =
            tail.file.write_at(bytes, self.written.offset).map_err(Error::io(&tail.path, "write"));
        self.written.offset += bytes.len() as u64;
        self.written.total += bytes.len() as u64;
        self.written.unsynced = true;
        self.guard(written)
    }

    /// Ends the present segment at its last frame and begins the next.
    fn cut(&mut self) -> Result<(), Error> {
        assert!(!self.written.unsynced, "invariant: a segment is ended when all of it is synced");
        let tail = self.tail();
        tail.file.set_len(self.written.offset).map_err(Error::io(&tail.path, "cut"))?;
        tail.file.sync_data().map_err(Error::io(&tail.path, "sync"))?;
        let name = SegmentName { seq: tail.name.seq + 1, index: self.written.last_index.next() };
        let (spare_path, file) = match self.spare.take() {
            Some(spare) => spare,
            None => self.make_spare()?,
        };
        self.encoder.clear();
        self.encoder.crc_record();
        self.encoder.record(RecordKind::Metadata, &self.metadata.encode());
        if !self.written.state.is_empty() {
            let data = self.written.state.to_pb().encode_to_vec();
            self.encoder.record(RecordKind::State, &data);
        }
        file.write_at(self.encoder.bytes(), 0).map_err(Error::io(&spare_path, "write"))?;
        file.sync_data().map_err(Error::io(&spare_path, "sync"))?;
        let path = self.dir.join(name.to_string());
        self.vfs.rename(&spare_path, &path).map_err(Error::io(&path, "rename"))?;
        self.vfs.sync_dir(&self.dir).map_err(Error::io(&self.dir, "sync"))?;
        self.written.offset = self.encoder.bytes().len() as u64;
        self.written.total += self.written.offset;
        self.segments.push_back(Held { name, path, file });
        Ok(())
    }

    fn make_spare(&self) -> Result<(PathBuf, Arc<dyn File>), Error> {
        let path = self.dir.join(format!("{}.tmp", self.tail().name.seq % 2));
        let file = make_segment(&*self.vfs, &path, self.segment_bytes)?;
        Ok((path, file))
    }
}

/// A log whose creation failed at the very end is moved away, so that the next start makes a new
/// one instead of going on with an empty one. If that fails too, the next start finds a log in
/// which nothing was decided.
fn put_aside(vfs: &dyn Vfs, dir: &Path) {
    let names = (0..1000).map(|number| with_suffix(dir, &format!(".broken.{number}")));
    let mut free = names.filter(|path| matches!(vfs.exists(path), Ok(false)));
    if let Some(path) = free.next() {
        vfs.rename(dir, &path).unwrap_or_default();
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
