//! Entries are read back from the log as they were written last.

use bytes::Bytes;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use random::Random;
use std::path::Path;
use std::sync::Arc;
use vfs::SimDisk;
use wal::{EntryRead, Metadata, OpenAt, SnapshotRecord, Wal};

const DIR: &str = "/wal";
const SEGMENT: u64 = 300 << 10;

/// What a log should contain.
struct Twin {
    disk: SimDisk,
    wal: Wal,
    /// The entry before the first one.
    base: EntryId,
    entries: Vec<Entry>,
    term: u64,
}

impl Twin {
    fn new(seed: u64) -> Twin {
        let disk = SimDisk::new(seed);
        let metadata = Metadata { node: NodeId(1), cluster: 2 };
        let vfs = Arc::new(disk.clone());
        let wal = Wal::create_with_segments(vfs, Path::new(DIR), &metadata, SEGMENT).unwrap();
        Twin { disk, wal, base: EntryId::default(), entries: Vec::new(), term: 1 }
    }

    fn last(&self) -> u64 {
        self.base.index.0 + self.entries.len() as u64
    }

    /// Appends entries; sometimes those of a new leader, which replace the last ones.
    fn append(&mut self, random: &mut Random) {
        let replaced =
            if random.chance(40) { random.index(self.entries.len().min(9) + 1) } else { 0 };
        self.term += u64::from(replaced > 0);
        self.entries.truncate(self.entries.len() - replaced);
        let first = self.last() + 1;
        let batch: Vec<Entry> = (first..=first + random.below(6))
            .map(|index| Entry {
                term: Term(self.term),
                index: Index(index),
                kind: EntryKind::Normal,
                data: Bytes::from(vec![1; random.index(20_000)]),
            })
            .collect();
        let state = HardState { term: Term(self.term), vote: NodeId(1), commit: self.base.index };
        self.wal.append(&batch, state).unwrap();
        self.wal.sync().unwrap();
        self.entries.extend(batch);
    }

    fn reopen(&mut self) {
        let mut at = OpenAt::new(EntryId::default(), Index(0));
        at.segment_bytes = SEGMENT;
        let disk = SimDisk::new(0);
        let metadata = Metadata { node: NodeId(1), cluster: 2 };
        let other = Wal::create(Arc::new(disk), Path::new(DIR), &metadata).unwrap();
        std::mem::replace(&mut self.wal, other).close().unwrap();
        at.snapshot = self.base;
        let vfs = Arc::new(self.disk.clone());
        self.wal = Wal::open(vfs, Path::new(DIR), &at).unwrap().0;
    }

    fn read(&self, first: u64, last: u64, bytes_max: usize) -> Option<(EntryId, Vec<Entry>)> {
        let mut read = EntryRead::new(Index(first), Index(last), bytes_max);
        let mut pieces = 0;
        while !self.wal.read_some(&mut read).unwrap() {
            pieces += 1;
            assert!(pieces < 100, "it ends");
        }
        read.finish()
    }

    fn check(&self, random: &mut Random) {
        let base = self.base.index.0;
        let first = base + 1 + random.below(self.entries.len() as u64);
        let bytes_max = random.index(400_000);
        let (prev, read) = self.read(first, self.last(), bytes_max).unwrap();
        let at = usize::try_from(first - base - 1).unwrap();
        let before = at.checked_sub(1).map_or(self.base, |at| self.entries[at].id());
        assert_eq!(prev, before);
        assert_eq!(read[..], self.entries[at..at + read.len()]);
        let len = |entries: &[Entry]| entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        assert!(read.len() == 1 || len(&read) <= bytes_max);
        let is_last = at + read.len() == self.entries.len();
        let next = len(&self.entries[at..self.entries.len().min(at + read.len() + 1)]);
        assert!(is_last || next + 40 * (read.len() + 1) > bytes_max);
    }
}

#[test]
fn what_is_read_back_was_written_last() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut twin = Twin::new(seed);
        for step in 0..120 {
            twin.append(&mut random);
            twin.wal.tend().unwrap();
            twin.check(&mut random);
            if step % 40 == 39 {
                twin.reopen();
                twin.check(&mut random);
            }
        }
    }
}

#[test]
fn entries_before_a_received_snapshot_are_not_read_back() {
    let mut random = Random::new(3);
    let mut twin = Twin::new(3);
    twin.append(&mut random);
    let id = EntryId { term: Term(9), index: Index(500) };
    twin.wal.save_snapshot(&SnapshotRecord { id, conf_state: None }).unwrap();
    twin.wal.follow_snapshot(id);
    (twin.base, twin.term) = (id, 9);
    twin.entries.clear();
    twin.append(&mut random);
    for _ in 0..2 {
        assert_eq!(twin.read(1, 501, 1 << 20), None);
        assert_eq!(twin.read(500, 501, 1 << 20), None);
        let (prev, entries) = twin.read(501, twin.last(), 1 << 20).unwrap();
        assert_eq!((prev, &entries), (id, &twin.entries));
        twin.reopen();
    }
}

#[test]
fn a_read_behind_the_end_or_in_removed_segments_finds_nothing() {
    let mut random = Random::new(5);
    let mut twin = Twin::new(5);
    while twin.entries.len() < 200 {
        twin.append(&mut random);
        twin.wal.tend().unwrap();
    }
    let last = twin.last();
    assert_eq!(twin.read(last + 1, last + 5, 1 << 20), None);
    assert!(twin.read(1, last, 1 << 20).is_some());
    twin.wal.release_to(Index(150));
    assert!(!twin.wal.purge(2).unwrap().is_empty());
    assert_eq!(twin.read(1, last, 1 << 20), None);
    assert!(twin.read(last, last, 1 << 20).is_some());
}
