//! The machine stops or the disk fails at any call: the file then contains exactly the last
//! acknowledged commit or the one after it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bolt::{Db, Error, Options, PageCache, View};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vfs::{Fault, Injection, Operation, Recorded, SimDisk};

type Model = BTreeMap<Bytes, Bytes>;

const COMMITS: usize = 60;
const IMAGES: u64 = 4;

fn open(disk: &SimDisk) -> Result<Db, Error> {
    // Small pages and no cache: many pages, and every one is read from the disk.
    let cache = Arc::new(PageCache::new(0));
    Db::open(disk, Path::new("db"), Options { new_page_size: 1024, cache, read_only: false })
}

/// The changes of each commit: growth, then deletes that let the file shrink, then growth.
fn batches(seed: u64) -> Vec<BTreeMap<Bytes, Option<Bytes>>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut next = 0_u32;
    (0..COMMITS)
        .map(|index| {
            let mut batch = BTreeMap::new();
            let number = Bytes::from(index.to_string());
            batch.insert(Bytes::from("z_last"), Some(number));
            let key = |number: u32| Bytes::from(format!("k{number:06}"));
            if (20..40).contains(&index) {
                let start = rng.random_range(0..next);
                batch.extend((start..(start + 250).min(next)).map(|number| (key(number), None)));
            } else {
                for _ in 0..rng.random_range(10..160) {
                    let len = if rng.random_range(0..30) == 0 { 3000 } else { 60 };
                    batch.insert(key(next), Some(Bytes::from(vec![b'v'; len])));
                    next += 1;
                }
            }
            batch
        })
        .collect()
}

/// The contents after each number of commits.
fn models(batches: &[BTreeMap<Bytes, Option<Bytes>>]) -> Vec<Model> {
    let mut models = vec![Model::new()];
    for batch in batches {
        let mut model = models.last().unwrap().clone();
        for (key, value) in batch.clone() {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        models.push(model);
    }
    models
}

fn commit(db: &mut Db, batch: &BTreeMap<Bytes, Option<Bytes>>) -> Result<View, Error> {
    let mut tx = db.begin();
    tx.create_bucket(b"key")?;
    tx.apply(b"key", batch.clone().into_iter())?;
    tx.commit()
}

fn contents(view: &View) -> Model {
    let mut model = Model::new();
    let mut cursor = view.cursor(b"key", false);
    while let Some((key, value)) = cursor.next().unwrap() {
        model.insert(key, value);
    }
    model
}

/// Opens a crash image. It must contain the commit `done` or the next one, and accept a commit.
fn survives(image: &SimDisk, done: u64, models: &[Model], context: &str) {
    let mut db = open(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    // A new file begins with txid 1.
    let commits = db.view().tx_id() - 1;
    assert!(commits == done || commits == done + 1, "{context}: {done} done, {commits} found");
    let model = &models[usize::try_from(commits).unwrap()];
    assert!(contents(&db.view()) == *model, "{context}: commit {commits} is not whole");
    db.check().unwrap_or_else(|error| panic!("{context}: {error}"));
    let more = BTreeMap::from([(Bytes::from("more"), Some(Bytes::from("1")))]);
    commit(&mut db, &more).unwrap();
    db.check().unwrap_or_else(|error| panic!("{context}: after going on: {error}"));
}

#[test]
fn every_crash_leaves_one_of_two_commits() {
    let batches = batches(1);
    let models = models(&batches);
    let disk = SimDisk::new(1);
    disk.record_every(1);
    let mut db = open(&disk).unwrap();
    let mut points = Vec::new();
    let (mut size, mut falls) = (0, 0);
    for (index, batch) in batches.iter().enumerate() {
        let view = commit(&mut db, batch).unwrap();
        falls += u32::from(view.size() < size);
        size = view.size();
        points.append(&mut disk.take_recorded());
        disk.set_tag(index as u64 + 1);
    }
    assert!(falls > 3, "the file shrank on the way");
    let cuts = points.iter().filter(|point| point.operation == Operation::SetLen).count();
    assert!(cuts > 1, "the file was cut on the way");
    for point in &points {
        for seed in 0..IMAGES {
            let image = point.disk.crash_image(seed);
            let context = format!("{:?} at point {}, seed {seed}", point.operation, point.point);
            survives(&image, point.tag, &models, &context);
        }
    }
}

#[test]
fn every_failed_call_poisons_the_database_and_loses_no_commit() {
    let batches = batches(2);
    let models = models(&batches);
    let disk = SimDisk::new(2);
    let mut db = open(&disk).unwrap();
    for batch in &batches {
        commit(&mut db, batch).unwrap();
    }
    let last = disk.points();
    for point in 1..=last {
        for fault in [Fault::Io, Fault::NoSpace] {
            fails_at(point, fault, &batches, &models);
        }
    }
}

fn fails_at(
    point: u64,
    fault: Fault,
    batches: &[BTreeMap<Bytes, Option<Bytes>>],
    models: &[Model],
) {
    let context = format!("{fault:?} at point {point}");
    let disk = SimDisk::new(point);
    disk.inject(Injection::at(point, fault));
    let mut done = 0;
    if let Ok(mut db) = open(&disk) {
        let mut batches = batches.iter();
        let error = loop {
            let Some(batch) = batches.next() else { return };
            match commit(&mut db, batch) {
                Ok(_) => done += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Io { .. }), "{context}: {error}");
        let before = usize::try_from(done).unwrap();
        assert!(contents(&db.view()) == models[before], "{context}: readers see the last commit");
        let again = commit(&mut db, &batches.next().cloned().unwrap_or_default());
        assert!(matches!(again, Err(Error::Poisoned { .. })), "{context}");
        assert!(db.is_poisoned());
    }
    for seed in 0..2 {
        survives(&disk.crash_image(seed), done, models, &context);
    }
    // The process ends and the machine does not.
    survives(&disk.fork(), done, models, &context);
}

/// A long commit syncs after every few writes: a sync of another file waits for the writes in the
/// disk's queue, so the queue must not hold all pages of the commit. Each of the syncs may fail.
#[test]
fn a_long_commit_is_synced_in_pieces_and_any_of_them_may_fail() {
    const KEYS: u32 = 600;
    /// A write has up to 256 KiB, so this many have at most 1.5 MiB.
    const WRITES_MAX: usize = 6;
    let value = Bytes::from(vec![b'v'; 10_000]);
    let long: BTreeMap<_, _> = (0..KEYS)
        .map(|number| (Bytes::from(number.to_string()), Some(value.clone())))
        .chain([(Bytes::from("z_last"), Some(Bytes::from("1")))])
        .collect();
    let short = BTreeMap::from([(Bytes::from("z_last"), Some(Bytes::from("0")))]);
    let batches = [short.clone(), long, short];
    let models = models(&batches);
    let disk = SimDisk::new(5);
    let mut db = open(&disk).unwrap();
    commit(&mut db, &batches[0]).unwrap();
    disk.record_every(1);
    commit(&mut db, &batches[1]).unwrap();
    let points = disk.take_recorded();
    let is_sync = |at: &&Recorded| at.operation == Operation::Sync;
    for piece in points.split(|at| is_sync(&at)) {
        let writes = piece.iter().filter(|at| at.operation == Operation::Write).count();
        assert!(writes <= WRITES_MAX, "{writes} writes between two syncs");
    }
    let syncs: Vec<u64> = points.iter().filter(is_sync).map(|at| at.point).collect();
    assert!(syncs.len() > 4, "{} syncs", syncs.len());
    for point in syncs {
        fails_at(point, Fault::Io, &batches, &models);
    }
}

#[test]
fn a_failed_read_is_an_error_and_changes_nothing() {
    let batches = batches(3);
    let models = models(&batches);
    for skip in (0..4000).step_by(7) {
        let disk = SimDisk::new(3);
        let mut injection = Injection::first(Operation::Read, Fault::Io);
        injection.skip = skip;
        disk.inject(injection);
        let Ok(mut db) = open(&disk) else { continue };
        let mut done = 0;
        for batch in &batches {
            match commit(&mut db, batch) {
                Ok(_) => done += 1,
                Err(Error::Io { what: "read", .. }) => break,
                Err(error) => panic!("read {skip}: {error}"),
            }
        }
        drop(db);
        survives(&disk.fork(), done.min(COMMITS as u64 - 1), &models, &format!("read {skip}"));
    }
}

/// Commits after the restart.
const COMMITS_AFTER: usize = 6;

/// The points of all syncs in the workload.
fn sync_points(batches: &[BTreeMap<Bytes, Option<Bytes>>]) -> Vec<u64> {
    let disk = SimDisk::new(4);
    disk.record_every(1);
    let mut db = open(&disk).unwrap();
    for batch in batches {
        commit(&mut db, batch).unwrap();
    }
    let syncs = disk.take_recorded().into_iter().filter(|at| at.operation == Operation::Sync);
    syncs.map(|at| at.point).collect()
}

/// Every sync of a workload fails in turn, the process restarts on the same page cache and
/// commits on, and power fails at each call from the restart on: nothing that was acknowledged
/// before or after the restart, or visible after it, is lost.
#[test]
fn a_restart_after_a_failed_sync_trusts_nothing_that_may_not_be_on_the_disk() {
    let batches = batches(4);
    let models = models(&batches);
    let until = COMMITS - COMMITS_AFTER - 1;
    let points = sync_points(&batches[..until]);
    assert!(points.len() > 2 * until, "two syncs for each commit, and one for the new file");
    for (index, point) in points.into_iter().enumerate() {
        restart_after_failed_sync(point, 1, &batches, &models);
        if index % 5 == 0 {
            restart_after_failed_sync(point, 2, &batches, &models);
        }
    }
}

/// The sync at `point` fails; with two failures the first sync after the restart fails too.
fn restart_after_failed_sync(
    point: u64,
    failures: u64,
    batches: &[BTreeMap<Bytes, Option<Bytes>>],
    models: &[Model],
) {
    let disk = SimDisk::new(point);
    disk.inject(Injection::at(point, Fault::Io));
    let mut done = 0;
    if let Ok(mut db) = open(&disk) {
        while commit(&mut db, &batches[done]).is_ok() {
            done += 1;
        }
    }
    if failures == 2 {
        disk.inject(Injection::first(Operation::Sync, Fault::Io));
        assert!(matches!(open(&disk), Err(Error::Io { .. })), "open syncs the file");
    }
    disk.record_every(1);
    let mut db = open(&disk).unwrap();
    let found = usize::try_from(db.view().tx_id()).unwrap() - 1;
    assert!(found == done || found == done + 1, "{done} done, {found} found");
    let mut images = Vec::new();
    let mut keep = |least: usize, most: usize| {
        images.extend(disk.take_recorded().into_iter().map(|at| (at, least, most)));
    };
    keep(done, found);
    for (next, batch) in batches.iter().enumerate().skip(found).take(COMMITS_AFTER) {
        commit(&mut db, batch).unwrap();
        keep(next, next + 1);
    }
    for (at, least, most) in images {
        for seed in 0..2 {
            let context = format!(
                "sync {point} failed, {failures} failures, then power at {:?} {}, seed {seed}",
                at.operation, at.point
            );
            let image = at.disk.crash_image(seed);
            let db = open(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            db.check().unwrap_or_else(|error| panic!("{context}: {error}"));
            let commits = usize::try_from(db.view().tx_id()).unwrap() - 1;
            assert!(
                (least..=most).contains(&commits),
                "{context}: {commits} found, {least} acknowledged"
            );
            assert!(contents(&db.view()) == models[commits], "{context}: commit {commits}");
        }
    }
}
