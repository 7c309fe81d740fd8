//! Opening a log, to go on writing or only to look: from the files to [`Recovered`].

use crate::error::Error;
use crate::frame::Encoder;
use crate::record::RecordKind;
use crate::replay::Replay;
use crate::tail::{self, Gap};
use crate::walk::{self, Held, Walked};
use crate::write::Written;
use crate::{Metadata, OpenAt, Recovered, SnapshotRecord, TornTail, Wal};
use proto::Index;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{File, Mode, Vfs};

/// What was found, and where writing goes on.
struct Found {
    replay: Replay,
    held: Vec<Held>,
    end: u64,
    crc: u32,
    torn: bool,
    tail_len: u64,
}

fn find(vfs: &dyn Vfs, dir: &Path, at: &OpenAt, mode: Mode) -> Result<Found, Error> {
    let names = walk::select(vfs, dir, at.snapshot.index)?;
    let held = walk::open_all(vfs, dir, &names, mode)?;
    let mut replay = Replay::new(*at);
    let mut present = None;
    let walked = walk::walk(&held, |frame, one| {
        if present != Some(one.name) {
            replay.segment_records = 0;
            present = Some(one.name);
        }
        replay.frame(frame, one.name.seq, &one.path)
    })?;
    let (Some(walked), Some(last)) = (walked, held.last()) else {
        let what = "no segment".to_owned();
        return Err(Error::NotFound { dir: dir.to_path_buf(), what });
    };
    if present != Some(last.name) {
        replay.segment_records = 0;
    }
    let Walked { mut tail, end, crc, gap } = walked;
    let corrupt = |what: String| Error::corrupt(&last.path, end, what);
    if replay.segment_records < Replay::head_records(last.name.seq) {
        return Err(corrupt("the head of the segment is not whole".to_owned()));
    }
    if gap {
        let gap = Gap { seq: last.name.seq, offset: end, last_index: replay.last_index };
        if let Some(why) = tail::damage(&mut tail, gap)? {
            return Err(corrupt(why));
        }
    }
    check_end(&replay, at).map_err(corrupt)?;
    if !replay.snapshot_found {
        let what = format!("the log does not know the snapshot at {:?}", at.snapshot);
        return Err(Error::NotFound { dir: dir.to_path_buf(), what });
    }
    Ok(Found { replay, end, crc, torn: gap, tail_len: tail.len(), held })
}

/// What must not lie behind the end of the log.
fn check_end(replay: &Replay, at: &OpenAt) -> Result<(), String> {
    let last = replay.last_index;
    let missing =
        |what: &str, index: Index| format!("the log ends at index {last}, but {what} {index}");
    if at.db_applied > last {
        return Err(missing("the database has applied", at.db_applied));
    }
    if at.snapshot.index > last {
        return Err(missing("there is a snapshot at", at.snapshot.index));
    }
    if replay.state.commit > last {
        return Err(missing("it is committed up to", replay.state.commit));
    }
    Ok(())
}

impl Found {
    fn recovered(replay: Replay, torn: Option<TornTail>) -> (Metadata, Recovered) {
        // The head of every segment holds it, and was checked.
        let hard_state = replay.hard_state();
        let metadata = replay.metadata.map(|(metadata, _)| metadata).unwrap_or_default();
        let recovered = Recovered {
            metadata,
            hard_state,
            before: replay.before,
            entries: replay.entries.into(),
            torn,
        };
        (metadata, recovered)
    }

    fn torn_tail(&self, copy: Option<PathBuf>) -> Option<TornTail> {
        let last = self.held.last().filter(|_| self.torn)?;
        Some(TornTail { file: last.path.clone(), offset: self.end, copy })
    }
}

/// Reads a log without a lock, and without changing anything: for tools.
///
/// # Errors
/// As [`Wal::open`], but for [`Error::Locked`].
pub fn read(vfs: &dyn Vfs, dir: &Path, at: &OpenAt) -> Result<Recovered, Error> {
    let found = find(vfs, dir, at, Mode::Read)?;
    let torn = found.torn_tail(None);
    Ok(Found::recovered(found.replay, torn).1)
}

impl Wal {
    /// Opens a log behind a snapshot, and makes it ready for appending.
    ///
    /// A tail that a crash tore is cut, after the segment was copied to `<name>.broken`. What
    /// comes back is durable: what the process before wrote without a sync is synced first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the log is damaged; nothing was changed then. [`Error::NotFound`] if
    /// there is no log, a segment is missing, or the log does not know the snapshot.
    /// [`Error::Locked`] if another process has it open. [`Error::Io`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, at: &OpenAt) -> Result<(Wal, Recovered), Error> {
        let found = find(&*vfs, dir, at, Mode::Write)?;
        let Some(last) = found.held.last() else {
            let what = "no segment".to_owned();
            return Err(Error::NotFound { dir: dir.to_path_buf(), what });
        };
        let copy = if found.torn { Some(keep_copy(&*vfs, dir, &last.path)?) } else { None };
        if found.torn {
            last.file.set_len(found.end).map_err(Error::io(&last.path, "cut"))?;
        }
        if found.torn || found.tail_len < at.segment_bytes {
            last.file.allocate(at.segment_bytes).map_err(Error::io(&last.path, "allocate"))?;
        }
        // What the process before wrote, and the cut; nothing is appended before.
        last.file.sync_data().map_err(Error::io(&last.path, "sync"))?;
        vfs.sync_dir(dir).map_err(Error::io(dir, "sync"))?;
        remove_spares(&*vfs, dir)?;
        let torn = found.torn_tail(copy);
        let (end, crc, held) = (found.end, found.crc, found.held);
        let (state, last_index) = (found.replay.state, found.replay.last_index);
        let given = found.replay.hard_state();
        let (metadata, recovered) = Found::recovered(found.replay, torn);
        let wal = Wal {
            vfs,
            dir: dir.to_path_buf(),
            metadata,
            segment_bytes: at.segment_bytes,
            segments: held.into(),
            spare: None,
            encoder: Encoder::new(crc),
            state: given,
            written: Written { offset: end, total: 0, state, last_index, unsynced: false },
            poisoned: false,
        };
        Ok((wal, recovered))
    }
}

/// Keeps a torn segment as it was found, for whoever wants to know.
fn keep_copy(vfs: &dyn Vfs, dir: &Path, path: &Path) -> Result<PathBuf, Error> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(".broken");
    let copy = PathBuf::from(copy);
    vfs::copy_file(vfs, path, vfs, &copy).map_err(Error::io(&copy, "copy the torn segment to"))?;
    let file = vfs.open(&copy, Mode::Read).map_err(Error::io(&copy, "open"))?;
    file.sync_data().map_err(Error::io(&copy, "sync"))?;
    vfs.sync_dir(dir).map_err(Error::io(dir, "sync"))?;
    Ok(copy)
}

/// Removes what a process that did not stop cleanly had made ahead.
fn remove_spares(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    for name in ["0.tmp", "1.tmp"] {
        let path = dir.join(name);
        if vfs.exists(&path).map_err(Error::io(&path, "look for"))? {
            vfs.remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// True if there is a log. That alone decides whether a member starts anew or goes on.
///
/// # Errors
/// [`Error::Io`].
pub fn exists(vfs: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
    Ok(!walk::segment_names(vfs, dir)?.is_empty())
}

/// The snapshots that the log vouches for, oldest first: those that it was told of, up to where it
/// is committed (etcd server/storage/wal/wal.go @ v3.7.1 `ValidSnapshotEntries`). Changes nothing
/// and takes no lock; a torn tail is left out.
///
/// # Errors
/// [`Error::Corrupt`] if a segment before the last is damaged; [`Error::Io`].
pub fn valid_snapshots(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SnapshotRecord>, Error> {
    let names = walk::newest_run(vfs, dir)?;
    let held = walk::open_all(vfs, dir, &names, Mode::Read)?;
    let mut snapshots = Vec::new();
    let mut commit = Index(0);
    walk::walk(&held, |frame, one| {
        let data = &frame.record.data;
        let corrupt = |what: String| Error::corrupt(&one.path, frame.offset, what);
        match frame.record.kind {
            RecordKind::Snapshot => snapshots.push(SnapshotRecord::decode(data).map_err(corrupt)?),
            RecordKind::State => {
                commit = crate::replay::decode_state(data).map_err(corrupt)?.commit
            }
            RecordKind::Metadata | RecordKind::Entry | RecordKind::Crc => {}
        }
        Ok(())
    })?;
    snapshots.retain(|snapshot| snapshot.id.index <= commit);
    Ok(snapshots)
}

/// A record as [`dump`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// The segment.
    pub file: PathBuf,
    /// Where the frame begins, in bytes.
    pub offset: u64,
    /// The frame's length with all that belongs to it, in bytes.
    pub len: u64,
    /// What it is.
    pub kind: RecordKind,
    /// What it holds.
    pub data: bytes::Bytes,
}

/// All good records of a log, for tools and tests. Takes no lock.
///
/// # Errors
/// As [`valid_snapshots`].
pub fn dump(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<DumpedRecord>, Error> {
    let names = walk::newest_run(vfs, dir)?;
    let held = walk::open_all(vfs, dir, &names, Mode::Read)?;
    let mut records = Vec::new();
    walk::walk(&held, |frame, one| {
        records.push(DumpedRecord {
            file: one.path.clone(),
            offset: frame.offset,
            len: frame.end - frame.offset,
            kind: frame.record.kind,
            data: frame.record.data.clone(),
        });
        Ok(())
    })?;
    Ok(records)
}

/// Makes a file ready to be a segment: empty, locked, and as long as a segment.
pub(crate) fn make_segment(vfs: &dyn Vfs, path: &Path, len: u64) -> Result<Arc<dyn File>, Error> {
    let file = vfs.open(path, Mode::Create).map_err(Error::io(path, "create"))?;
    walk::lock(&*file, path)?;
    file.set_len(0).map_err(Error::io(path, "empty"))?;
    file.allocate(len).map_err(Error::io(path, "allocate"))?;
    Ok(file)
}
