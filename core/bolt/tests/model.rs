//! Random transactions compared with ordered maps, with views that are held across commits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bolt::{Db, Options, PageCache, View};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vfs::{SimDisk, Vfs};

type Model = BTreeMap<Bytes, BTreeMap<Bytes, Bytes>>;

const BUCKETS: [&[u8]; 4] = [b"alarm", b"key", b"lease", b"meta"];

fn open(disk: &SimDisk, page_size: usize) -> Db {
    let cache = Arc::new(PageCache::new(256 * 1024));
    let options = Options { new_page_size: page_size, cache, read_only: false };
    Db::open(disk, Path::new("db"), options).unwrap()
}

fn same(view: &View, model: &Model) {
    let names: Vec<&Bytes> = view.buckets().collect();
    let expected: Vec<&Bytes> = model.keys().collect();
    assert_eq!(names, expected);
    for (name, bucket) in model {
        for cached in [true, false] {
            let mut cursor = view.cursor(name, cached);
            for (key, value) in bucket {
                let (have_key, have_value) = cursor.next().unwrap().unwrap();
                assert_eq!((&have_key, &have_value), (key, value));
            }
            assert_eq!(cursor.next().unwrap(), None);
        }
        let mut reader = view.reader(name);
        for (key, value) in bucket.iter().step_by(7) {
            assert_eq!(reader.get(key).unwrap().as_ref(), Some(value));
        }
    }
}

fn key(rng: &mut SmallRng, space: u32) -> Bytes {
    let number = rng.random_range(0..space);
    let mut key = number.to_be_bytes().to_vec();
    key.resize(4 + (number % 23) as usize, b'x');
    Bytes::from(key)
}

fn value(rng: &mut SmallRng) -> Bytes {
    let len = match rng.random_range(0..100) {
        0 => rng.random_range(0..40_000),
        1..5 => rng.random_range(0..3000),
        _ => rng.random_range(0..200),
    };
    Bytes::from(vec![rng.random::<u8>(); len])
}

/// One random transaction on both.
fn step(db: &mut Db, model: &mut Model, rng: &mut SmallRng) -> View {
    let mut tx = db.begin();
    for name in BUCKETS {
        let dice = rng.random_range(0..60);
        let name_bytes = Bytes::from_static(name);
        if dice == 0 {
            assert_eq!(tx.delete_bucket(name).unwrap(), model.remove(name).is_some());
        }
        if dice > 2 {
            let made = tx.create_bucket(name).unwrap();
            assert_eq!(made, !model.contains_key(name));
            let bucket = model.entry(name_bytes).or_default();
            let space = [50, 3000, 20_000][rng.random_range(0..3)];
            let deletes = rng.random_range(0..100);
            let mut batch = BTreeMap::new();
            for _ in 0..rng.random_range(0..120) {
                let op = (rng.random_range(0..100) >= deletes).then(|| value(rng));
                batch.insert(key(rng, space), op);
            }
            if rng.random_range(0..6) == 0 {
                // Deletes adjacent keys, as compaction does.
                let start = key(rng, 20_000);
                for key in bucket.range(start..).take(rng.random_range(0..400)) {
                    batch.insert(key.0.clone(), None);
                }
            }
            if rng.random::<bool>() {
                tx.apply(name, batch.clone().into_iter()).unwrap();
            } else {
                for (key, value) in &batch {
                    match value {
                        Some(value) => tx.put(name, key.clone(), value.clone()).unwrap(),
                        None => {
                            let there = tx.delete(name, key).unwrap();
                            assert_eq!(there, bucket.contains_key(key));
                        }
                    }
                }
            }
            for (key, value) in batch {
                match value {
                    Some(value) => bucket.insert(key, value),
                    None => bucket.remove(&key),
                };
            }
            let some = key(rng, space);
            assert_eq!(tx.get(name, &some).unwrap().as_ref(), bucket.get(&some));
        }
    }
    tx.commit().unwrap()
}

fn run(seed: u64, page_size: usize, steps: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::new(seed);
    let mut db = open(&disk, page_size);
    let mut model = Model::new();
    let mut held: Vec<(View, Model)> = Vec::new();
    for index in 0..steps {
        let view = step(&mut db, &mut model, &mut rng);
        if rng.random_range(0..8) == 0 {
            held.push((view, model.clone()));
        } else {
            // A view keeps the file locked; the database is opened again below.
            drop(view);
        }
        if held.len() > 3 || (rng.random_range(0..16) == 0 && !held.is_empty()) {
            let (view, model) = held.remove(rng.random_range(0..held.len()));
            same(&view, &model);
            view.check().unwrap();
        }
        if index % 10 == 0 {
            same(&db.view(), &model);
            db.check().unwrap_or_else(|error| panic!("seed {seed} step {index}: {error}"));
        }
        if rng.random_range(0..40) == 0 {
            held.clear();
            drop(db);
            db = open(&disk, 4096);
            assert_eq!(db.view().page_size(), page_size);
        }
    }
    held.clear();
    same(&db.view(), &model);
    db.check().unwrap();
}

#[test]
fn many_commits_agree_with_maps_in_memory() {
    for seed in 0..6 {
        run(seed, 4096, 150);
    }
}

#[test]
fn other_page_sizes_agree_too() {
    run(100, 1024, 100);
    run(101, 16_384, 100);
    run(102, 65_536, 60);
}

#[test]
fn a_dropped_transaction_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut db = open(&disk, 4096);
    let mut model = Model::new();
    for _ in 0..10 {
        step(&mut db, &mut model, &mut rng);
    }
    let before = db.free_pages();
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    let ops = (0..5000_u32).map(|n| (Bytes::from(n.to_be_bytes().to_vec()), Some(value(&mut rng))));
    tx.apply(b"key", ops).unwrap();
    tx.delete_bucket(b"lease").unwrap();
    drop(tx);
    assert_eq!(db.free_pages().1, before.1 - before.1, "nothing is left pending");
    same(&db.view(), &model);
    db.check().unwrap();
    step(&mut db, &mut model, &mut rng);
    db.check().unwrap();
    same(&db.view(), &model);
}

#[test]
fn a_copy_is_a_database_of_its_own() {
    let disk = SimDisk::new(1);
    let mut rng = SmallRng::seed_from_u64(2);
    let mut db = open(&disk, 4096);
    let mut model = Model::new();
    for _ in 0..30 {
        step(&mut db, &mut model, &mut rng);
    }
    let view = db.view();
    let then = model.clone();
    let file = disk.open(Path::new("copy"), vfs::Mode::Create).unwrap();
    let mut copier = view.copy();
    let mut len = 0;
    while let Some(chunk) = copier.next_chunk().unwrap() {
        file.write_at(&chunk, len).unwrap();
        len += chunk.len() as u64;
        step(&mut db, &mut model, &mut rng);
    }
    assert_eq!(len, view.size());
    drop(file);
    let cache = Arc::new(PageCache::new(0));
    let options = Options { new_page_size: 4096, cache, read_only: true };
    let copy = Db::open(&disk, Path::new("copy"), options).unwrap();
    assert_eq!(copy.view().tx_id(), view.tx_id());
    copy.check().unwrap();
    same(&copy.view(), &then);
}
