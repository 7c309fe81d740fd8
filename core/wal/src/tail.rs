//! Decides whether the end of a log is torn or damaged. A crash leaves a gap only in data that was
//! not synced. So a gap is damage if a record after it was written only after the gap had been
//! synced:
//!
//! 1. A batch of ours (see [`Mark`](crate::record::Mark)) that begins after the gap: everything
//!    before a batch is synced before the batch is written.
//! 2. A record after a snapshot record: a snapshot record is synced alone.
//! 3. An entry after a state record after an entry: Go's etcd syncs each batch of entries before it
//!    writes the next. It leaves only state records with a new commit index unsynced.
//! 4. An entry directly after a state record, if entries between the gap and the entry are lost:
//!    they were written before that state record.
//! 5. An entry that the database has applied or the newest snapshot contains is lost.
//!
//! The records after the gap are found by trying each multiple of 8 for frames whose crcs chain: a
//! frame proves that the frame before it is intact. A state record that commits a lost entry is no
//! proof: a follower of any version, and a sole member up to 3.5.4, writes both in one batch.
//!
//! Checked before: a bad frame without a sector of zeros was not torn
//! (etcd server/storage/wal/decoder.go @ v3.7.1 `isTornEntry`).

use crate::error::Error;
use crate::record::{Record, RecordKind};
use crate::segment::{Frame, Segment};
use crc32c::crc32c_append;
use proto::{Entry, Index};

/// The search after a gap gives up after reading this many times the length of the file.
const EFFORT_MAX: u64 = 64;

/// The place where the good frames end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    /// The segment's sequence number.
    pub(crate) seq: u64,
    /// Where the first bad frame begins.
    pub(crate) offset: u64,
    /// The last index before the gap.
    pub(crate) last_index: Index,
}

/// A record after the gap.
#[derive(Clone, Copy, Debug)]
struct After {
    offset: u64,
    kind: RecordKind,
    /// The index, if it is an entry.
    index: Option<Index>,
    /// Where its batch begins, if it has a mark.
    batch_start: Option<u64>,
    /// True if the previous record in the list directly precedes it in the file.
    adjoins: bool,
}

/// The reason why the gap is damage; `None` if it is a torn tail.
pub(crate) fn damage(segment: &mut Segment, gap: Gap) -> Result<Option<String>, Error> {
    let Some(after) = search(segment, gap)? else {
        return Ok(Some("the records after the gap take too long to search".to_owned()));
    };
    Ok(proof(gap, &after))
}

fn proof(gap: Gap, after: &[After]) -> Option<String> {
    let mut entry_seen = false;
    let mut entry_state_seen = false;
    for (at, record) in after.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| after.get(at));
        let found = |what: &str| {
            Some(format!("{what} at byte {}, written after a sync of the bad frame", record.offset))
        };
        if record.batch_start.is_some_and(|start| start > gap.offset) {
            return found("a later batch follows");
        }
        if before.is_some_and(|before| before.kind == RecordKind::Snapshot) {
            return found("a record follows a snapshot record");
        }
        match record.kind {
            RecordKind::Entry => {
                if entry_state_seen {
                    return found("an entry follows a whole batch");
                }
                entry_seen = true;
                let lost = record.index.is_some_and(|index| index.0 > gap.last_index.0 + 1);
                let after_state = before.is_some_and(|before| before.kind == RecordKind::State);
                if lost && after_state && record.adjoins {
                    return found("an entry follows a state record and lost entries");
                }
            }
            RecordKind::State => entry_state_seen = entry_seen,
            RecordKind::Metadata | RecordKind::Crc | RecordKind::Snapshot => {}
        }
    }
    None
}

/// The intact records after the gap; `None` if the search takes too long.
fn search(segment: &mut Segment, gap: Gap) -> Result<Option<Vec<After>>, Error> {
    let mut found = Vec::new();
    let mut at = gap.offset;
    // The crc of the frame that ends at `at`, if that frame is intact.
    let mut chained = None;
    let mut effort = segment.len().saturating_mul(EFFORT_MAX);
    while let Some(written) = segment.next_written(at)? {
        if written != at {
            chained = None;
        }
        let Ok(frame) = segment.frame(written)? else {
            chained = None;
            at = written + 8;
            continue;
        };
        let size = frame.end - frame.offset;
        effort = match effort.checked_sub(size) {
            Some(left) => left,
            None => return Ok(None),
        };
        let follows = chained.is_some_and(|crc| continues(crc, &frame.record));
        let intact = follows
            || batch_start(&frame, gap.seq).is_some()
            || is_continued(segment, &frame, &mut effort)?;
        if intact {
            found.push(After::new(&frame, gap, follows));
            chained = Some(frame.record.crc);
            at = frame.end;
        } else {
            chained = None;
            at = written + 8;
        }
    }
    Ok(Some(found))
}

fn continues(crc: u32, record: &Record) -> bool {
    record.kind != RecordKind::Crc && crc32c_append(crc, &record.data) == record.crc
}

fn batch_start(frame: &Frame, seq: u64) -> Option<u64> {
    frame.record.mark?.start(seq, frame.offset, frame.record.crc)
}

fn is_continued(segment: &mut Segment, frame: &Frame, effort: &mut u64) -> Result<bool, Error> {
    let Ok(next) = segment.frame(frame.end)? else {
        return Ok(false);
    };
    *effort = effort.saturating_sub(next.end - next.offset);
    Ok(continues(frame.record.crc, &next.record))
}

impl After {
    fn new(frame: &Frame, gap: Gap, adjoins: bool) -> After {
        let record = &frame.record;
        // Of the bad frame itself only the type is used.
        let index = || Some(Entry::decode(record.data.clone()).ok()?.index);
        let known = record.kind == RecordKind::Entry && frame.offset != gap.offset;
        After {
            offset: frame.offset,
            kind: record.kind,
            index: if known { index() } else { None },
            batch_start: batch_start(frame, gap.seq),
            adjoins,
        }
    }
}
