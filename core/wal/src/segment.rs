//! Reads a segment frame by frame. The content is not trusted: every length is compared with the
//! file before memory is allocated for it.
//!
//! Not here: the meaning of records (`replay.rs`), whether a bad frame is a torn tail (`tail.rs`).

use crate::error::Error;
use crate::frame::{ALIGN, Header};
use crate::record::{Record, RecordKind};
use bytes::Bytes;
use crc32c::crc32c_append;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::File;

/// The bytes read at once. Entries are slices of these chunks.
const CHUNK: u64 = 256 * 1024;
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// The unit that a disk writes atomically, in bytes.
const SECTOR: u64 = 512;

/// An open segment and the last chunk read.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    chunk: Bytes,
    chunk_at: u64,
}

/// A frame with a record. The crc is not checked yet.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) record: Record,
    /// Where the frame begins.
    pub(crate) offset: u64,
    /// Where the frame ends.
    pub(crate) end: u64,
    /// All bytes of the frame, as they were read.
    pub(crate) bytes: Bytes,
}

/// The reason why there is no good frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) why: &'static str,
    /// True if an interrupted write can be the cause: the frame ends after the end of the file, or
    /// one of its sectors is all zeros.
    pub(crate) maybe_torn: bool,
}

/// The next item of a segment.
#[derive(Debug)]
pub(crate) enum Next {
    /// A frame whose crc is correct.
    Frame(Frame),
    /// A length of zero, or the end of the file.
    End,
    /// A bad frame.
    Bad(Bad),
}

impl Segment {
    pub(crate) fn new(file: Arc<dyn File>, path: &Path) -> Result<Segment, Error> {
        let len = file.len().map_err(Error::io(path, "measure"))?;
        Ok(Segment { file, path: path.to_path_buf(), len, chunk: Bytes::new(), chunk_at: 0 })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads `count` bytes; `None` if the file ends before that.
    fn bytes(&mut self, offset: u64, count: u64) -> Result<Option<Bytes>, Error> {
        if count > self.len.saturating_sub(offset) {
            return Ok(None);
        }
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if offset < self.chunk_at || offset + count > chunk_end {
            let size = CHUNK.min(self.len - offset).max(count);
            let size = usize::try_from(size)
                .map_err(|_| Error::corrupt(&self.path, offset, "a frame larger than memory"))?;
            let mut buf = vec![0; size];
            let got = self.file.read_at(&mut buf, offset).map_err(Error::io(&self.path, "read"))?;
            buf.truncate(got);
            self.chunk = buf.into();
            self.chunk_at = offset;
            if (got as u64) < count {
                return Ok(None);
            }
        }
        // Both positions are inside the chunk, so they fit.
        let from = usize::try_from(offset - self.chunk_at).unwrap_or(usize::MAX);
        let to = usize::try_from(offset - self.chunk_at + count).unwrap_or(usize::MAX);
        Ok(Some(self.chunk.slice(from..to)))
    }

    /// The frame at an offset. Does not check the crc.
    pub(crate) fn frame(&mut self, offset: u64) -> Result<Result<Frame, Bad>, Error> {
        let bad = |why, maybe_torn| Ok(Err(Bad { why, maybe_torn }));
        let Some(field) = self.bytes(offset, ALIGN)? else {
            return bad("the file ends inside a frame", true);
        };
        let (len, pad) = match Header::parse(le_u64(&field)) {
            Header::Frame { len, pad } => (len, pad),
            Header::Zero => return bad("a length of zero", true),
            Header::Malformed => return bad("an invalid length", false),
        };
        let Some(bytes) = self.bytes(offset, ALIGN + len + pad)? else {
            return bad("the file ends inside a frame", true);
        };
        if bytes[..field.len()] != field {
            return bad("a length that two reads give differently", false);
        }
        let body = bytes.slice(field.len()..);
        let (record, padding) = match usize::try_from(len) {
            Ok(len) => (body.slice(..len), &body[len..]),
            Err(_) => return bad("a frame larger than memory", false),
        };
        let has_hole = || has_zero_sector(&record, offset + ALIGN);
        if padding.iter().any(|byte| *byte != 0) {
            return bad("padding that is not zero", has_hole());
        }
        match Record::parse(&record) {
            Ok(record) => Ok(Ok(Frame { record, offset, end: offset + ALIGN + len + pad, bytes })),
            Err(why) => bad(why, has_hole()),
        }
    }

    /// The frame at an offset, checked against the running crc, which is updated.
    pub(crate) fn next(&mut self, offset: u64, seq: u64, crc: &mut u32) -> Result<Next, Error> {
        if offset == self.len {
            return Ok(Next::End);
        }
        let frame = match self.frame(offset)? {
            Ok(frame) => frame,
            Err(Bad { why: "a length of zero", .. }) => return Ok(Next::End),
            Err(bad) => return Ok(Next::Bad(bad)),
        };
        let record = &frame.record;
        let good = if record.kind == RecordKind::Crc {
            // The first record of the first segment gives the initial crc.
            let first = offset == 0 && *crc == 0;
            (first || record.crc == *crc) && record.data.is_empty() && record.mark.is_none()
        } else {
            record.crc == crc32c_append(*crc, &record.data)
                && record.mark.is_none_or(|mark| mark.start(seq, offset, record.crc).is_some())
        };
        if !good {
            let body = self.bytes(offset + ALIGN, frame.end - offset - ALIGN)?.unwrap_or_default();
            let maybe_torn = has_zero_sector(&body, offset + ALIGN);
            return Ok(Next::Bad(Bad { why: "its crc does not match", maybe_torn }));
        }
        *crc = record.crc;
        Ok(Next::Frame(frame))
    }

    /// The first multiple of 8 from `offset` on at which the next 8 bytes are not all zeros.
    pub(crate) fn next_written(&mut self, mut offset: u64) -> Result<Option<u64>, Error> {
        while offset < self.len {
            let count = (CHUNK - offset % CHUNK).min(self.len - offset);
            let Some(bytes) = self.bytes(offset, count)? else {
                return Ok(None);
            };
            // Nearly all chunks are zeros, and comparing is much faster than testing each byte.
            let zeros = ZEROS.get(..bytes.len()).is_some_and(|zeros| zeros == bytes);
            if !zeros && let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(offset + at as u64 / ALIGN * ALIGN));
            }
            offset += count;
        }
        Ok(None)
    }
}

fn le_u64(bytes: &Bytes) -> u64 {
    bytes.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default()
}

/// True if the bytes contain, within one sector of the file, a piece that is all zeros.
fn has_zero_sector(bytes: &[u8], offset: u64) -> bool {
    let first = usize::try_from(SECTOR - offset % SECTOR).unwrap_or_default().min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let zero = |piece: &[u8]| piece.iter().all(|byte| *byte == 0);
    (!head.is_empty() && zero(head)) || rest.chunks(512).any(zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_sector_is_found_at_every_position() {
        let mut bytes = vec![1; 2000];
        assert!(!has_zero_sector(&bytes, 100));
        bytes[412..924].fill(0);
        assert!(has_zero_sector(&bytes, 100));
        assert!(!has_zero_sector(&bytes, 101));
        assert!(has_zero_sector(&[0; 3], 509));
        assert!(!has_zero_sector(&[], 0));
    }
}
