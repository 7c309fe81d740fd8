//! A log segment: dumps, reads, opens and extends it. A log that was opened can be extended, and
//! its entries are there after the next open.

use bytes::Bytes;
use prost::Message as _;
use proto::{ConfChange, ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::path::Path;
use std::sync::Arc;
use vfs::{Mode, SimDisk, Vfs};
use wal::{Metadata, OpenAt, SnapshotRecord, Wal};

const DIR: &str = "/wal";
const SEGMENT: &str = "/wal/0000000000000000-0000000000000000.wal";
const SEGMENT_BYTES: u64 = 64 * 1024;

/// How many of the recorded snapshots are opened.
const SNAPSHOTS_MAX: usize = 3;

/// The target; true if the log opens.
///
/// # Panics
/// When something is found.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Some(disk) = disk_of(data) else { return false };
    let dir = Path::new(DIR);
    // Damage must give an error and not a panic; whether it is detected is tested elsewhere.
    drop(wal::dump(&disk, dir));
    drop(wal::exists(&disk, dir));
    let mut at = vec![EntryId::default()];
    if let Ok(snapshots) = wal::valid_snapshots(&disk, dir) {
        at.extend(snapshots.iter().rev().take(SNAPSHOTS_MAX).map(|snapshot| snapshot.id));
    }
    let opened = at.into_iter().filter(|snapshot| open(&disk.fork(), *snapshot)).count();
    opened > 0
}

fn open(disk: &SimDisk, snapshot: EntryId) -> bool {
    let dir = Path::new(DIR);
    let options = OpenAt { segment_bytes: SEGMENT_BYTES, ..OpenAt::new(snapshot, Index(0)) };
    let read = wal::read(disk, dir, &options);
    let Ok((mut log, recovered)) = Wal::open(Arc::new(disk.clone()), dir, &options) else {
        return false;
    };
    if let Ok(read) = read {
        assert_eq!(read.entries, recovered.entries, "what is read is what is opened");
    }
    for entry in &recovered.entries {
        match entry.kind {
            EntryKind::Normal => drop(v2store::classify(&entry.data)),
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                drop(ConfChange::decode(entry.data.clone()));
            }
        }
    }
    let last = log.last_index();
    let term = recovered.entries.last().map_or(recovered.before.term, |entry| entry.term);
    let term = term.max(recovered.hard_state.term);
    // A log that ends in a snapshot of another member can only be opened there.
    let told = recovered.entries.last().map_or(recovered.before.index, |entry| entry.index);
    if last != told || last.0 >= u64::MAX - 1 {
        return true;
    }
    let entry = Entry { term, index: last.next(), kind: EntryKind::Normal, data: Bytes::new() };
    let state = HardState { term, ..recovered.hard_state };
    if log.append(std::slice::from_ref(&entry), state).and_then(|()| log.sync()).is_err() {
        return true;
    }
    drop(log);
    let again = Wal::open(Arc::new(disk.clone()), dir, &options);
    let (_, again) = again.expect("a log that was opened and written on opens again");
    assert_eq!(again.entries.last(), Some(&entry), "what was synced is there");
    assert_eq!(again.entries.len(), recovered.entries.len() + 1, "and so is what was before");
    true
}

fn disk_of(data: &[u8]) -> Option<SimDisk> {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).ok()?;
    let file = disk.open(Path::new(SEGMENT), Mode::Create).ok()?;
    file.write_at(data, 0).ok()?;
    disk.settle();
    Some(disk)
}

/// Corrects the chain of checksums: each one covers the data of all records up to its own.
#[must_use]
pub fn reseal(data: Vec<u8>) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(data.len());
    let mut rest = data.as_slice();
    let mut crc = 0;
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let head = u64::from_le_bytes(*head);
        // Zeros after the last record.
        if head == 0 {
            break;
        }
        let (len, padding) = frame(head);
        let Some(body) = behind.get(..len) else { break };
        let Ok(mut record) = proto::walpb::Record::decode(body) else { break };
        const CRC_RECORD: i64 = 4;
        if record.r#type != Some(CRC_RECORD) {
            crc = crc32c::crc32c_append(crc, record.data.as_deref().unwrap_or_default());
        }
        record.crc = Some(crc);
        let mark = body.last_chunk::<MARK_LEN>().filter(|mark| mark[0] == MARK_TAG);
        let mut body = record.encode_to_vec();
        if let Some(mark) = mark {
            body.extend_from_slice(&resealed_mark(*mark, sealed.len(), crc));
        }
        let Ok(len_now) = u64::try_from(body.len()) else { break };
        let padding_now = (8 - body.len() % 8) % 8;
        let top = if padding_now == 0 { 0 } else { 0x80 | padding_now as u64 };
        sealed.extend_from_slice(&(len_now | top << 56).to_le_bytes());
        sealed.extend_from_slice(&body);
        sealed.extend(std::iter::repeat_n(0, padding_now));
        rest = behind.get(len + padding..).unwrap_or_default();
    }
    sealed.extend_from_slice(rest);
    sealed
}

/// The mark at the end of a batch, a field that etcd skips: the distance to the start of the batch,
/// and a checksum over it and the offset.
const MARK_TAG: u8 = 0x79;
const MARK_LEN: usize = 9;

fn resealed_mark(mark: [u8; MARK_LEN], offset: usize, crc: u32) -> [u8; MARK_LEN] {
    let [tag, _, _, _, _, distance @ ..] = mark;
    let mut check = crc32c::crc32c(&0_u64.to_le_bytes());
    check = crc32c::crc32c_append(check, &(offset as u64).to_le_bytes());
    check = crc32c::crc32c_append(check, &distance);
    check = crc32c::crc32c_append(check, &crc.to_le_bytes());
    let [c0, c1, c2, c3] = check.to_le_bytes();
    let [d0, d1, d2, d3] = distance;
    [tag, c0, c1, c2, c3, d0, d1, d2, d3]
}

/// The length of a record and of its padding.
fn frame(head: u64) -> (usize, usize) {
    let len = usize::try_from(head & 0x00ff_ffff_ffff_ffff).unwrap_or(usize::MAX);
    let padding = if head >> 63 == 1 { usize::try_from(head >> 56 & 7).unwrap_or(0) } else { 0 };
    (len, padding)
}

/// A valid log: a first start, some entries, a snapshot, more entries.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let disk = SimDisk::new(1);
    let dir = Path::new(DIR);
    let metadata = Metadata { node: NodeId(7), cluster: 9 };
    let made = Wal::create_with_segments(Arc::new(disk.clone()), dir, &metadata, SEGMENT_BYTES);
    let mut log = made.expect("a log on an empty disk");
    let mut seeds = Vec::new();
    for index in 1..=12_u64 {
        let data = Bytes::from(vec![b'd'; usize::try_from(index * index * 3).unwrap_or(0)]);
        let entry = Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data };
        let state = HardState { term: Term(1), vote: NodeId(7), commit: Index(index - 1) };
        log.append(&[entry], state).and_then(|()| log.sync()).expect("a disk without faults");
        if index == 6 {
            let conf_state = Some(ConfState { voters: vec![NodeId(7)], ..ConfState::default() });
            let id = EntryId { term: Term(1), index: Index(5) };
            log.save_snapshot(&SnapshotRecord { id, conf_state }).expect("a disk without faults");
        }
        if index % 4 == 0 {
            seeds.push(content(&disk));
        }
    }
    seeds
}

/// The content of the segment, with some of the zeros after it.
fn content(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open(Path::new(SEGMENT), Mode::Read).expect("the segment is there");
    let len = file.len().ok().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).expect("the segment can be read");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used + 1024);
    bytes
}
