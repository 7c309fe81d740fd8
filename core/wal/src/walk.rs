//! Finds the segments of a log and visits their good frames in order. Not here: the meaning of
//! records (`replay.rs`).

use crate::error::Error;
use crate::name::SegmentName;
use crate::segment::{Bad, Frame, Next, Segment};
use proto::Index;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{File, LockKind, Mode, Vfs};

/// An open segment.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// The end of the log, in the last segment.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) tail: Segment,
    /// The end of the last good frame.
    pub(crate) end: u64,
    /// The running crc there.
    pub(crate) crc: u32,
    /// True if something other than zeros follows.
    pub(crate) gap: bool,
}

/// The names of all segments in a directory, sorted. Empty if the directory does not exist.
pub(crate) fn segment_names(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    if !vfs.exists(dir).map_err(Error::io(dir, "look for"))? {
        return Ok(Vec::new());
    }
    let names = vfs.list(dir).map_err(Error::io(dir, "list"))?;
    let mut names: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// True if there is a log. This alone decides whether a member creates a log or opens it.
///
/// # Errors
/// [`Error::Io`].
pub fn exists(vfs: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
    Ok(!segment_names(vfs, dir)?.is_empty())
}

/// The segments that contain the entries after an index.
pub(crate) fn select(vfs: &dyn Vfs, dir: &Path, index: Index) -> Result<Vec<SegmentName>, Error> {
    let mut names = segment_names(vfs, dir)?;
    let Some(first) = names.iter().rposition(|name| name.index <= index) else {
        let what = format!("no segment of the log reaches back to index {index}");
        return Err(Error::NotFound { dir: dir.to_path_buf(), what });
    };
    names.drain(..first);
    if let Some(gap) = names.windows(2).find(|pair| pair[0].seq.checked_add(1) != Some(pair[1].seq))
    {
        let what = format!("the segment before {} is missing", gap[1]);
        return Err(Error::NotFound { dir: dir.to_path_buf(), what });
    }
    Ok(names)
}

/// The newest segments whose sequence numbers have no gap.
pub(crate) fn newest_sequence(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    let mut names = segment_names(vfs, dir)?;
    let broken = names.windows(2).rposition(|pair| pair[0].seq.checked_add(1) != Some(pair[1].seq));
    if let Some(at) = broken {
        names.drain(..=at);
    }
    Ok(names)
}

/// Opens segments, and locks them unless they are opened for reading.
pub(crate) fn open_all(
    vfs: &dyn Vfs,
    dir: &Path,
    names: &[SegmentName],
    mode: Mode,
) -> Result<Vec<OpenSegment>, Error> {
    let mut held = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name.to_string());
        let file = vfs.open(&path, mode).map_err(Error::io(&path, "open"))?;
        if mode != Mode::Read {
            lock(&*file, &path)?;
        }
        held.push(OpenSegment { name: *name, path, file });
    }
    Ok(held)
}

pub(crate) fn lock(file: &dyn File, path: &Path) -> Result<(), Error> {
    let kind = LockKind::OpenFileDescription;
    if file.try_lock(kind).map_err(Error::io(path, "lock"))? {
        Ok(())
    } else {
        Err(Error::Locked { file: path.to_path_buf() })
    }
}

/// Calls `visit` for every good frame, and finds the end of the log. All segments but the last must
/// be complete. In the last one, only a fault that a crash cannot cause is an error here.
pub(crate) fn walk(
    held: &[OpenSegment],
    mut visit: impl FnMut(&Frame, &OpenSegment) -> Result<(), Error>,
) -> Result<Option<Walked>, Error> {
    let mut crc = 0;
    // The previous segment, if zeros follow its last frame: then the fault is probably there.
    let mut short: Option<(&Path, u64)> = None;
    for (number, one) in held.iter().enumerate() {
        let mut segment = Segment::new(one.file.clone(), &one.path)?;
        let last = number + 1 == held.len();
        let mut offset = 0;
        let bad = loop {
            match segment.next(offset, one.name.seq, &mut crc)? {
                Next::Frame(frame) => {
                    offset = frame.end;
                    visit(&frame, one)?;
                }
                Next::End => break None,
                Next::Bad(bad) => break Some(bad),
            }
        };
        let written = segment.next_written(offset)?.is_some();
        if last && bad.is_none_or(|bad| bad.maybe_torn) {
            return Ok(Some(Walked { tail: segment, end: offset, crc, gap: written }));
        }
        match (bad, short) {
            (Some(_), Some((path, end))) if offset == 0 => {
                return Err(Error::corrupt(path, end, "records are missing at its end"));
            }
            (Some(Bad { why, .. }), _) => return Err(Error::corrupt(&one.path, offset, why)),
            (None, _) if written => {
                return Err(Error::corrupt(&one.path, offset, "zeros where a record belongs"));
            }
            (None, _) => short = (offset < segment.len()).then_some((&one.path, offset)),
        }
    }
    Ok(None)
}
