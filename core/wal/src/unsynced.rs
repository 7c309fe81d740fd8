//! The frames at the end of a log that may not be durable, and writing them again.
//!
//! A process that stopped may have left its last batch in the page cache only. If its sync failed,
//! Linux keeps the batch readable but marks its pages clean, so that no later sync writes them and
//! a power failure loses them. [`Wal::open`](crate::Wal::open) therefore writes these frames again,
//! byte for byte, and syncs the file before it returns their content.
//!
//! They lie in the last segment: a segment gets a successor only after all of it was synced. In
//! the last segment everything before a point is durable if a later record was written only after
//! a successful sync of that point:
//!
//! - a batch mark shows that all before the start of its batch was synced;
//! - a record after a snapshot record: a snapshot record is synced alone;
//! - an entry after a state record after an entry: Go's etcd, which writes no marks, syncs each
//!   batch of entries before it writes the next.
//!
//! So in our own logs, at most the last whole batch and the frames of a torn one are written again.

use crate::error::Error;
use crate::name::SegmentName;
use crate::record::RecordKind;
use crate::segment::Frame;
use crate::walk::OpenSegment;
use bytes::Bytes;
use std::collections::VecDeque;

/// The frames of one segment that may not be durable. Fed with all good frames of a log in order.
#[derive(Debug, Default)]
pub(crate) struct UnsyncedTail {
    segment: Option<SegmentName>,
    /// Offset and bytes, without a gap between them.
    frames: VecDeque<(u64, Bytes)>,
    /// Where the last entry ends.
    last_entry_end: Option<u64>,
    /// Whether a state record follows that entry.
    state_follows_entry: bool,
    last_kind: Option<RecordKind>,
}

impl UnsyncedTail {
    pub(crate) fn push(&mut self, frame: &Frame, segment: SegmentName) {
        if self.segment != Some(segment) {
            *self = UnsyncedTail { segment: Some(segment), ..UnsyncedTail::default() };
        }
        let synced_end = self.synced_end(frame, segment);
        while self.frames.front().is_some_and(|(offset, _)| *offset < synced_end) {
            self.frames.pop_front();
        }
        self.frames.push_back((frame.offset, frame.bytes.clone()));
        match frame.record.kind {
            RecordKind::Entry => {
                self.last_entry_end = Some(frame.end);
                self.state_follows_entry = false;
            }
            RecordKind::State => self.state_follows_entry = self.last_entry_end.is_some(),
            RecordKind::Metadata | RecordKind::Crc | RecordKind::Snapshot => {}
        }
        self.last_kind = Some(frame.record.kind);
    }

    /// Forgets the last frame, a state record.
    pub(crate) fn forget_last(&mut self) {
        self.frames.pop_back();
    }

    /// The offset up to which the file was synced before this frame was written.
    fn synced_end(&self, frame: &Frame, segment: SegmentName) -> u64 {
        let record = &frame.record;
        let batch_start =
            record.mark.and_then(|mark| mark.start(segment.seq, frame.offset, record.crc));
        let after_snapshot = self.last_kind == Some(RecordKind::Snapshot);
        let after_batch = record.kind == RecordKind::Entry && self.state_follows_entry;
        batch_start
            .max(after_snapshot.then_some(frame.offset))
            .max(self.last_entry_end.filter(|_| after_batch))
            .unwrap_or_default()
    }

    /// Writes the frames again where they were read. The caller syncs the file.
    pub(crate) fn rewrite(&self, last: &OpenSegment) -> Result<(), Error> {
        let Some((start, _)) = self.frames.front() else {
            return Ok(());
        };
        assert_eq!(
            self.segment,
            Some(last.name),
            "invariant: the last segment has a head, so the frames kept are its own"
        );
        let mut bytes = Vec::new();
        self.frames.iter().for_each(|(_, frame)| bytes.extend_from_slice(frame));
        last.file.write_at(&bytes, *start).map_err(Error::io(&last.path, "rewrite the end of"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoder;
    use crate::segment::{Next, Segment};
    use proto::{Entry, Index, Term};
    use std::path::Path;
    use std::sync::Arc;
    use vfs::{Mode, SimDisk, Vfs as _};

    const NAME: SegmentName = SegmentName { seq: 0, index: Index(0) };

    fn entry(encoder: &mut Encoder, index: u64) {
        encoder.entry(&Entry { term: Term(1), index: Index(index), ..Entry::default() });
    }

    /// The offset from which a segment with these frames is written again.
    fn rewrite_start(written: &[u8]) -> u64 {
        let disk = SimDisk::new(1);
        let path = Path::new("/segment");
        let file = disk.open(path, Mode::Create).unwrap();
        file.write_at(written, 0).unwrap();
        let mut segment = Segment::new(Arc::clone(&file), path).unwrap();
        let (mut tail, mut offset, mut crc) = (UnsyncedTail::default(), 0, 0);
        while let Next::Frame(frame) = segment.next(offset, NAME.seq, &mut crc).unwrap() {
            offset = frame.end;
            tail.push(&frame, NAME);
        }
        assert_eq!(offset, written.len() as u64);
        let bytes: Vec<u8> = tail.frames.iter().flat_map(|(_, frame)| frame.to_vec()).collect();
        let start = tail.frames[0].0;
        assert_eq!(bytes, written[usize::try_from(start).unwrap()..]);
        start
    }

    #[test]
    fn the_last_marked_batch_and_the_frames_after_it_are_written_again() {
        let mut encoder = Encoder::new(0);
        encoder.crc_record();
        encoder.record(RecordKind::Metadata, &[]);
        let mut written = encoder.bytes().to_vec();
        assert_eq!(rewrite_start(&written), 0, "a head alone");
        let mut start = 0;
        for index in 1..50 {
            encoder.clear();
            start = written.len() as u64;
            entry(&mut encoder, index);
            entry(&mut encoder, index);
            encoder.last_record(RecordKind::State, b"state", 0, start);
            written.extend_from_slice(encoder.bytes());
        }
        assert_eq!(rewrite_start(&written), start);
        encoder.clear();
        entry(&mut encoder, 50);
        entry(&mut encoder, 51);
        written.extend_from_slice(encoder.bytes());
        let torn_start = rewrite_start(&written);
        assert!(torn_start > start && torn_start < written.len() as u64, "a torn batch follows");
    }

    #[test]
    fn without_marks_the_entries_of_the_batch_before_last_count_as_synced() {
        let mut encoder = Encoder::new(0);
        encoder.crc_record();
        encoder.record(RecordKind::Metadata, &[]);
        let mut ends = Vec::new();
        for index in 1..50 {
            entry(&mut encoder, index);
            ends.push(encoder.bytes().len() as u64);
            encoder.record(RecordKind::State, b"state");
            encoder.record(RecordKind::State, b"another");
        }
        assert_eq!(rewrite_start(encoder.bytes()), ends[ends.len() - 2]);
        encoder.record(RecordKind::Snapshot, b"snapshot");
        let start = encoder.bytes().len() as u64;
        encoder.record(RecordKind::State, b"state");
        assert_eq!(rewrite_start(encoder.bytes()), start, "a snapshot record is synced alone");
    }
}
