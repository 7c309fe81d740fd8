//! Unused space is given back by commits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use bolt::{Db, Options, PageCache, View};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vfs::{Mode, Operation, SimDisk, Vfs};

const KEYS: u64 = 40_000;

fn open(disk: &SimDisk) -> Db {
    let cache = Arc::new(PageCache::new(1 << 20));
    Db::open(disk, Path::new("db"), Options { new_page_size: 4096, cache, read_only: false })
        .unwrap()
}

fn key(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().to_vec())
}

fn file_len(disk: &SimDisk) -> u64 {
    disk.open(Path::new("db"), Mode::Read).unwrap().len().unwrap()
}

/// Keys with values of 50 to 400 bytes, now and then of 20,000.
fn load(db: &mut Db, rng: &mut SmallRng) {
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.create_bucket(b"meta").unwrap();
    tx.commit().unwrap();
    for batch in 0..KEYS / 1000 {
        let mut tx = db.begin();
        let ops = (batch * 1000..(batch + 1) * 1000).map(|number| {
            let len = if number % 500 == 0 { 20_000 } else { rng.random_range(50..400) };
            (key(number), Some(Bytes::from(vec![7; len])))
        });
        tx.apply(b"key", ops).unwrap();
        tx.commit().unwrap();
    }
}

fn tick(db: &mut Db, number: u64) {
    let mut tx = db.begin();
    tx.put(b"meta", Bytes::from("consistent_index"), key(number)).unwrap();
    tx.commit().unwrap();
}

fn live_bytes(view: &View) -> u64 {
    let mut live = 0;
    for name in view.buckets().cloned().collect::<Vec<_>>() {
        let mut cursor = view.cursor(&name, false);
        while let Some((key, value)) = cursor.next().unwrap() {
            live += (key.len() + value.len()) as u64;
        }
    }
    live
}

/// Deletes the keys that `keep` rejects, in batches, and makes small commits afterwards.
fn shrinks(keep: impl Fn(u64) -> bool, order: impl Fn(u64) -> u64, batch: usize) {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    load(&mut db, &mut SmallRng::seed_from_u64(1));
    let before = file_len(&disk);
    let held = db.view();
    let mut doomed: Vec<u64> = (0..KEYS).filter(|number| !keep(*number)).collect();
    doomed.sort_by_key(|number| order(*number));
    for batch in doomed.chunks_mut(batch) {
        batch.sort_unstable();
        let mut tx = db.begin();
        tx.apply(b"key", batch.iter().map(|number| (key(*number), None))).unwrap();
        tx.commit().unwrap();
    }
    for number in 0..20 {
        tick(&mut db, number);
    }
    held.check().unwrap();
    let mut count = 0;
    let mut cursor = held.cursor(b"key", false);
    while cursor.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, KEYS, "the old view has everything");
    drop((held, cursor));
    for number in 0..200 {
        tick(&mut db, number);
        if number % 10 == 0 {
            db.check().unwrap();
        }
    }
    db.check().unwrap();
    let view = db.view();
    let (live, len) = (live_bytes(&view), file_len(&disk));
    assert!(len * 2 <= live * 3, "{before} bytes became {len}, for {live} of live data");
    let mut cursor = view.cursor(b"key", true);
    for number in (0..KEYS).filter(|number| keep(*number)) {
        assert_eq!(cursor.next().unwrap().unwrap().0, key(number));
    }
    drop((view, cursor, db));
    open(&disk).check().unwrap();
}

#[test]
fn every_tenth_key_is_left() {
    shrinks(|number| number % 10 == 3, |number| number, 1000);
}

#[test]
fn the_last_tenth_is_left() {
    shrinks(|number| number >= KEYS / 10 * 9, |number| number, 1000);
}

#[test]
fn a_tenth_is_left_after_deletes_here_and_there() {
    shrinks(|number| number % 10 == 3, |number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15), 40);
}

#[test]
fn a_file_without_unused_space_is_not_shrunk() {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    load(&mut db, &mut SmallRng::seed_from_u64(1));
    for number in 0..20 {
        tick(&mut db, number);
    }
    let writes = disk.points();
    let size = db.view().size();
    tick(&mut db, 20);
    assert_eq!(db.view().size(), size);
    assert!(disk.points() - writes <= 6, "a small commit is a few calls");
}

#[test]
fn commits_without_changes_shrink_the_file() {
    for round in 0..20 {
        let disk = SimDisk::new(round);
        let mut db = open(&disk);
        let mut tx = db.begin();
        tx.create_bucket(b"key").unwrap();
        tx.commit().unwrap();
        for number in 0..=round {
            let mut tx = db.begin();
            tx.put(b"key", key(number), Bytes::from(vec![7; 60_000])).unwrap();
            tx.commit().unwrap();
        }
        let mut tx = db.begin();
        tx.apply(b"key", (1..=round).map(|number| (key(number), None))).unwrap();
        tx.commit().unwrap();
        for _ in 0..10 {
            db.begin().commit().unwrap();
        }
        assert!(db.view().size() <= 2 * 60_000, "{} bytes", db.view().size());
        assert!(file_len(&disk) <= 1 << 20, "{} bytes in the file", file_len(&disk));
        db.check().unwrap();
    }
}

#[test]
fn a_growing_file_is_never_cut() {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.commit().unwrap();
    disk.record_every(1);
    let (mut cuts, mut growths) = (0, 0);
    let mut number = 0;
    while db.view().size() < 24 << 20 {
        let mut tx = db.begin();
        for _ in 0..40 {
            tx.put(b"key", key(number), Bytes::from(vec![7; 3000])).unwrap();
            number += 1;
        }
        tx.commit().unwrap();
        for at in disk.take_recorded() {
            cuts += u32::from(at.operation == Operation::SetLen);
            growths += u32::from(at.operation == Operation::Allocate);
        }
    }
    assert_eq!(cuts, 0, "slack is not cut off");
    assert!(growths < 120, "a file grows by a sixteenth at a time: {growths} times");
}

/// The most entries of the page map that one of the small commits examines.
fn most_looked_at(db: &mut Db, commits: u64) -> u64 {
    (0..commits)
        .map(|number| {
            let before = db.map_entries_looked_at();
            tick(db, number);
            db.map_entries_looked_at() - before
        })
        .max()
        .unwrap()
}

/// Puts values of `len` bytes under the keys.
fn put_values(db: &mut Db, bucket: &[u8], keys: impl Iterator<Item = u64>, len: usize) {
    let value = Bytes::from(vec![7; len]);
    let mut tx = db.begin();
    tx.create_bucket(bucket).unwrap();
    tx.apply(bucket, keys.map(|number| (key(number), Some(value.clone())))).unwrap();
    tx.commit().unwrap();
}

fn delete(db: &mut Db, bucket: &[u8], keys: impl Iterator<Item = u64>) {
    let mut tx = db.begin();
    tx.apply(bucket, keys.map(|number| (key(number), None))).unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_commit_looks_at_few_pages_even_if_no_run_fits_a_free_place() {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    put_values(&mut db, b"meta", 0..1, 10);
    // Runs of 20 and of 10 pages in turn; the short ones leave places too short for the others.
    for number in 0..700 {
        put_values(&mut db, b"key", 2 * number..=2 * number, 20 * 4096 - 100);
        put_values(&mut db, b"key", 2 * number + 1..=2 * number + 1, 10 * 4096 - 100);
    }
    delete(&mut db, b"key", (0..700).map(|number| 2 * number + 1));
    tick(&mut db, 0);
    let (size, used) = (db.view().size(), db.view().size_in_use());
    assert!(size > 64 << 20 && used * 4 < size * 3, "{used} of {size} bytes in use");
    let looked = most_looked_at(&mut db, 100);
    assert!(looked < 200_000, "{looked} entries looked at by one commit");
    // When a walk of the whole file finds nothing to move, the commits stop looking.
    let looked = most_looked_at(&mut db, 100);
    assert!(looked < 5_000, "{looked} entries looked at by one commit at rest");
}

#[test]
fn short_runs_move_to_make_room_for_long_ones() {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    put_values(&mut db, b"meta", 0..1, 10);
    put_values(&mut db, b"key", 0..5000, 3000);
    put_values(&mut db, b"lease", 0..100, 20 * 4096 - 100);
    delete(&mut db, b"key", (0..2500).map(|number| 2 * number));
    let before = db.view().size();
    for number in 0..300 {
        tick(&mut db, number);
        if number % 20 == 0 {
            db.check().unwrap();
        }
    }
    let view = db.view();
    let (size, used) = (view.size(), view.size_in_use());
    assert!(size <= used / 4 * 5, "{before} bytes became {size}, with {used} in use");
    assert!(file_len(&disk) <= used / 2 * 3);
}

/// Zeros the meta page with the greater txid.
fn destroy_newest_meta(disk: &SimDisk) {
    let file = disk.open(Path::new("db"), Mode::Write).unwrap();
    let txid = |page: u64| {
        let mut bytes = [0; 8];
        file.read_at(&mut bytes, page * 4096 + 64).unwrap();
        u64::from_le_bytes(bytes)
    };
    let newest = u64::from(txid(1) > txid(0));
    file.write_at(&[0; 80], newest * 4096).unwrap();
}

#[test]
fn a_file_that_was_cut_and_lost_its_newest_meta_page_is_the_commit_before() {
    let disk = SimDisk::new(1);
    let mut db = open(&disk);
    load(&mut db, &mut SmallRng::seed_from_u64(5));
    let mut tx = db.begin();
    tx.apply(b"key", (KEYS / 10..KEYS).map(|number| (key(number), None))).unwrap();
    tx.commit().unwrap();
    tick(&mut db, 0);
    let mut cuts = 0;
    for number in 1..200 {
        let before = file_len(&disk);
        tick(&mut db, number);
        if file_len(&disk) == before {
            continue;
        }
        cuts += 1;
        let copy = SimDisk::new(1);
        vfs::copy_file(&disk, Path::new("db"), &copy, Path::new("db")).unwrap();
        destroy_newest_meta(&copy);
        let restored = open(&copy);
        restored.check().unwrap();
        let index = restored.view().get(b"meta", b"consistent_index").unwrap();
        assert_eq!(index, Some(key(number - 1)));
    }
    assert!(cuts > 0, "the file was never cut");
}
