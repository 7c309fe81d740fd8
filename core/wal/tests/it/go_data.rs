//! The logs that six versions of Go's etcd left behind: each opens; damage to any one record
//! before the last batch is reported where it is; a torn last batch boots.

use crate::support::{GoLog, content, go_logs, rounds};
use proto::{EntryId, Index};
use std::path::Path;
use std::sync::Arc;
use vfs::{SimDisk, Vfs as _};
use wal::{DumpedRecord, Error, OpenAt, RecordKind, Recovered, SnapshotRecord, Wal};

const DIR: &str = "/wal";

/// The newest snapshot with a file, or the beginning of the log.
fn start(disk: &SimDisk) -> EntryId {
    let known = wal::valid_snapshots(disk, Path::new(DIR)).unwrap();
    assert!(known.contains(&SnapshotRecord::default()) || known[0].id.index > Index(0));
    let loaded = wal::snap::load_newest_valid(disk, Path::new("/snap"), &known).unwrap();
    assert!(loaded.broken.is_empty());
    loaded.snap.map(|snap| snap.id).unwrap_or_default()
}

fn check_sound(log: &GoLog, recovered: &Recovered) {
    assert_ne!(recovered.metadata.node.0, 0, "{}", log.name);
    assert_ne!(recovered.metadata.cluster, 0, "{}", log.name);
    let mut before = recovered.before;
    for entry in &recovered.entries {
        assert_eq!(entry.index, before.index.next(), "{}", log.name);
        assert!(entry.term >= before.term && entry.term <= recovered.hard_state.term);
        before = entry.id();
    }
    assert!(recovered.hard_state.commit <= before.index, "{}", log.name);
    assert!(recovered.hard_state.commit >= recovered.before.index, "{}", log.name);
}

#[test]
fn every_log_opens_and_can_be_written() {
    let Some(logs) = go_logs() else { return };
    let mut entries = 0;
    let mut with_snapshot = 0;
    for log in logs {
        let disk = log.disk.fork();
        let at = OpenAt::new(start(&disk), Index(0));
        let (mut wal, recovered) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), &at).unwrap();
        assert_eq!(recovered.torn, None, "{}", log.name);
        check_sound(log, &recovered);
        assert_eq!(recovered, wal::read(&log.disk, Path::new(DIR), &at).unwrap());
        entries += recovered.entries.len();
        with_snapshot += u32::from(at.snapshot.index > Index(0));

        let mut more = recovered.entries.last().cloned().unwrap_or_default();
        more.index = wal.last_index().next();
        more.term = recovered.hard_state.term;
        wal.append(std::slice::from_ref(&more), recovered.hard_state).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let again = wal::read(&disk, Path::new(DIR), &at).unwrap();
        assert_eq!(again.entries.len(), recovered.entries.len() + 1, "{}", log.name);
        assert_eq!(again.entries.last(), Some(&more));
    }
    println!("{entries} entries, {with_snapshot} logs with a snapshot");
    assert!(entries > 3_000 && with_snapshot > 20);
}

/// The number of records before those that a crash may have torn: the entries at the end with the
/// state records around them.
fn surely_synced(records: &[DumpedRecord]) -> usize {
    let mut rest = records;
    for kind in [RecordKind::State, RecordKind::Entry, RecordKind::State] {
        while let Some((last, before)) = rest.split_last()
            && last.kind == kind
        {
            rest = before;
        }
    }
    rest.len()
}

/// Opens a log in which a record is damaged; false if it reads as if nothing had happened.
fn reports(disk: &SimDisk, at: &OpenAt, record: &DumpedRecord, whole: &Recovered) -> bool {
    match wal::read(disk, Path::new(DIR), at) {
        Err(Error::Corrupt { file, offset, .. }) => {
            // The first crc record is not checked, so damage to it is found at the next record.
            let first = record.kind == RecordKind::Crc && offset == record.len;
            assert_eq!((&file, first || offset == record.offset), (&record.file, true), "{offset}");
            true
        }
        Err(other) => panic!("at {}: {other}", record.offset),
        Ok(recovered) => {
            assert!(recovered == *whole, "damage at {} was not noticed", record.offset);
            false
        }
    }
}

#[test]
fn one_damaged_record_before_the_last_batch_is_reported_where_it_is() {
    let Some(logs) = go_logs() else { return };
    let (mut tries, mut harmless) = (0_u64, 0);
    let stride = if rounds() > 1 { 1 } else { 3 };
    for log in logs {
        let at = OpenAt::new(start(&log.disk), Index(0));
        let records = wal::dump(&log.disk, Path::new(DIR)).unwrap();
        let whole = wal::read(&log.disk, Path::new(DIR), &at).unwrap();
        let first_read = first_read(&records, &log.disk, &at);
        for record in records[first_read..surely_synced(&records)].iter().step_by(stride) {
            let context = format!("{} at {}", log.name, record.offset);
            let zeroed = log.disk.fork();
            let zeros = vec![0; usize::try_from(record.len).unwrap()];
            zeroed.tamper(&record.file, record.offset, &zeros).unwrap();
            assert!(reports(&zeroed, &at, record, &whole), "{context}");

            let headless = log.disk.fork();
            headless.tamper(&record.file, record.offset, &[0; 8]).unwrap();
            assert!(reports(&headless, &at, record, &whole), "{context}");

            for round in 0..rounds() {
                let flipped = log.disk.fork();
                let byte = (tries * 7 + round * 13) % record.len;
                let bit = u32::try_from(tries % 8).unwrap();
                flipped.flip_bit(&record.file, record.offset + byte, bit).unwrap();
                harmless += u64::from(!reports(&flipped, &at, record, &whole));
                tries += 1;
            }
        }
    }
    println!("{tries} flips, of which {harmless} change nothing that is read");
    assert!(tries > 5_000 && harmless * 1_000 < tries);
}

/// The first record of the segment in which reading begins.
fn first_read(records: &[DumpedRecord], disk: &SimDisk, at: &OpenAt) -> usize {
    let files = disk.list(Path::new(DIR)).unwrap();
    let index_of = |name: &str| u64::from_str_radix(&name[17..33], 16).unwrap();
    let mut segments = files.iter().filter(|name| name.ends_with(".wal"));
    let first = segments.rfind(|name| index_of(name) <= at.snapshot.index.0).unwrap();
    records.iter().position(|record| record.file.ends_with(first)).unwrap()
}

#[test]
fn a_torn_last_batch_boots() {
    let Some(logs) = go_logs() else { return };
    let mut tries = 0;
    for log in logs {
        let at = OpenAt::new(start(&log.disk), Index(0));
        let whole = wal::read(&log.disk, Path::new(DIR), &at).unwrap();
        let records = wal::dump(&log.disk, Path::new(DIR)).unwrap();
        let torn = last_batch(&records);
        let file = &torn[0].file;
        let from = torn[0].offset;
        let to = torn.last().map(|last| last.offset + last.len).unwrap();
        let kept = content(&log.disk, file, from);
        let sectors: Vec<u64> = (from / 512..to.div_ceil(512)).collect();
        for pattern in 0..1_u64 << sectors.len().min(8) {
            let disk = log.disk.fork();
            for (bit, sector) in sectors.iter().enumerate() {
                if pattern >> (bit % 8) & 1 == 0 {
                    let start = (sector * 512).max(from);
                    let end = ((sector + 1) * 512).min(to);
                    let zeros = vec![0; usize::try_from(end - start).unwrap()];
                    disk.tamper(file, start, &zeros).unwrap();
                }
            }
            let opened = Wal::open(Arc::new(disk.clone()), Path::new(DIR), &at);
            let (_, recovered) = opened.unwrap_or_else(|error| panic!("{}: {error}", log.name));
            assert!(whole.entries.starts_with(&recovered.entries), "{}", log.name);
            assert!(content(&disk, file, from) == kept, "{}", log.name);
            tries += 1;
        }
    }
    println!("{tries} torn tails");
    assert!(tries > 100);
}

/// The records that the last sync, or writes after it, put there.
fn last_batch(records: &[DumpedRecord]) -> &[DumpedRecord] {
    let mut from = records.len();
    while records[from - 1].kind == RecordKind::State {
        from -= 1;
    }
    // Entries without a state record between them may have been synced one by one.
    if records[from - 1].kind == RecordKind::Entry {
        from -= 1;
    }
    &records[from.min(records.len() - 1)..]
}
