//! The overlay and the file against maps in memory: random puts, deletes, drops, commits and
//! retirements read as one; views do not change; after a crash the file contains exactly the
//! batches up to its applied entry.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use backend::{Backend, Batch, Bucket, Dropped, Lookup, Overlay, ReadView, meta};
use bytes::Bytes;
use proto::{ConfState, EntryId, Index, NodeId, Revision, Term};
use random::Random;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type Model = BTreeMap<Bucket, BTreeMap<Vec<u8>, Vec<u8>>>;

const OTHERS: [Bucket; 4] = [Bucket::Lease, Bucket::Alarm, Bucket::Members, Bucket::AuthUsers];

fn open(disk: &vfs::SimDisk) -> Result<Backend, backend::Error> {
    let cache = Arc::new(bolt::PageCache::new(32 << 10));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    Backend::open(disk, Path::new("db"), options)
}

/// The key under which a version is stored.
fn key_of(revision: Revision, tombstone: bool) -> Vec<u8> {
    if tombstone { revision.to_tombstone_bytes().to_vec() } else { revision.to_bytes().to_vec() }
}

fn fill(batch: &mut Batch, model: &mut Model, seed: &mut Random, main: &mut i64) {
    for _ in 0..seed.below(4) {
        *main += 1;
        for sub in 0..=seed.index(3) {
            let revision = Revision { main: *main, sub: i64::try_from(sub).unwrap() };
            let tombstone = seed.below(4) == 0;
            let longest = if seed.below(20) == 0 { 9_000 } else { 60 };
            let value = vec![b'v'; seed.index(longest)];
            let bytes = batch.encode(value.len(), |buffer| buffer.extend_from_slice(&value));
            batch.put_version(revision, tombstone, bytes);
            model.entry(Bucket::Key).or_default().insert(key_of(revision, tombstone), value);
        }
    }
    for _ in 0..seed.below(3) {
        let bucket = OTHERS[seed.index(4)];
        let key = format!("key{}", seed.below(30)).into_bytes();
        if seed.below(3) == 0 {
            batch.delete(bucket, key.clone().into());
            model.entry(bucket).or_default().remove(&key);
        } else {
            let value = format!("value{}", seed.below(1_000)).into_bytes();
            batch.put(bucket, key.clone().into(), value.clone().into());
            model.entry(bucket).or_default().insert(key, value);
        }
    }
    for _ in 0..seed.below(4) {
        let keys: Vec<_> = model.entry(Bucket::Key).or_default().keys().cloned().collect();
        // Never a version of this batch: compaction reads earlier batches.
        let old: Vec<_> = keys
            .into_iter()
            .map(|key| (Revision::from_bytes(&key).unwrap(), key))
            .filter(|((revision, _), _)| batch.version(*revision).is_none())
            .collect();
        if !old.is_empty() {
            let ((revision, tombstone), key) = &old[seed.index(old.len())];
            batch.drop_version(Dropped { revision: *revision, tombstone: *tombstone });
            model.get_mut(&Bucket::Key).unwrap().remove(key);
        }
    }
}

fn compare(view: &ReadView, model: &Model, seed: &mut Random) {
    for bucket in OTHERS.into_iter().chain([Bucket::Key]) {
        let none = BTreeMap::new();
        let want = model.get(&bucket).unwrap_or(&none);
        let pairs = |from: &[u8], cached| -> Vec<(Vec<u8>, Vec<u8>)> {
            let cursor = view.cursor(bucket, from, cached).unwrap();
            cursor.map(|pair| pair.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect()
        };
        assert_eq!(pairs(b"", false), want.clone().into_iter().collect::<Vec<_>>());
        let keys: Vec<_> = want.keys().cloned().collect();
        for _ in 0..3 {
            if keys.is_empty() {
                break;
            }
            let key = &keys[seed.index(keys.len())];
            let rest: Vec<_> =
                want.range(key.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(pairs(key, true), rest);
            assert_eq!(view.get(bucket, key).unwrap().unwrap(), want[key]);
            match view.try_get(bucket, key).unwrap() {
                Lookup::Found(value) => assert_eq!(value, want[key]),
                Lookup::NeedsDisk => {}
                Lookup::Missing => panic!("a value is not seen"),
            }
        }
        if bucket != Bucket::Key {
            for n in 0..30 {
                let key = format!("key{n}").into_bytes();
                let value = view.get(bucket, &key).unwrap();
                assert_eq!(value.as_deref(), want.get(&key).map(Vec::as_slice));
            }
        }
    }
}

fn run(seed: u64) {
    let disk = vfs::SimDisk::new(seed);
    let mut seed = Random::new(seed);
    let mut backend = open(&disk).unwrap();
    let mut overlay = Overlay::new(Some(backend.view()), Overlay::LIMIT);
    let (mut model, mut main, mut index) = (Model::new(), 1, 0);
    let mut views = Vec::new();
    for _ in 0..400 {
        match seed.below(10) {
            0..6 => {
                index += 1;
                let mut batch = Batch::new(EntryId { term: Term(1), index: Index(index) });
                fill(&mut batch, &mut model, &mut seed, &mut main);
                overlay.push(Arc::new(batch));
            }
            6 | 7 => {
                let count = seed.index(overlay.len() + 1);
                let batches: Vec<_> = overlay.iter().take(count).cloned().collect();
                let view = backend.commit(&batches).unwrap();
                overlay.retire(count, view);
                assert_eq!(
                    overlay.bytes(),
                    overlay.iter().map(|batch| batch.bytes()).sum::<usize>()
                );
            }
            _ => {
                views.push((overlay.view(), model.clone()));
                if views.len() > 5 {
                    views.remove(seed.index(5));
                }
                let (view, model) = &views[seed.index(views.len())];
                compare(view, model, &mut seed);
            }
        }
    }
    compare(&overlay.view(), &model, &mut seed);
}

#[test]
fn the_overlay_and_the_file_read_as_one() {
    for seed in 0..15 {
        run(seed);
    }
}

#[test]
fn a_crash_leaves_exactly_the_batches_up_to_the_applied_entry() {
    for seed in 0..12 {
        let disk = vfs::SimDisk::new(seed);
        let mut seed = Random::new(seed);
        let mut backend = open(&disk).unwrap();
        let mut overlay = Overlay::new(Some(backend.view()), Overlay::LIMIT);
        let (mut model, mut main) = (Model::new(), 1);
        let mut models = vec![model.clone()];
        let mut committed = 0;
        for index in 1..=30 {
            let mut batch = Batch::new(EntryId { term: Term(7), index: Index(index) });
            fill(&mut batch, &mut model, &mut seed, &mut main);
            models.push(model.clone());
            overlay.push(Arc::new(batch));
            if seed.below(3) > 0 {
                continue;
            }
            let batches: Vec<_> = overlay.iter().cloned().collect();
            disk.record_every(1);
            let view = backend.commit(&batches).unwrap();
            disk.record_every(0);
            overlay.retire(batches.len(), view);
            let copies: Vec<_> = disk.take_recorded().into_iter().map(|copy| copy.disk).collect();
            assert!(copies.len() > 3);
            for image in 0..12 {
                let found = open(&copies[seed.index(copies.len())].crash_image(image)).unwrap();
                let at = found.applied().index.0;
                assert!(at == committed || at == index, "all batches of a commit, or none");
                let model = &models[usize::try_from(at).unwrap()];
                compare(&ReadView::of_file(found.view()), model, &mut seed);
            }
            committed = index;
            let found = open(&disk.crash_image(1)).unwrap();
            assert_eq!(found.applied().index, Index(index), "a commit that returned is durable");
        }
    }
}

#[test]
fn the_file_stores_the_applied_entry_and_the_configuration() {
    let disk = vfs::SimDisk::new(1);
    let mut backend = open(&disk).unwrap();
    let names: Vec<_> = backend.view().buckets().map(|name| name.to_vec()).collect();
    assert_eq!(names, Bucket::ALL.map(|bucket| bucket.name().to_vec()));
    let read = |backend: &Backend| ReadView::of_file(backend.view());
    assert_eq!(read(&backend).applied().unwrap(), EntryId::default());

    // Writes before the first entry do not store an applied entry.
    let mut batch = Batch::new(EntryId::default());
    batch.put(Bucket::Auth, Bytes::from_static(b"authRevision"), Bytes::from_static(&[1]));
    backend.commit(&[Arc::new(batch)]).unwrap();
    assert_eq!(read(&backend).get(Bucket::Meta, meta::CONSISTENT_INDEX).unwrap(), None);

    let voters = ConfState { voters: vec![NodeId(3)], ..ConfState::default() };
    let mut first = Batch::new(EntryId { term: Term(2), index: Index(9) });
    first.conf_state(&voters);
    let second = Batch::new(EntryId { term: Term(3), index: Index(10) });
    backend.commit(&[Arc::new(first), Arc::new(second)]).unwrap();
    let applied = EntryId { term: Term(3), index: Index(10) };
    assert_eq!(backend.applied(), applied);
    assert_eq!(read(&backend).applied().unwrap(), applied);
    assert_eq!(read(&backend).conf_state().unwrap(), Some(voters));
    drop(backend);
    assert_eq!(open(&disk).unwrap().applied(), applied);
}

#[test]
fn only_an_empty_overlay_accepts_a_batch_larger_than_its_limit() {
    let mut overlay = Overlay::new(None, 1_000);
    assert!(!overlay.is_full_for(5_000));
    let mut batch = Batch::new(EntryId { term: Term(1), index: Index(1) });
    batch.put(Bucket::Lease, Bytes::from_static(b"1"), Bytes::from(vec![0; 900]));
    overlay.push(Arc::new(batch));
    assert!(overlay.is_full_for(100));
    assert!(!overlay.is_full_for(1));
}

#[test]
#[should_panic(expected = "revisions ascend")]
fn a_batch_older_than_the_file_panics() {
    let mut overlay = Overlay::new(None, 0);
    for main in [5, 4] {
        let mut batch = Batch::new(EntryId::default());
        batch.put_version(Revision { main, sub: 0 }, false, Bytes::new());
        overlay.push(Arc::new(batch));
    }
}
