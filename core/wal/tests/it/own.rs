//! Logs written by this crate: their bytes, damage, failing disks, and input that is refused.

use crate::support::{content, rounds};
use bytes::Bytes;
use proto::{ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use random::Random;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{Fault, Injection, LockKind, Mode, Operation, SimDisk, Vfs as _};
use wal::{DumpedRecord, Error, Metadata, OpenAt, RecordKind, Recovered, SnapshotRecord, Wal};

const DIR: &str = "/wal";
const FIRST: &str = "/wal/0000000000000000-0000000000000000.wal";
const SEGMENT: u64 = 16 * 1024;

fn metadata() -> Metadata {
    Metadata { node: NodeId(0x1234_5678_9abc_def0), cluster: 0xfeed }
}

fn create(disk: &SimDisk) -> Wal {
    Wal::create_with_segments(Arc::new(disk.clone()), Path::new(DIR), &metadata(), SEGMENT).unwrap()
}

fn at(index: u64, term: u64) -> OpenAt {
    let snapshot = EntryId { term: Term(term), index: Index(index) };
    OpenAt { segment_bytes: SEGMENT, ..OpenAt::new(snapshot, Index(0)) }
}

fn open(disk: &SimDisk, at: &OpenAt) -> Result<(Wal, Recovered), Error> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), at)
}

fn entry(index: u64, len: usize) -> Entry {
    let byte = u8::try_from(index % 251).unwrap() + 1;
    let data = Bytes::from(vec![byte; len]);
    Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data }
}

fn state(commit: u64) -> HardState {
    HardState { term: Term(1), vote: NodeId(1), commit: Index(commit) }
}

fn put(wal: &mut Wal, from: u64, lens: &[usize]) {
    let entries: Vec<_> = (from..).zip(lens).map(|(index, len)| entry(index, *len)).collect();
    wal.append(&entries, state(from - 1)).unwrap();
    wal.sync().unwrap();
}

/// A log of a few segments, with a snapshot in the middle.
fn sample(disk: &SimDisk) -> Vec<DumpedRecord> {
    let mut wal = create(disk);
    let mut rng = Random::new(5);
    let mut next = 1;
    for round in 0..61 {
        let lens: Vec<_> =
            (0..=rng.below(3)).map(|_| usize::try_from(rng.below(900)).unwrap()).collect();
        put(&mut wal, next, &lens);
        next += lens.len() as u64;
        if round % 20 == 10 {
            let id = EntryId { term: Term(1), index: Index(next - 5) };
            wal.save_snapshot(&SnapshotRecord { id, conf_state: Some(ConfState::default()) })
                .unwrap();
        }
        if round % 7 == 3 {
            let term = Term(1);
            wal.append(&[], HardState { term, vote: NodeId(round), commit: Index(next - 1) })
                .unwrap();
            wal.sync().unwrap();
        }
    }
    drop(wal);
    disk.settle();
    wal::dump(disk, Path::new(DIR)).unwrap()
}

#[test]
fn a_fresh_log_has_the_bytes_of_etcds() {
    let disk = SimDisk::new(1);
    Wal::create(Arc::new(disk.clone()), Path::new(DIR), &metadata()).unwrap();
    let head = content(&disk, Path::new(FIRST), 96);
    assert_eq!(head[..16], [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]);
    let records = wal::dump(&disk, Path::new(DIR)).unwrap();
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordKind::Crc, RecordKind::Metadata, RecordKind::Snapshot]);
    assert_eq!(records[2].data[..], [8, 0, 16, 0]);
    let file = disk.open(Path::new(FIRST), Mode::Read).unwrap();
    assert_eq!(file.len().unwrap(), 64_000_000);
    assert_eq!(disk.list(Path::new("/")).unwrap(), ["wal"]);
    assert!(matches!(
        Wal::create(Arc::new(disk), Path::new(DIR), &metadata()),
        Err(Error::Exists { .. })
    ));
}

#[test]
fn a_commit_index_alone_is_written_with_the_next_batch() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[10]);
    let points = disk.points();
    wal.append(&[], state(1)).unwrap();
    wal.sync().unwrap();
    assert_eq!(disk.points(), points, "nothing to write, nothing to sync");
    put(&mut wal, 2, &[10, 20, 30]);
    assert_eq!(disk.points(), points + 2, "one write and one sync");
    drop(wal);
    let (_, found) = open(&disk, &at(0, 0)).unwrap();
    assert_eq!(found.hard_state, state(1));
    assert_eq!(found.entries, [entry(1, 10), entry(2, 10), entry(3, 20), entry(4, 30)]);
}

#[test]
fn segments_are_cut_named_released_and_purged() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    for index in 1..=40 {
        put(&mut wal, index, &[3_000]);
        wal.tend().unwrap();
    }
    let names = disk.list(Path::new(DIR)).unwrap();
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).collect();
    assert!(segments.len() >= 6, "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".tmp")), "one is made ahead");
    let other = disk.open(&Path::new(DIR).join(segments[0]), Mode::Write).unwrap();
    assert!(!other.try_lock(LockKind::OpenFileDescription).unwrap());
    let id = EntryId { term: Term(1), index: Index(30) };
    wal.save_snapshot(&SnapshotRecord { id, conf_state: None }).unwrap();
    assert!(wal.purge(1).unwrap().is_empty(), "nothing is released");
    wal.release_to(Index(30));
    assert_eq!(wal.purge(0).unwrap(), Vec::<PathBuf>::new());
    let before = segments.len();
    assert_eq!(wal.purge(before - 1).unwrap(), [Path::new(DIR).join(segments[0])]);
    assert!(other.try_lock(LockKind::OpenFileDescription).unwrap());
    let purged = wal.purge(1).unwrap().len();
    wal.close().unwrap();
    let names = disk.list(Path::new(DIR)).unwrap();
    assert_eq!(names.len(), before - 1 - purged, "and the one made ahead is gone: {names:?}");
    let (_, found) = open(&disk, &at(30, 1)).unwrap();
    assert_eq!(found.entries.len(), 10);
    assert!(matches!(open(&disk, &at(0, 0)), Err(Error::NotFound { .. })), "purged");
}

#[test]
fn one_damaged_record_before_the_last_batch_is_reported_where_it_is() {
    let disk = SimDisk::new(1);
    let records = sample(&disk);
    let whole = open(&disk.fork(), &at(0, 0)).unwrap().1;
    let last = records.len() - 1;
    let batch = (0..last).rev().find(|at| records[*at].kind != RecordKind::Entry).unwrap() + 1;
    assert!(batch < last, "the last batch has entries");
    let mut rng = Random::new(9);
    let (mut flips, mut harmless) = (0_u64, 0_u64);
    for record in &records[..batch] {
        let zeroed = disk.fork();
        let zeros = vec![0; usize::try_from(record.len).unwrap()];
        zeroed.tamper(&record.file, record.offset, &zeros).unwrap();
        assert!(refused(&zeroed, record, &whole));
        let sector = disk.fork();
        let from = record.offset / 512 * 512;
        let end = sector.open(&record.file, Mode::Read).unwrap().len().unwrap();
        let sector_len = usize::try_from((end - from).min(512)).unwrap();
        let changed = |other: &&DumpedRecord| {
            let start = usize::try_from(other.offset.max(from)).unwrap();
            let bytes = content(&disk, &record.file, (other.offset + other.len).min(from + 512));
            let touched = bytes.get(start..).is_some_and(|b| b.iter().any(|byte| *byte != 0));
            other.file == record.file && touched
        };
        let previous = records.iter().find(changed);
        sector.tamper(&record.file, from, &vec![0; sector_len]).unwrap();
        let in_last = record.file == records[last].file && from + 512 > records[batch].offset;
        if !in_last {
            assert!(refused(&sector, previous.unwrap(), &whole));
        }
        for _ in 0..4 * rounds() {
            let flipped = disk.fork();
            let offset = record.offset + rng.below(record.len);
            flipped.flip_bit(&record.file, offset, u32::try_from(rng.below(8)).unwrap()).unwrap();
            flips += 1;
            harmless += u64::from(!refused(&flipped, record, &whole));
        }
    }
    println!("{flips} flips, of which {harmless} change nothing that is read");
    assert!(harmless * 100 < flips);
}

/// True if opening reports this record as damaged and changes nothing; false if it opens the log
/// with the original content.
fn refused(disk: &SimDisk, record: &DumpedRecord, whole: &Recovered) -> bool {
    let points = disk.points();
    match open(disk, &at(0, 0)) {
        Err(Error::Corrupt { file, offset, .. }) => {
            let first = record.kind == RecordKind::Crc && offset == record.len;
            let place = (&record.file, true);
            assert_eq!((&file, first || offset == record.offset), place, "at {offset}");
            assert_eq!(disk.points(), points, "nothing is written");
            true
        }
        Err(other) => panic!("{other}"),
        Ok((_, found)) => {
            assert!(found == *whole, "damage at {} was not noticed", record.offset);
            false
        }
    }
}

#[test]
fn a_torn_last_batch_is_copied_and_cut() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[100]);
    put(&mut wal, 2, &[2_000, 100, 1_500]);
    drop(wal);
    disk.settle();
    let records = wal::dump(&disk, Path::new(DIR)).unwrap();
    let start = records[records.len() - 4].offset;
    let end = records.last().map(|last| last.offset + last.len).unwrap();
    let sectors: Vec<_> = (start / 512..end.div_ceil(512)).collect();
    let whole = open(&disk.fork(), &at(0, 0)).unwrap().1;
    for pattern in 0..1_u64 << sectors.len() {
        let torn = disk.fork();
        for (bit, sector) in sectors.iter().enumerate() {
            if pattern >> bit & 1 == 0 {
                let (from, to) = ((sector * 512).max(start), ((sector + 1) * 512).min(end));
                let zeros = vec![0; usize::try_from(to - from).unwrap()];
                torn.tamper(Path::new(FIRST), from, &zeros).unwrap();
            }
        }
        let as_found = content(&torn, Path::new(FIRST), SEGMENT);
        let (mut wal, found) = open(&torn, &at(0, 0)).unwrap();
        assert!(whole.entries.starts_with(&found.entries));
        if let Some(tail) = &found.torn {
            assert_eq!(tail.file, Path::new(FIRST));
            let copy = tail.copy.clone().unwrap();
            assert_eq!(copy, Path::new(&format!("{FIRST}.broken")));
            assert!(content(&torn, &copy, SEGMENT) == as_found);
            let rest = content(&torn, Path::new(FIRST), SEGMENT);
            let cut = usize::try_from(tail.offset).unwrap();
            assert!(rest[cut..].iter().all(|byte| *byte == 0), "only zeros follow");
        }
        let next = found.entries.len() as u64 + 1;
        put(&mut wal, next, &[700]);
        drop(wal);
        let (_, again) = open(&torn, &at(0, 0)).unwrap();
        assert_eq!((again.entries.len() as u64, again.torn), (next, None));
    }
}

/// Its batch is a state record with the commit index of the snapshot, and the snapshot record. Once, a
/// log that had lost the second one was refused: its commit index was beyond its last entry.
#[test]
fn a_torn_record_of_a_received_snapshot_is_cut_with_its_commit_index() {
    let snapshot = SnapshotRecord {
        id: EntryId { term: Term(2), index: Index(50) },
        conf_state: Some(ConfState { voters: vec![NodeId(1)], ..ConfState::default() }),
    };
    let mut torn_between = 0;
    // The length moves the batch over the border of two sectors.
    for len in 400..912 {
        let disk = SimDisk::new(1);
        let mut wal = create(&disk);
        put(&mut wal, 1, &[len]);
        let term_2 = HardState { term: Term(2), vote: NodeId(2), commit: Index(1) };
        wal.append(&[], term_2).unwrap();
        wal.sync().unwrap();
        wal.save_snapshot(&snapshot).unwrap();
        drop(wal);
        disk.settle();
        let records = wal::dump(&disk, Path::new(DIR)).unwrap();
        let [.., state, last] = &records[..] else { panic!("two records") };
        let border = (last.offset + last.len) / 512 * 512;
        if border <= state.offset {
            continue;
        }
        let zeros = vec![0; 512];
        disk.tamper(Path::new(FIRST), border, &zeros).unwrap();
        let (mut wal, found) = open(&disk, &at(0, 0)).unwrap();
        if wal.last_index() == Index(50) {
            continue; // Only the end of the record is lost, which holds no data.
        }
        torn_between += u64::from(border >= state.offset + state.len);
        assert_eq!((found.entries.len(), found.hard_state), (1, term_2), "length {len}");
        assert_eq!(wal.last_index(), Index(1));
        let next = Entry { term: Term(2), ..entry(2, 100) };
        wal.append(&[next], HardState { commit: Index(2), ..term_2 }).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let (_, again) = open(&disk, &at(0, 0)).unwrap();
        assert_eq!((again.entries.len(), again.torn), (2, None));
    }
    assert!(torn_between > 0, "the state record was whole in none");
}

#[test]
fn a_failing_disk_poisons_and_nothing_is_acknowledged() {
    for (operation, fault) in [
        (Operation::Write, Fault::Io),
        (Operation::Write, Fault::NoSpace),
        (Operation::Sync, Fault::Io),
    ] {
        for seed in 0..8 {
            let disk = SimDisk::new(seed);
            let mut wal = create(&disk);
            put(&mut wal, 1, &[100]);
            disk.inject(Injection::first(operation, fault));
            let failed = wal.append(&[entry(2, 5_000)], state(1)).and_then(|()| wal.sync());
            assert!(matches!(failed, Err(Error::Io { .. })));
            assert!(wal.is_poisoned());
            assert!(matches!(wal.append(&[entry(3, 1)], state(1)), Err(Error::Poisoned)));
            assert!(matches!(wal.sync(), Err(Error::Poisoned)), "a sync is never tried again");
            assert!(matches!(wal.tend(), Err(Error::Poisoned)));
            assert!(matches!(wal.purge(1), Err(Error::Poisoned)));
            let snapshot = SnapshotRecord::default();
            assert!(matches!(wal.save_snapshot(&snapshot), Err(Error::Poisoned)));
            drop(wal);
            let (_, found) = open(&disk.crash_image(seed), &at(0, 0)).unwrap();
            assert_eq!(found.entries[0], entry(1, 100));
        }
    }
}

#[test]
fn a_failure_while_cutting_poisons() {
    let mut poisoned = 0;
    for nth in 0.. {
        let disk = SimDisk::new(nth);
        let mut wal = create(&disk);
        put(&mut wal, 1, &[20_000]);
        let before = disk.points();
        disk.inject(Injection::at(before + 1 + nth, Fault::Io));
        let tended = wal.tend();
        if disk.points() <= before + nth {
            break;
        }
        if tended.is_ok() {
            // The next segment could not be prepared.
            put(&mut wal, 2, &[1]);
            continue;
        }
        poisoned += 1;
        assert!(matches!(wal.append(&[entry(2, 1)], state(1)), Err(Error::Poisoned)));
        drop(wal);
        let (_, found) = open(&disk.crash_image(nth), &at(0, 0)).unwrap();
        assert_eq!(found.entries, [entry(1, 20_000)]);
    }
    assert_eq!(poisoned, 6, "cut, sync, write the head, sync, rename, sync the directory");
}

#[test]
fn a_failure_while_creating_leaves_no_log() {
    for nth in 0.. {
        let disk = SimDisk::new(nth);
        disk.inject(Injection::at(1 + nth, Fault::Io));
        match Wal::create(Arc::new(disk.clone()), Path::new(DIR), &metadata()) {
            Ok(_) => {
                assert!(nth > 6, "each step was tried");
                break;
            }
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                assert!(!wal::exists(&disk, Path::new(DIR)).unwrap(), "step {nth}");
                Wal::create(Arc::new(disk), Path::new(DIR), &metadata()).unwrap();
            }
        }
    }
}

#[test]
fn cve_2020_15106_a_length_field_larger_than_the_file_is_refused() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[100]);
    put(&mut wal, 2, &[100]);
    put(&mut wal, 3, &[100]);
    drop(wal);
    disk.settle();
    let records = wal::dump(&disk, Path::new(DIR)).unwrap();
    let whole = open(&disk.fork(), &at(0, 0)).unwrap().1;
    for record in &records[..records.len() - 2] {
        for field in [
            u64::MAX,
            u64::MAX >> 1,
            1 << 55,
            0x00ff_ffff_ffff_fff8,
            0x80ff_ffff_ffff_fff8,
            0x8700_0000_0000_0001,
            0x8700_0000_0000_0009,
            1_000_000_000_000,
            SEGMENT,
            8,
            1,
        ] {
            let bad = disk.fork();
            bad.tamper(&record.file, record.offset, &field.to_le_bytes()).unwrap();
            assert!(refused(&bad, record, &whole), "{field:#x} at {}", record.offset);
        }
    }
}

/// Writes a record behind the last one of the first segment, with the crc that belongs there.
fn add_record(disk: &SimDisk, kind: u8, data: &[u8]) {
    let last = wal::dump(disk, Path::new(DIR)).unwrap().pop().unwrap();
    let end = last.offset + last.len;
    let bytes = content(disk, Path::new(FIRST), end);
    let crc = &bytes[usize::try_from(last.offset).unwrap() + 8 + 3..];
    let parts = crc.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let before =
        crc[..parts].iter().rev().fold(0_u64, |all, byte| all << 7 | u64::from(byte & 0x7f));
    let before = u32::try_from(before).unwrap();
    let mut record = vec![0x08, kind, 0x10];
    prost::encoding::encode_varint(crc32c::crc32c_append(before, data).into(), &mut record);
    record.push(0x1a);
    prost::encoding::encode_varint(data.len() as u64, &mut record);
    record.extend_from_slice(data);
    let pad = (8 - record.len() % 8) % 8;
    let top = if pad == 0 { 0 } else { 0x80 | pad as u64 };
    let mut frame = (record.len() as u64 | top << 56).to_le_bytes().to_vec();
    frame.extend_from_slice(&record);
    frame.resize(frame.len() + pad, 0);
    disk.tamper(Path::new(FIRST), end, &frame).unwrap();
}

/// GHSA-m332-53r6-2w93: etcd took the index of such an entry for a place in a list.
#[test]
fn cve_2020_15112_an_entry_far_behind_the_last_one_is_refused() {
    for index in [2, 3, 1_000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let disk = SimDisk::new(1);
        let mut wal = create(&disk);
        put(&mut wal, 1, &[3]);
        drop(wal);
        let mut entry = vec![0x10, 1, 0x18];
        prost::encoding::encode_varint(index, &mut entry);
        add_record(&disk, 2, &entry);
        match open(&disk, &at(0, 0)) {
            Ok((_, found)) => assert_eq!((index, found.entries.len()), (2, 2)),
            Err(error) => {
                let want = format!("entry {index} follows entry 1");
                assert!(index != 2 && error.to_string().contains(&want), "{error}");
            }
        }
    }
}

/// etcd's page writer panicked at some lengths. This crate has none; every length of a batch around
/// the ends of its sectors and pages comes back.
#[test]
fn cve_2022_34038_entries_of_every_length_come_back() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    let lens: Vec<usize> = (0..40).chain(480..560).chain(4_060..4_140).collect();
    for (index, len) in (1..).zip(&lens) {
        put(&mut wal, index, &[*len]);
        wal.tend().unwrap();
    }
    drop(wal);
    let (_, found) = open(&disk, &at(0, 0)).unwrap();
    let read: Vec<usize> = found.entries.iter().map(|entry| entry.data.len()).collect();
    assert_eq!(read, lens);
}

#[test]
fn an_entry_without_an_index_is_refused() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[3]);
    drop(wal);
    let last = wal::dump(&disk, Path::new(DIR)).unwrap().pop().unwrap();
    let end = last.offset + last.len;
    let bytes = content(&disk, Path::new(FIRST), end);
    // The running crc, which a record without data does not change.
    let record = &bytes[usize::try_from(last.offset).unwrap() + 8..];
    let crc_len = record[3..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let mut empty = vec![0x08, 2, 0x10];
    empty.extend_from_slice(&record[3..3 + crc_len]);
    let pad = (8 - empty.len() % 8) % 8;
    let top = if pad == 0 { 0 } else { 0x80 | pad as u64 };
    let mut frame = (empty.len() as u64 | top << 56).to_le_bytes().to_vec();
    frame.extend_from_slice(&empty);
    frame.resize(frame.len() + pad, 0);
    disk.tamper(Path::new(FIRST), end, &frame).unwrap();
    let error = open(&disk, &at(0, 0)).unwrap_err();
    assert!(error.to_string().contains("an entry without an index"), "{error}");
}

#[test]
fn missing_segments_and_segments_of_another_log_are_refused() {
    let disk = SimDisk::new(1);
    let records = sample(&disk);
    let names: Vec<_> = disk.list(Path::new(DIR)).unwrap();
    assert!(names.len() > 3);
    let open = |disk: &SimDisk| open(disk, &at(0, 0)).map(drop);

    let hole = disk.fork();
    hole.remove_file(&Path::new(DIR).join(&names[1])).unwrap();
    assert!(matches!(open(&hole), Err(Error::NotFound { .. })));
    let empty = disk.fork();
    empty.cut(&Path::new(DIR).join(&names[1]), 0).unwrap();
    assert!(matches!(open(&empty), Err(Error::Corrupt { .. })));
    let empty = disk.fork();
    let last = Path::new(DIR).join(names.last().unwrap());
    empty.cut(&last, 0).unwrap();
    assert!(matches!(open(&empty), Err(Error::Corrupt { offset: 0, .. })));
    let short = disk.fork();
    let second = Path::new(DIR).join(&names[1]);
    let len = short.open(&second, Mode::Read).unwrap().len().unwrap();
    short.cut(&second, len - 8).unwrap();
    assert!(matches!(open(&short), Err(Error::Corrupt { .. })));

    // The second segment of another member's log.
    let other = SimDisk::new(2);
    let twin = Metadata { node: NodeId(1), cluster: 1 };
    let mut wal =
        Wal::create_with_segments(Arc::new(other.clone()), Path::new(DIR), &twin, SEGMENT).unwrap();
    put(&mut wal, 1, &[30_000]);
    put(&mut wal, 2, &[100]);
    drop(wal);
    let foreign = disk.fork();
    let theirs = other.list(Path::new(DIR)).unwrap();
    vfs::copy_file(&other, &Path::new(DIR).join(&theirs[1]), &foreign, &second).unwrap();
    assert!(matches!(open(&foreign), Err(Error::Corrupt { offset: 0, .. })));

    let missing = SimDisk::new(3);
    assert!(matches!(open(&missing), Err(Error::NotFound { .. })));
    let unknown = at(records.len() as u64, 9);
    assert!(self::open(&disk.fork(), &unknown).is_err(), "a snapshot that the log lacks");
    let ahead = OpenAt { db_applied: Index(1_000_000), ..at(0, 0) };
    assert!(matches!(self::open(&disk.fork(), &ahead), Err(Error::Corrupt { .. })));

    let held = disk.open(&last, Mode::Write).unwrap();
    assert!(held.try_lock(LockKind::OpenFileDescription).unwrap());
    assert!(matches!(open(&disk), Err(Error::Locked { .. })));
}

#[test]
fn entries_larger_than_a_segment_and_than_ten_mebibytes_come_back() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[11 << 20, 0, 100_000]);
    put(&mut wal, 4, &[1]);
    drop(wal);
    let (_, found) = open(&disk, &at(0, 0)).unwrap();
    assert_eq!(found.entries, [entry(1, 11 << 20), entry(2, 0), entry(3, 100_000), entry(4, 1)]);
}

#[test]
fn applied_entries_can_be_left_out() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    for index in 1..=50 {
        put(&mut wal, index, &[100]);
    }
    drop(wal);
    let limited = OpenAt { applied_bytes_max: 1_000, db_applied: Index(40), ..at(0, 0) };
    let found = wal::read(&disk, Path::new(DIR), &limited).unwrap();
    assert_eq!(found.before, EntryId { term: Term(1), index: Index(40) });
    assert_eq!(found.entries.len(), 10);
    let limited = OpenAt { applied_bytes_max: 2_000, ..limited };
    let found = wal::read(&disk, Path::new(DIR), &limited).unwrap();
    assert_eq!(found.before.index, Index(30));
    assert_eq!(found.entries[0].index, Index(31));
}

#[test]
fn a_snapshot_record_is_valid_up_to_the_commit_index() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, &[1, 1, 1]);
    let id = EntryId { term: Term(1), index: Index(3) };
    let snapshot = SnapshotRecord { id, conf_state: Some(ConfState::default()) };
    wal.save_snapshot(&snapshot).unwrap();
    drop(wal);
    let image = disk.crash_image(3);
    let known = wal::valid_snapshots(&image, Path::new(DIR)).unwrap();
    assert_eq!(known, [SnapshotRecord::default(), snapshot]);
    let (_, found) = open(&image, &at(3, 1)).unwrap();
    assert_eq!((found.hard_state, found.entries.len()), (state(3), 0));
}

#[test]
fn random_damage_never_panics_and_never_yields_other_entries() {
    let disk = SimDisk::new(1);
    let records = sample(&disk);
    let whole = open(&disk.fork(), &at(0, 0)).unwrap().1;
    let files: Vec<_> = disk.list(Path::new(DIR)).unwrap();
    let mut rng = Random::new(77);
    let mut opened = 0;
    for _ in 0..300 * rounds() {
        let bad = disk.fork();
        for _ in 0..=rng.below(3) {
            mutate(&bad, &files, &records, &mut rng);
        }
        let known = wal::valid_snapshots(&bad, Path::new(DIR));
        drop(known);
        if let Ok((_, found)) = open(&bad, &at(0, 0)) {
            opened += 1;
            assert!(whole.entries.starts_with(&found.entries), "entries that were never written");
        }
    }
    println!("{opened} opened");
}

fn mutate(disk: &SimDisk, files: &[String], records: &[DumpedRecord], rng: &mut Random) {
    let pick = |rng: &mut Random, count: usize| usize::try_from(rng.below(count as u64)).unwrap();
    let record = &records[pick(rng, records.len())];
    let bytes: Vec<u8> = (0..1 + rng.below(24)).map(|_| rng.draw().to_le_bytes()[0]).collect();
    let offset = record.offset + rng.below(record.len);
    let file = Path::new(DIR).join(&files[pick(rng, files.len())]);
    // Changes after the end of the file fail.
    let _changed = match rng.below(6) {
        0 => disk.tamper(&record.file, record.offset, &bytes[..bytes.len().min(8)]),
        1 => disk.cut(&file, rng.below(SEGMENT)),
        2 => disk.tamper(&file, rng.below(SEGMENT), &bytes),
        3 => disk.flip_bit(&record.file, offset, u32::try_from(rng.below(8)).unwrap()),
        4 => disk.tamper(&record.file, offset / 512 * 512, &[0; 512]),
        _ => disk.tamper(&record.file, offset, &bytes),
    };
}
