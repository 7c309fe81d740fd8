//! A full disk: only the write of a batch needs space now, so only it may fail the member.

use bytes::Bytes;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::path::Path;
use std::sync::Arc;
use vfs::{Fault, Injection, Mode, Operation, SimDisk, Vfs as _};
use wal::snap::{self, SnapFile};
use wal::{Metadata, OpenAt, Recovered, SnapshotRecord, Wal};

const DIR: &str = "/wal";
const FIRST: &str = "/wal/0000000000000000-0000000000000000.wal";
const SEGMENT: u64 = 16 * 1024;
/// Calls that prepare a segment ahead of time.
const PREPARATIONS: [Operation; 3] = [Operation::Create, Operation::SetLen, Operation::Allocate];

fn create(disk: &SimDisk) -> Wal {
    let metadata = Metadata { node: NodeId(5), cluster: 7 };
    Wal::create_with_segments(Arc::new(disk.clone()), Path::new(DIR), &metadata, SEGMENT).unwrap()
}

fn open(disk: &SimDisk) -> (Wal, Recovered) {
    let at = OpenAt { segment_bytes: SEGMENT, ..OpenAt::new(EntryId::default(), Index(0)) };
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), &at).unwrap()
}

fn put(wal: &mut Wal, index: u64, len: usize) {
    let data = Bytes::from(vec![1; len]);
    let entry = Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data };
    let state = HardState { term: Term(1), vote: NodeId(5), commit: Index(index - 1) };
    wal.append(&[entry], state).unwrap();
    wal.sync().unwrap();
    wal.tend().unwrap();
}

/// From now on the call fails for want of space, on files whose path contains `path`.
fn fill(disk: &SimDisk, operation: Operation, path: &str) {
    let path = path.to_owned();
    let fault = Injection::first(operation, Fault::NoSpace);
    disk.inject(Injection { path, lasting: true, ..fault });
}

fn segments(disk: &SimDisk) -> usize {
    let names = disk.list(Path::new(DIR)).unwrap();
    names.iter().filter(|name| name.ends_with(".wal")).count()
}

#[test]
fn a_log_is_written_while_there_is_no_space_for_the_next_segment() {
    for operation in PREPARATIONS {
        let disk = SimDisk::new(1);
        let mut wal = create(&disk);
        fill(&disk, operation, ".tmp");
        for index in 1..=60 {
            put(&mut wal, index, 1_000);
        }
        assert!(!wal.is_poisoned());
        assert_eq!(segments(&disk), 1, "the segment grows");
        let left = disk.list(Path::new(DIR)).unwrap();
        assert!(left.iter().all(|name| name.ends_with(".wal")), "space is given back: {left:?}");
        drop(wal);
        let (_, recovered) = open(&disk.crash_image(1));
        assert_eq!(recovered.entries.len(), 60);
    }
}

#[test]
fn a_start_needs_no_space_for_the_next_segment() {
    for operation in PREPARATIONS {
        let disk = SimDisk::new(1);
        let mut wal = create(&disk);
        for index in 1..=20 {
            put(&mut wal, index, 1_000);
        }
        drop(wal);
        fill(&disk, operation, ".tmp");
        let (mut wal, recovered) = open(&disk);
        assert_eq!(recovered.entries.len(), 20);
        put(&mut wal, 21, 1_000);
        assert!(!wal.is_poisoned());
    }
}

#[test]
fn the_next_segment_is_made_once_there_is_space() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    let fault = Injection::first(Operation::Allocate, Fault::NoSpace);
    disk.inject(fault);
    for index in 1..=60 {
        put(&mut wal, index, 1_000);
    }
    assert!(segments(&disk) >= 3);
    drop(wal);
    let (_, recovered) = open(&disk.crash_image(1));
    assert_eq!(recovered.entries.len(), 60);
}

#[test]
fn a_failed_preparation_is_not_tried_again_with_every_batch() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    fill(&disk, Operation::Allocate, ".tmp");
    put(&mut wal, 1, 10);
    let points = disk.points();
    put(&mut wal, 2, 10);
    assert_eq!(disk.points(), points + 2, "a write and a sync");
}

#[test]
fn a_torn_tail_is_cut_without_space_for_its_copy_or_for_a_whole_segment() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    put(&mut wal, 1, 1_000);
    drop(wal);
    let end = wal::dump(&disk, Path::new(DIR)).unwrap().last().map(|last| last.offset + last.len);
    disk.settle();
    // A part of the next batch: the length of a frame, and zeros.
    disk.tamper(Path::new(FIRST), end.unwrap(), &[200]).unwrap();
    for (operation, path) in [
        (Operation::Create, ".broken"),
        (Operation::Write, ".broken"),
        (Operation::Sync, ".broken"),
        (Operation::Allocate, ".wal"),
    ] {
        let disk = disk.fork();
        fill(&disk, operation, path);
        let (mut wal, recovered) = open(&disk);
        let torn = recovered.torn.unwrap();
        assert_eq!(torn.copy.is_none(), path == ".broken");
        assert_eq!(disk.exists(Path::new(&format!("{FIRST}.broken"))).unwrap(), path != ".broken");
        put(&mut wal, 2, 1_000);
        drop(wal);
        let (_, recovered) = open(&disk.crash_image(1));
        assert_eq!((recovered.entries.len(), recovered.torn), (2, None));
    }
}

#[test]
fn old_files_that_cannot_be_removed_fail_nothing() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk);
    for index in 1..=60 {
        put(&mut wal, index, 1_000);
    }
    let id = EntryId { term: Term(1), index: Index(50) };
    wal.save_snapshot(&SnapshotRecord { id, conf_state: None }).unwrap();
    wal.release_to(id.index);
    let dir = Path::new("/snap");
    disk.create_dir_all(dir).unwrap();
    for index in [10, 20] {
        let id = EntryId { term: Term(1), index: Index(index) };
        snap::save(&disk, dir, &SnapFile { id, ..SnapFile::default() }).unwrap();
    }
    disk.open(&dir.join("tmp1"), Mode::Create).unwrap();
    disk.open(&dir.join("0000000000000005.snap.db"), Mode::Create).unwrap();
    let fork = disk.fork();
    fill(&disk, Operation::Remove, "");
    assert!(wal.purge(1).unwrap().is_empty());
    assert!(!wal.is_poisoned());
    assert!(snap::purge(&disk, dir, 1).is_empty());
    assert!(snap::remove_leftovers(&disk, dir).is_empty());
    assert!(snap::release_databases(&disk, dir, id.index).is_empty());
    put(&mut wal, 61, 10);
    drop(wal);
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.entries.len(), 61, "a start removes old files if it can");
    assert_eq!(snap::purge(&fork, dir, 1).len(), 1);
    assert_eq!(snap::remove_leftovers(&fork, dir), [dir.join("tmp1")]);
}
