//! Looking at a log without opening it: its snapshot records, or all of its records.

use crate::error::Error;
use crate::metadata::SnapshotRecord;
use crate::record::RecordKind;
use crate::replay::decode_state;
use crate::tail::{self, Gap};
use crate::walk::{self, Walked};
use proto::{Entry, Index};
use std::path::{Path, PathBuf};
use vfs::{Mode, Vfs};

/// The snapshots that the log has a record of, up to its commit index, oldest first (etcd
/// server/storage/wal/wal.go @ v3.7.1 `ValidSnapshotEntries`). Changes nothing, takes no lock, and
/// ignores a torn tail.
///
/// # Errors
/// [`Error::Corrupt`] if the log is damaged. Without this check, the record of the newest snapshot
/// could be after the damage, and an older snapshot, whose segments are removed, would count as the
/// newest. [`Error::Io`].
pub fn valid_snapshots(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SnapshotRecord>, Error> {
    let names = walk::newest_sequence(vfs, dir)?;
    let segments = walk::open_all(vfs, dir, &names, Mode::Read)?;
    let mut snapshots = Vec::new();
    let (mut commit, mut last_index) = (Index(0), Index(0));
    let walked = walk::walk(&segments, |frame, segment| {
        let data = &frame.record.data;
        let corrupt = |what: String| Error::corrupt(&segment.path, frame.offset, what);
        match frame.record.kind {
            RecordKind::Snapshot => snapshots.push(SnapshotRecord::decode(data).map_err(corrupt)?),
            RecordKind::State => commit = decode_state(data).map_err(corrupt)?.commit,
            RecordKind::Entry => {
                let entry = Entry::decode(data.clone());
                last_index = entry.map_err(|error| corrupt(error.to_string()))?.index;
            }
            RecordKind::Metadata | RecordKind::Crc => {}
        }
        Ok(())
    })?;
    if let (Some(Walked { mut tail, end, gap: true, .. }), Some(last)) = (walked, segments.last()) {
        let gap = Gap { seq: last.name.seq, offset: end, last_index };
        if let Some(why) = tail::damage(&mut tail, gap)? {
            return Err(Error::corrupt(&last.path, end, why));
        }
    }
    snapshots.retain(|snapshot| snapshot.id.index <= commit);
    Ok(snapshots)
}

/// One record of [`dump`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// The segment.
    pub file: PathBuf,
    /// Where the frame begins, in bytes.
    pub offset: u64,
    /// The length of the frame with its length field and padding, in bytes.
    pub len: u64,
    /// The record's type.
    pub kind: RecordKind,
    /// The record's data.
    pub data: bytes::Bytes,
}

/// All good records of a log, for tools and tests. Takes no lock.
///
/// # Errors
/// As [`valid_snapshots`].
pub fn dump(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<DumpedRecord>, Error> {
    let names = walk::newest_sequence(vfs, dir)?;
    let segments = walk::open_all(vfs, dir, &names, Mode::Read)?;
    let mut records = Vec::new();
    walk::walk(&segments, |frame, segment| {
        records.push(DumpedRecord {
            file: segment.path.clone(),
            offset: frame.offset,
            len: frame.end - frame.offset,
            kind: frame.record.kind,
            data: frame.record.data.clone(),
        });
        Ok(())
    })?;
    Ok(records)
}
