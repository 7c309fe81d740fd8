//! The end of a log: torn by a crash, or damaged? A crash leaves a gap only in what was not
//! synced, so it is damage if something behind the gap could be written only after the gap was
//! synced. That is the case for:
//!
//! 1. a batch of ours (see [`Mark`](crate::record::Mark)) that began behind the gap: each batch is
//!    written after all before it was synced;
//! 2. any record that follows a snapshot record: these are synced alone;
//! 3. an entry that follows a state record that follows an entry: Go's etcd syncs each batch of
//!    entries before the next, with or without a state record at its end, and only a state record
//!    that says no more than how far the log is committed goes unsynced;
//! 4. an entry that follows a state record at once, when entries between the gap and it are lost:
//!    they came before that state record;
//! 5. an entry that the database has applied or the newest snapshot covers.
//!
//! What follows the gap is found by trying each multiple of 8 for frames whose crcs chain: a
//! frame proves the one before it whole. Not taken for proof: a state record that commits a lost
//! entry, since a follower of any version, and a sole member up to 3.5.4, writes the two in one
//! batch.
//!
//! Before all this: a frame that is bad though none of its sectors is all zeros was not torn
//! (etcd server/storage/wal/decoder.go @ v3.7.1 `isTornEntry`).

use crate::error::Error;
use crate::record::{Record, RecordKind};
use crate::segment::{Frame, Segment};
use crc32c::crc32c_append;
use proto::{Entry, Index};

/// Reading more than this many times the file to tell what is behind a gap is not worth it.
const EFFORT_MAX: u64 = 64;

/// Where the good frames end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    /// The segment's sequence number.
    pub(crate) seq: u64,
    /// Where the first bad frame begins.
    pub(crate) offset: u64,
    /// The last index before it.
    pub(crate) last_index: Index,
}

/// A record behind the gap.
#[derive(Clone, Copy, Debug)]
struct After {
    offset: u64,
    kind: RecordKind,
    /// Of an entry.
    index: Option<Index>,
    /// Where its batch began, if it says so.
    batch_start: Option<u64>,
    /// Whether the one before it in the list lies right before it in the file.
    adjoins: bool,
}

/// Why the gap is damage; `None` if it is a torn tail.
pub(crate) fn damage(segment: &mut Segment, gap: Gap) -> Result<Option<String>, Error> {
    let Some(after) = look_on(segment, gap)? else {
        return Ok(Some("what follows cannot be told apart".to_owned()));
    };
    Ok(proof(gap, &after))
}

fn proof(gap: Gap, after: &[After]) -> Option<String> {
    let mut entry_seen = false;
    let mut entry_state_seen = false;
    for (at, record) in after.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| after.get(at));
        let found =
            |what: &str| Some(format!("{what} at byte {}, though synced later", record.offset));
        if record.batch_start.is_some_and(|start| start > gap.offset) {
            return found("there is a later batch");
        }
        if before.is_some_and(|before| before.kind == RecordKind::Snapshot) {
            return found("there is a record behind a snapshot's");
        }
        match record.kind {
            RecordKind::Entry => {
                if entry_state_seen {
                    return found("there is an entry behind a whole batch");
                }
                entry_seen = true;
                let lost = record.index.is_some_and(|index| index.0 > gap.last_index.0 + 1);
                let after_state = before.is_some_and(|before| before.kind == RecordKind::State);
                if lost && after_state && record.adjoins {
                    return found("there is an entry behind a state record and lost entries");
                }
            }
            RecordKind::State => entry_state_seen = entry_seen,
            RecordKind::Metadata | RecordKind::Crc | RecordKind::Snapshot => {}
        }
    }
    None
}

/// The records behind the gap that can be believed; `None` if that would take too long.
fn look_on(segment: &mut Segment, gap: Gap) -> Result<Option<Vec<After>>, Error> {
    let mut found = Vec::new();
    let mut at = gap.offset;
    // The crc of the frame that ends at `at`, when that frame is believed.
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
        let believed = follows
            || batch_start(&frame, gap.seq).is_some()
            || is_continued(segment, &frame, &mut effort)?;
        if believed {
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
        // What the bad frame itself says is not believed, but for its kind.
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
