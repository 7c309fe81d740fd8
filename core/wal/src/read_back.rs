//! Reads entries back from the log, for members that are behind, while the log is written.
//!
//! Not in etcd, which keeps these entries in memory.

use crate::error::Error;
use crate::places::Stretch;
use crate::record::RecordKind;
use crate::segment::{Next, Segment};
use crate::write::Wal;
use proto::{Entry, EntryId, Index};
use vfs::Mode;

/// Entries that are read back, one stretch at a time.
#[derive(Debug)]
pub struct EntryRead {
    first: Index,
    last: Index,
    bytes_max: usize,
    prev: Option<EntryId>,
    entries: Vec<Entry>,
    bytes: usize,
}

impl EntryRead {
    /// Reads the entries from `first` to `last`, at most `bytes_max` encoded bytes but at least one
    /// entry.
    #[must_use]
    pub fn new(first: Index, last: Index, bytes_max: usize) -> EntryRead {
        EntryRead { first, last, bytes_max, prev: None, entries: Vec::new(), bytes: 0 }
    }

    /// The entry before the first one, and the entries; `None` if the log does not have them.
    #[must_use]
    pub fn finish(self) -> Option<(EntryId, Vec<Entry>)> {
        Some((self.prev?, self.entries)).filter(|(_, entries)| !entries.is_empty())
    }

    /// The entry to be read next.
    fn next(&self) -> Index {
        match (self.prev, self.entries.last()) {
            (None, _) => Index(self.first.0.saturating_sub(1)),
            (Some(_), None) => self.first,
            (Some(_), Some(last)) => last.index.next(),
        }
    }

    /// Takes the next entry. Returns false once there are enough.
    fn take(&mut self, entry: Entry, bytes: usize) -> bool {
        if entry.index < self.first {
            self.prev = Some(entry.id());
            return true;
        }
        if entry.index > self.last {
            return false;
        }
        self.bytes += bytes;
        if self.bytes > self.bytes_max && !self.entries.is_empty() {
            return false;
        }
        self.entries.push(entry);
        true
    }
}

impl Wal {
    /// Reads one stretch of `read`, about 128 KiB of the file. Returns true once it is finished.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]. The log can still be written after an error, since only
    /// durable data is read.
    pub fn read_some(&self, read: &mut EntryRead) -> Result<bool, Error> {
        let base = self.places.base;
        if read.prev.is_none() && read.first == base.index.next() {
            read.prev = Some(base);
        }
        let mut wanted = read.next();
        let Some((Stretch { first, place }, last)) = self.places.find(wanted) else {
            return Ok(true);
        };
        let path = self.dir.join(place.segment.to_string());
        let file = self.vfs.open(&path, Mode::Read).map_err(Error::io(&path, "open"))?;
        let mut segment = Segment::new(file, &path)?;
        let (mut offset, mut crc, mut expected) = (place.offset, place.crc, first);
        while expected <= last {
            let corrupt = |what: &str| Error::corrupt(&path, offset, what);
            let frame = match segment.next(offset, place.segment.seq, &mut crc)? {
                Next::Frame(frame) => frame,
                Next::End => return Err(corrupt("an entry is missing")),
                Next::Bad(bad) => return Err(corrupt(bad.why)),
            };
            let next = frame.end;
            if frame.record.kind == RecordKind::Entry {
                let entry = Entry::decode(frame.record.data.clone());
                let entry = entry.map_err(|error| corrupt(&error.to_string()))?;
                if entry.index != expected {
                    return Err(corrupt("another entry than the one that was written"));
                }
                expected = expected.next();
                if entry.index == wanted {
                    wanted = wanted.next();
                    if !read.take(entry, frame.record.data.len()) {
                        return Ok(true);
                    }
                }
            }
            offset = next;
        }
        Ok(read.entries.last().is_some_and(|entry| entry.index >= read.last))
    }
}
