//! Crashes at every write, sync, truncation, rename and directory sync of a workload: each image
//! opens, holds everything that was synced, and of the batch under way nothing but a beginning.

use crate::support::rounds;
use bytes::Bytes;
use proto::{ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vfs::SimDisk;
use wal::{Error, Metadata, OpenAt, Recovered, SnapshotRecord, Wal};

const DIR: &str = "/data/wal";
const SEGMENT: u64 = 24 * 1024;
const OPERATIONS: u64 = 120;
const IMAGES: u64 = 4;

fn metadata() -> Metadata {
    Metadata { node: NodeId(0x0720_14b8_29d2_85e6), cluster: 7 }
}

/// Random numbers (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Log {
    entries: BTreeMap<Index, Entry>,
    state: HardState,
    snapshot: EntryId,
}

impl Log {
    fn append(&mut self, entry: &Entry) {
        self.entries.split_off(&entry.index);
        self.entries.insert(entry.index, entry.clone());
        if entry.term > self.state.term {
            // The state that came with the entry may be lost.
            self.state = HardState { term: entry.term, vote: NodeId::NONE, ..self.state };
        }
    }

    fn last(&self) -> EntryId {
        self.entries.last_key_value().map_or(self.snapshot, |(_, last)| last.id())
    }

    /// Whether this is what was found behind the snapshot.
    fn is(&self, snapshot: EntryId, found: &Recovered) -> bool {
        let behind = self.entries.range(snapshot.index.next()..).map(|(_, entry)| entry);
        self.snapshot == snapshot && found.hard_state == self.state && behind.eq(&found.entries)
    }
}

/// The log as it is durable, and what it may become while an operation is under way.
struct Model {
    durable: Log,
    /// In the order in which records reach the file.
    under_way: Vec<Log>,
    /// The newest state given, which the file may lack.
    state: HardState,
}

enum Step {
    Append(Vec<Entry>, HardState),
    Snapshot(SnapshotRecord),
    Tend,
    Release,
}

impl Model {
    fn begin(&mut self, step: &Step) {
        let mut log = self.durable.clone();
        match step {
            Step::Append(entries, state) => {
                self.state = *state;
                let votes = |state: HardState| (state.term, state.vote);
                if entries.is_empty() && votes(*state) == votes(log.state) {
                    return;
                }
                for entry in entries {
                    log.append(entry);
                    self.under_way.push(log.clone());
                }
                log.state = *state;
                self.under_way.push(log);
            }
            Step::Snapshot(snapshot) => {
                self.state.commit = self.state.commit.max(snapshot.id.index);
                log.state = self.state;
                self.under_way.push(log.clone());
                log.snapshot = snapshot.id;
                self.under_way.push(log);
            }
            Step::Tend | Step::Release => {}
        }
    }

    fn end(&mut self) {
        if let Some(last) = self.under_way.drain(..).next_back() {
            self.durable = last;
        }
    }

    fn next_step(&self, rng: &mut Rng) -> Step {
        let last = self.durable.last();
        let mut state = self.state;
        match rng.below(12) {
            0 => {
                state.term = Term(state.term.0 + 1);
                state.vote = NodeId(rng.below(3));
                Step::Append(Vec::new(), state)
            }
            1 => {
                state.commit = Index(state.commit.0 + rng.below(last.index.0 - state.commit.0 + 1));
                Step::Append(Vec::new(), state)
            }
            2 if state.commit > self.durable.snapshot.index => {
                let id = self.durable.entries[&state.commit].id();
                let voters = vec![NodeId(1)];
                let conf_state = Some(ConfState { voters, ..ConfState::default() });
                Step::Snapshot(SnapshotRecord { id, conf_state })
            }
            3 => Step::Tend,
            4 => Step::Release,
            5 if last.index > state.commit => {
                // Another leader overwrites what was not committed.
                state.term = Term(state.term.0 + 1);
                let from = state.commit.0 + 1 + rng.below(last.index.0 - state.commit.0);
                Step::Append(entries(rng, from, state.term), state)
            }
            _ => {
                state.term = state.term.max(Term(1));
                let batch = entries(rng, last.index.0 + 1, state.term);
                state.commit = Index(state.commit.0 + rng.below(last.index.0 - state.commit.0 + 1));
                Step::Append(batch, state)
            }
        }
    }
}

fn entries(rng: &mut Rng, from: u64, term: Term) -> Vec<Entry> {
    let count = 1 + rng.below(4);
    let mut entry = |index| {
        let len = match rng.below(8) {
            0 => 0,
            1 => 3_000 + rng.below(6_000),
            _ => rng.below(300),
        };
        // Some data is all zeros, as a torn sector is.
        let byte = u8::try_from(rng.below(3) * 100).unwrap();
        let data = Bytes::from(vec![byte; usize::try_from(len).unwrap()]);
        Entry { term, index: Index(index), kind: EntryKind::Normal, data }
    };
    (from..from + count).map(&mut entry).collect()
}

fn open(disk: &SimDisk) -> Result<(Wal, EntryId, Recovered), Error> {
    let newest = wal::valid_snapshots(disk, Path::new(DIR))?.pop();
    let snapshot = newest.map(|record| record.id).unwrap_or_default();
    let at = OpenAt { segment_bytes: SEGMENT, ..OpenAt::new(snapshot, Index(0)) };
    let (wal, found) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), &at)?;
    Ok((wal, snapshot, found))
}

/// Opens an image; what was found, if that can be.
fn check(image: &SimDisk, model: &Model, context: &str) -> Log {
    let (_, snapshot, found) = open(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(found.metadata, metadata());
    let fits = |log: &&Log| log.is(snapshot, &found);
    let log = std::iter::once(&model.durable).chain(&model.under_way).find(fits);
    let Some(log) = log else {
        panic!(
            "{context}: found snapshot {snapshot:?}, state {:?}, {} entries up to {:?}; durable {:?}, {:?}, {:?}",
            found.hard_state,
            found.entries.len(),
            found.entries.last().map(Entry::id),
            model.durable.snapshot,
            model.durable.state,
            model.durable.last(),
        )
    };
    log.clone()
}

fn run(seed: u64) -> (u64, u64) {
    let mut rng = Rng(seed);
    let disk = SimDisk::new(seed);
    disk.record_every(1);
    let created =
        Wal::create_with_segments(Arc::new(disk.clone()), Path::new(DIR), &metadata(), SEGMENT);
    let mut wal = created.unwrap();
    let (mut points, mut tries) = (0, 0);
    for recorded in disk.take_recorded() {
        points += 1;
        for image_seed in 0..IMAGES {
            let image = recorded.disk.crash_image(image_seed);
            if wal::exists(&image, Path::new(DIR)).unwrap() {
                let (_, _, found) = open(&image).unwrap();
                assert_eq!((found.entries.len(), found.torn), (0, None));
            } else {
                Wal::create(Arc::new(image), Path::new(DIR), &metadata()).unwrap();
            }
            tries += 1;
        }
    }
    let state = HardState::default();
    let mut model = Model { durable: Log::default(), under_way: Vec::new(), state };
    for operation in 0..OPERATIONS {
        let step = model.next_step(&mut rng);
        model.begin(&step);
        match &step {
            Step::Append(entries, state) => {
                wal.append(entries, *state).unwrap();
                wal.sync().unwrap();
            }
            Step::Snapshot(snapshot) => wal.save_snapshot(snapshot).unwrap(),
            Step::Tend => wal.tend().unwrap(),
            Step::Release => {
                wal.release_to(model.durable.snapshot.index);
                wal.purge(2).unwrap();
            }
        }
        for recorded in disk.take_recorded() {
            points += 1;
            for image_seed in 0..IMAGES {
                let context = format!(
                    "seed {seed} operation {operation} point {} ({:?}) image {image_seed}",
                    recorded.point, recorded.operation
                );
                let image = recorded.disk.crash_image(image_seed);
                let before_opening = image.fork();
                let log = check(&image, &model, &context);
                tries += 1;
                if image_seed == 0 {
                    crash_while_opening(&before_opening, &model, &context);
                    check_goes_on(&image, &log, &context);
                    // The process is killed, but the machine goes on; and later it crashes.
                    let killed = recorded.disk.fork();
                    let log = check(&killed, &model, &context);
                    check_goes_on(&killed, &log, &context);
                }
            }
        }
        model.end();
    }
    (points, tries)
}

/// What one start has found, the next finds too; and what it then writes is durable.
fn check_goes_on(disk: &SimDisk, log: &Log, context: &str) {
    let (mut wal, snapshot, found) = open(disk).unwrap();
    assert!(log.is(snapshot, &found), "{context}: the second start found something else");
    assert_eq!(found.torn, None, "{context}");
    let mut log = log.clone();
    log.state.term = log.state.term.max(Term(1));
    let more = entries(&mut Rng(1), log.last().index.0 + 1, log.state.term);
    wal.append(&more, log.state).unwrap();
    wal.sync().unwrap();
    more.iter().for_each(|entry| log.append(entry));
    for image_seed in 0..2 {
        let (_, snapshot, found) = open(&disk.crash_image(image_seed)).unwrap();
        assert!(log.is(snapshot, &found), "{context}: what was written after a start is lost");
    }
}

fn crash_while_opening(disk: &SimDisk, model: &Model, context: &str) {
    disk.record_every(1);
    open(disk).unwrap();
    for recorded in disk.take_recorded() {
        for image_seed in 0..2 {
            let context = format!("{context}, opening, point {}", recorded.point);
            check(&recorded.disk.crash_image(image_seed), model, &context);
        }
    }
}

#[test]
fn every_crash_leaves_what_was_synced_and_of_the_rest_a_beginning() {
    let (mut points, mut tries) = (0, 0);
    for seed in 0..2 * rounds() {
        let (more_points, more_tries) = run(seed);
        points += more_points;
        tries += more_tries;
    }
    println!("{tries} images of {points} points");
    assert!(points > 400);
}
