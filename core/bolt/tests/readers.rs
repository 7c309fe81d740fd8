//! Views are read piece by piece while commits overwrite, relocate and cut pages: each view always
//! reads exactly the state of its commit. A seeded scheduler interleaves readers and commits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bolt::{Cursor, Db, Lookup, Options, PageCache, View};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vfs::SimDisk;

type Model = BTreeMap<Bytes, Bytes>;

const STEPS: u32 = 6000;
const KEYS: u32 = 6000;
const READERS_MAX: usize = 6;

/// A view with a cursor that has been advanced to a key of its state.
struct Reading {
    view: View,
    cursor: Cursor,
    state: Arc<Model>,
    /// The last key that the cursor returned.
    last: Option<Bytes>,
}

impl Reading {
    fn open(view: View, state: Arc<Model>, cached: bool) -> Reading {
        let cursor = view.cursor(b"key", cached);
        Reading { view, cursor, state, last: None }
    }

    /// Compares the next elements; true at the end of the bucket.
    fn advance(&mut self, count: u32) -> bool {
        for _ in 0..count {
            let from = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let expected = self.state.range((from, Bound::Unbounded)).next();
            let found = self.cursor.next().unwrap();
            assert_eq!(found.as_ref().map(|(key, value)| (key, value)), expected);
            let Some((key, _)) = found else { return true };
            self.last = Some(key);
        }
        false
    }

    fn seek(&mut self, key: &Bytes) {
        self.cursor.seek(key).unwrap();
        let below = self.state.range::<Bytes, _>(..key).next_back();
        self.last = below.map(|(key, _)| key.clone());
    }

    fn get(&self, key: &Bytes) {
        let expected = self.state.get(key);
        assert_eq!(self.view.get(b"key", key).unwrap().as_ref(), expected);
        match self.view.try_get(b"key", key).unwrap() {
            Lookup::Found(value) => assert_eq!(Some(&value), expected),
            Lookup::Missing => assert_eq!(expected, None),
            Lookup::NeedsDisk => {}
        }
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(number.to_be_bytes().to_vec())
}

/// Puts for a while, then deletes for a while, so that the file grows and shrinks again and again.
fn commit(db: &mut Db, state: &mut Arc<Model>, rng: &mut SmallRng, step: u32) {
    let deletes = step / 400 % 2 == 1;
    let start = rng.random_range(0..KEYS);
    let mut batch = BTreeMap::new();
    for number in start..start + rng.random_range(1..150) {
        let value = (!deletes).then(|| {
            let len = if rng.random_range(0..20) == 0 { 12_000 } else { 300 };
            Bytes::from(vec![rng.random::<u8>(); len])
        });
        batch.insert(key(number), value);
    }
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    tx.apply(b"key", batch.clone().into_iter()).unwrap();
    tx.commit().unwrap();
    let model = Arc::make_mut(state);
    for (key, value) in batch {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
}

fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::new(seed);
    disk.set_cached_reads_miss_every(3);
    // Small enough that most pages are read from the disk again.
    let cache = Arc::new(PageCache::new(256 * 1024));
    let options = Options { new_page_size: 4096, cache, read_only: false };
    let mut db = Db::open(&disk, Path::new("db"), options).unwrap();
    let mut state = Arc::new(Model::new());
    let mut readings: Vec<Reading> = Vec::new();
    let (mut size, mut shrunk, mut finished) = (0, 0, 0);
    for step in 0..STEPS {
        let open = readings.len();
        let chosen = rng.random_range(0..open.max(1));
        match (rng.random_range(0..10), readings.get_mut(chosen)) {
            (0..4, _) => {
                commit(&mut db, &mut state, &mut rng, step);
                let now = db.view().size();
                shrunk += u32::from(now < size && open > 0);
                size = now;
            }
            (4, _) if open < READERS_MAX => {
                let cached = rng.random_range(0..2) == 0;
                readings.push(Reading::open(db.view(), Arc::clone(&state), cached));
            }
            (5, Some(reading)) => reading.seek(&key(rng.random_range(0..KEYS))),
            (6, Some(reading)) => reading.get(&key(rng.random_range(0..KEYS))),
            (_, Some(reading)) => {
                if reading.advance(rng.random_range(1..1500)) {
                    readings.swap_remove(chosen);
                    finished += 1;
                }
            }
            (_, None) => {}
        }
    }
    for reading in &mut readings {
        while !reading.advance(100) {}
        reading.view.check().unwrap();
    }
    db.check().unwrap();
    assert!(finished > 50, "{finished} cursors reached the end of their bucket");
    assert!(shrunk > 10, "the file shrank {shrunk} times while views were open");
}

#[test]
fn views_read_their_own_state_while_commits_overwrite_and_relocate_pages() {
    for seed in 0..2 {
        run(seed);
    }
}
