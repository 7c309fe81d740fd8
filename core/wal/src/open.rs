//! Opening a log, for appending or only for reading: from the files to [`Recovered`].

use crate::error::Error;
use crate::frame::Encoder;
use crate::places::{Place, Places};
use crate::record::RecordKind;
use crate::recovered::{OpenAt, Recovered, TornTail};
use crate::replay::Replay;
use crate::tail::{self, Gap};
use crate::unsynced::UnsyncedTail;
use crate::walk::{self, OpenSegment, Walked};
use crate::write::{Spare, Wal, Written};
use proto::Index;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{Mode, Vfs};

/// A log that was read to its end.
struct ScannedLog {
    replay: Replay,
    segments: Vec<OpenSegment>,
    unsynced: UnsyncedTail,
    places: Places,
    /// The end of the last good frame, in the last segment.
    end: u64,
    /// The running crc there.
    crc: u32,
    /// True if something other than zeros follows.
    torn: bool,
    /// The length of the last segment.
    tail_len: u64,
}

fn scan(vfs: &dyn Vfs, dir: &Path, at: &OpenAt, mode: Mode) -> Result<ScannedLog, Error> {
    let names = walk::select(vfs, dir, at.snapshot.index)?;
    let segments = walk::open_all(vfs, dir, &names, mode)?;
    let mut replay = Replay::new(*at);
    let mut unsynced = UnsyncedTail::default();
    let mut places = Places::after(at.snapshot);
    let (mut current, mut running_crc) = (None, 0);
    let mut last_frame = None;
    let walked = walk::walk(&segments, |frame, segment| {
        unsynced.push(frame, segment.name);
        last_frame = Some((frame.record.kind, frame.offset, running_crc));
        if current != Some(segment.name) {
            replay.segment_records = 0;
            current = Some(segment.name);
        }
        replay.frame(frame, segment.name.seq, &segment.path)?;
        let crc = std::mem::replace(&mut running_crc, frame.record.crc);
        match frame.record.kind {
            RecordKind::Entry => {
                let place = Place { segment: segment.name, offset: frame.offset, crc };
                places.note(replay.last_index, place);
            }
            // The snapshot has replaced the entries.
            RecordKind::Snapshot if replay.entries.is_empty() => {
                places = Places::after(at.snapshot);
            }
            RecordKind::Snapshot | RecordKind::State | RecordKind::Metadata | RecordKind::Crc => {}
        }
        Ok(())
    })?;
    let (Some(walked), Some(last)) = (walked, segments.last()) else {
        return Err(no_segment(dir));
    };
    if current != Some(last.name) {
        replay.segment_records = 0;
    }
    let Walked { mut tail, mut end, mut crc, mut gap } = walked;
    let corrupt = move |what: String| Error::corrupt(&last.path, end, what);
    if replay.segment_records < Replay::head_records(last.name.seq) {
        return Err(corrupt("the head of the segment is incomplete".to_owned()));
    }
    if gap {
        let gap = Gap { seq: last.name.seq, offset: end, last_index: replay.last_index };
        if let Some(why) = tail::damage(&mut tail, gap)? {
            return Err(corrupt(why));
        }
    }
    // The batch of a received snapshot begins with a state record that has the snapshot's commit
    // index. If its snapshot record is lost, the batch was not durable, and all of it is cut. No
    // other batch can look like this: all others have their state record after their entries.
    if replay.state.commit > replay.last_index
        && let Some((RecordKind::State, offset, crc_before)) = last_frame
    {
        replay.forget_last_state();
        unsynced.forget_last();
        (end, crc, gap) = (offset, crc_before, true);
    }
    check_end(&replay, at).map_err(corrupt)?;
    if !replay.snapshot_found {
        let what = format!("the log has no record of the snapshot at {:?}", at.snapshot);
        return Err(Error::NotFound { dir: dir.to_path_buf(), what });
    }
    let tail_len = tail.len();
    Ok(ScannedLog { replay, unsynced, places, end, crc, torn: gap, tail_len, segments })
}

fn no_segment(dir: &Path) -> Error {
    Error::NotFound { dir: dir.to_path_buf(), what: "no segment".to_owned() }
}

/// Checks that the log does not end before the database's applied index, the snapshot, or its own
/// commit index.
fn check_end(replay: &Replay, at: &OpenAt) -> Result<(), String> {
    let last = replay.last_index;
    let missing =
        |what: &str, index: Index| format!("the log ends at index {last}, but {what} {index}");
    if at.db_applied > last {
        return Err(missing("the database has applied index", at.db_applied));
    }
    if at.snapshot.index > last {
        return Err(missing("there is a snapshot at index", at.snapshot.index));
    }
    if replay.state.commit > last {
        return Err(missing("its commit index is", replay.state.commit));
    }
    Ok(())
}

fn recovered(replay: Replay, torn: Option<TornTail>) -> Recovered {
    Recovered {
        hard_state: replay.hard_state(),
        // Always present: the head of every segment contains it, and was checked.
        metadata: replay.metadata.map(|(metadata, _)| metadata).unwrap_or_default(),
        before: replay.before,
        entries: replay.entries.into(),
        torn,
    }
}

/// Reads a log without a lock and without changing anything, for tools.
///
/// # Errors
/// As [`Wal::open`], but never [`Error::Locked`].
pub fn read(vfs: &dyn Vfs, dir: &Path, at: &OpenAt) -> Result<Recovered, Error> {
    let log = scan(vfs, dir, at, Mode::Read)?;
    let last = log.segments.last().filter(|_| log.torn);
    let torn = last.map(|last| TornTail { file: last.path.clone(), offset: log.end, copy: None });
    Ok(recovered(log.replay, torn))
}

impl Wal {
    /// Opens a log after a snapshot for appending.
    ///
    /// A torn tail is cut, after the segment was copied to `<name>.broken`. The returned content
    /// is durable: the end of the log is written again and synced, since the process before may
    /// have left it in the page cache only (see `unsynced.rs`). The name of `dir` itself must be
    /// made durable by the caller.
    ///
    /// The copy, the allocation of a whole segment and the removal of temporary files may fail
    /// without failing the open; this is logged.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the log is damaged; nothing was changed then. [`Error::NotFound`] if
    /// there is no log, a segment is missing, or the log has no record of the snapshot.
    /// [`Error::Locked`] if another process has it open. [`Error::Io`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, at: &OpenAt) -> Result<(Wal, Recovered), Error> {
        let log = scan(&*vfs, dir, at, Mode::Write)?;
        let last = log.segments.last().ok_or_else(|| no_segment(dir))?;
        let mut torn = None;
        if log.torn {
            let copy = keep_copy(&*vfs, dir, &last.path);
            last.file.set_len(log.end).map_err(Error::io(&last.path, "cut"))?;
            torn = Some(TornTail { file: last.path.clone(), offset: log.end, copy });
        }
        let len = if log.torn { log.end } else { log.tail_len };
        if len < at.segment_bytes {
            allocate(last, len, at.segment_bytes);
        }
        log.unsynced.rewrite(last)?;
        last.file.sync_data().map_err(Error::io(&last.path, "sync"))?;
        vfs.sync_dir(dir).map_err(Error::io(dir, "sync"))?;
        remove_spares(&*vfs, dir);
        let (state, last_index) = (log.replay.state, log.replay.last_index);
        let recovered = recovered(log.replay, torn);
        let wal = Wal {
            vfs,
            dir: dir.to_path_buf(),
            metadata: recovered.metadata,
            segment_bytes: at.segment_bytes,
            segments: log.segments.into(),
            spare: Spare::default(),
            encoder: Encoder::new(log.crc),
            state: recovered.hard_state,
            written: Written { offset: log.end, total: 0, state, last_index, unsynced: false },
            places: log.places,
            poisoned: false,
        };
        Ok((wal, recovered))
    }
}

/// Copies a torn segment, for later analysis. Returns `None` if that fails, for example on a full
/// disk.
fn keep_copy(vfs: &dyn Vfs, dir: &Path, path: &Path) -> Option<PathBuf> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(".broken");
    let copy = PathBuf::from(copy);
    let copied = vfs::copy_file(vfs, path, vfs, &copy)
        .and_then(|()| vfs.open(&copy, Mode::Read)?.sync_data())
        .and_then(|()| vfs.sync_dir(dir));
    match copied {
        Ok(()) => Some(copy),
        Err(error) => {
            let removed = vfs.remove_file(&copy).is_ok();
            tracing::warn!(
                %error,
                path = %copy.display(),
                removed,
                "failed to copy a torn WAL segment; it is cut without a copy"
            );
            None
        }
    }
}

/// Allocates the segment that will be written. Without it the segment grows with each batch.
fn allocate(last: &OpenSegment, len: u64, segment_bytes: u64) {
    if let Err(error) = last.file.allocate(segment_bytes) {
        // Gives back the space that a failed allocation may have taken.
        let restored = last.file.set_len(len).is_ok();
        tracing::warn!(
            %error,
            path = %last.path.display(),
            restored,
            "failed to allocate space for the current WAL segment; it grows as it is written"
        );
    }
}

/// Removes the prepared segment of a process that did not stop cleanly.
fn remove_spares(vfs: &dyn Vfs, dir: &Path) {
    for name in ["0.tmp", "1.tmp"] {
        let path = dir.join(name);
        if matches!(vfs.exists(&path), Ok(false)) {
            continue;
        }
        if let Err(error) = vfs.remove_file(&path) {
            tracing::warn!(
                %error,
                path = %path.display(),
                "failed to remove a temporary WAL file; it is overwritten later"
            );
        }
    }
}
