//! Rules that random runs meet too rarely, each as a test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use auth::{AuthStore, Caller, Guarded, Permitted};
use backend::{Backend, Batch, Bucket, Overlay, ReadView};
use bytes::Bytes;
use mvcc::{
    DeleteRange, FINISHED_COMPACT, KeyRange, KeyValue, PastVersion, Put, RangeQuery, RequestError,
    RevisionHash, SCHEDULED_COMPACT, Slice, Store,
};
use proto::{EntryId, Index, LeaseId, Revision, Term};
use std::path::Path;
use std::sync::Arc;

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

/// A store whose file is on a simulated disk.
struct World {
    backend: Backend,
    overlay: Overlay,
    store: Store,
    index: u64,
}

fn open(disk: &vfs::SimDisk) -> Backend {
    let cache = Arc::new(bolt::PageCache::new(64 << 10));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    Backend::open(disk, Path::new("db"), options).unwrap()
}

impl World {
    fn new() -> World {
        World::over(open(&vfs::SimDisk::new(1)))
    }

    fn over(backend: Backend) -> World {
        let overlay = Overlay::new(Some(backend.view()), Overlay::LIMIT);
        let store = Store::restore(overlay.view()).unwrap().store;
        let index = backend.applied().index.0;
        World { backend, overlay, store, index }
    }

    /// Commits everything and restarts.
    fn restarted(mut self) -> World {
        self.commit();
        World::over(self.backend)
    }

    fn commit(&mut self) {
        let batches: Vec<_> = self.overlay.iter().cloned().collect();
        let view = self.backend.commit(&batches).unwrap();
        self.overlay.retire(batches.len(), view);
        self.store.attach(self.overlay.view());
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Store, &mut Batch) -> T) -> T {
        self.index += 1;
        let mut batch = Batch::new(EntryId { term: Term(1), index: Index(self.index) });
        let done = change(&mut self.store, &mut batch);
        self.overlay.push(Arc::new(batch));
        self.store.attach(self.overlay.view());
        done
    }

    fn put(&mut self, key: &'static str) -> i64 {
        self.change(|store, batch| {
            let mut txn = store.write(batch);
            let put = Put {
                key: key.into(),
                value: Some(Bytes::from_static(b"v")),
                lease: Some(LeaseId(0)),
                prev_kv: false,
            };
            txn.put(permitted(put)).unwrap().unwrap();
            txn.end().revision
        })
    }

    fn delete(&mut self, key: &'static str) -> i64 {
        self.change(|store, batch| {
            let mut txn = store.write(batch);
            let range = DeleteRange { keys: KeyRange::One(key.into()), prev_kv: false };
            txn.delete_range(permitted(range)).unwrap();
            txn.end().revision
        })
    }

    fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        self.change(|store, batch| store.compact(revision, batch))
    }

    fn slice(&mut self, max: usize) -> Slice {
        self.change(|store, batch| store.compaction_slice(batch, max))
    }

    fn finish(&mut self) {
        while self.store.is_compacting() {
            self.slice(1_000);
        }
    }

    /// The stored versions: main revision, and whether it is a tombstone.
    fn stored(&self) -> Vec<(i64, bool)> {
        let cursor = self.overlay.view().cursor(Bucket::Key, b"", true).unwrap();
        cursor
            .map(|pair| Revision::from_bytes(&pair.unwrap().0).unwrap())
            .map(|(revision, tombstone)| (revision.main, tombstone))
            .collect()
    }

    fn hash(&self, revision: i64) -> RevisionHash {
        self.store.view().hash_kv(revision).unwrap().run().unwrap()
    }

    fn keys_at(&self, revision: i64) -> Result<u64, RequestError> {
        let keys = KeyRange::Span { from: Bytes::from_static(b"\0"), end: None };
        let query = RangeQuery { revision, ..RangeQuery::of(keys) };
        let cursor = self.store.view().range(&permitted(query))?;
        Ok(cursor.read_all().unwrap().1)
    }
}

fn crc_of_bucket_name() -> u32 {
    crc32c::crc32c(b"key")
}

#[test]
fn a_fresh_store_is_at_revision_1_and_never_compacted() {
    let mut world = World::new();
    assert_eq!((world.store.revision(), world.store.compact_revision()), (1, -1));
    assert_eq!(
        world.hash(0),
        RevisionHash { hash: crc_of_bucket_name(), compact_revision: -1, revision: 1 }
    );
    assert_eq!(world.put("a"), 2);
    assert_eq!(world.delete("b"), 2, "a deletion of nothing takes no revision");
}

#[test]
fn compaction_is_refused_at_compacted_and_future_revisions() {
    let mut world = World::new();
    world.put("a");
    assert_eq!(world.compact(3), Err(RequestError::FutureRevision));
    assert_eq!(world.compact(2), Ok(()));
    assert_eq!(world.compact(2), Err(RequestError::Compacted));
    assert_eq!(world.compact(-1), Err(RequestError::Compacted));
    assert_eq!(world.keys_at(1), Err(RequestError::Compacted));
    assert_eq!(world.keys_at(2), Ok(1), "the compacted revision itself can be read");
    assert_eq!(world.keys_at(3), Err(RequestError::FutureRevision));
}

#[test]
fn a_tombstone_at_the_compacted_revision_stays_until_the_next_compaction() {
    let mut world = World::new();
    world.put("a");
    let deleted = world.delete("a");
    world.put("b");
    world.compact(deleted).unwrap();
    world.finish();
    assert_eq!(world.stored(), [(deleted, true), (4, false)]);
    // A watcher that starts there receives it.
    let events: Vec<_> =
        world.store.view().history(deleted, 9).unwrap().unwrap().map(Result::unwrap).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(world.store.view().indexed_keys(), 2);
    world.compact(4).unwrap();
    world.finish();
    assert_eq!(world.stored(), [(4, false)]);
    assert_eq!(world.store.view().indexed_keys(), 1);
}

#[test]
fn a_tombstone_at_the_compacted_revision_is_not_hashed_even_when_nothing_is_kept() {
    let mut world = World::new();
    world.put("a");
    let deleted = world.delete("a");
    world.compact(deleted).unwrap();
    world.finish();
    assert_eq!(world.stored(), [(deleted, true)]);
    assert_eq!(world.hash(0).hash, crc_of_bucket_name());
}

#[test]
fn if_no_key_is_live_versions_not_yet_dropped_are_hashed() {
    let mut world = World::new();
    world.put("a");
    world.delete("a");
    world.put("b");
    world.delete("b");
    let whole = world.hash(0);
    world.compact(5).unwrap();
    let before = world.hash(0);
    assert_eq!(before.compact_revision, 5);
    assert_ne!(before.hash, whole.hash, "the tombstone at the compacted revision is left out");
    world.slice(1);
    assert_ne!(world.hash(0).hash, before.hash);
    world.finish();
    assert_eq!(world.hash(0).hash, crc_of_bucket_name());
}

#[test]
fn the_hash_at_a_compacted_revision_presumes_that_compaction() {
    let mut world = World::new();
    let first = world.put("a");
    world.put("b");
    let second = world.put("a");
    let before = world.hash(second);
    assert_eq!(before.compact_revision, -1);
    world.compact(second).unwrap();
    for _ in 0..2 {
        let hash = world.hash(second);
        assert_eq!((hash.compact_revision, hash.revision), (second, second));
        assert_ne!(hash.hash, before.hash);
        assert_eq!(world.hash(0), hash, "nothing is newer");
        assert_eq!(world.store.view().hash_kv(first).err(), Some(RequestError::Compacted));
        world.finish();
    }
}

#[test]
fn a_compaction_that_waits_is_done_by_a_later_one() {
    let mut world = World::new();
    for _ in 0..5 {
        world.put("a");
    }
    world.compact(3).unwrap();
    world.compact(4).unwrap();
    world.compact(5).unwrap();
    assert_eq!(world.slice(1_000), Slice::Finished { revision: 3, dropped: 1 });
    assert_eq!(world.store.finished_compaction(), Some(3));
    assert_eq!(world.slice(1_000), Slice::Finished { revision: 5, dropped: 2 });
    assert_eq!(world.slice(1_000), Slice::Idle);
    assert_eq!(world.store.finished_compaction(), Some(5));
    assert_eq!(world.stored(), [(5, false), (6, false)]);
}

/// A slice used to examine up to 1,000 versions of the file, so this took a hundred slices.
#[test]
fn compaction_of_ten_superseded_versions_among_100_000_keys_takes_one_slice() {
    let mut world = World::new();
    let put = |world: &mut World, keys: &[usize]| {
        world.change(|store, batch| {
            let mut txn = store.write(batch);
            for key in keys {
                let put = Put {
                    key: format!("key-{key:06}").into(),
                    value: Some(Bytes::new()),
                    lease: Some(LeaseId(0)),
                    prev_kv: false,
                };
                txn.put(permitted(put)).unwrap().unwrap();
            }
            txn.end().revision
        })
    };
    let all: Vec<usize> = (0..100_000).collect();
    all.chunks(20_000).for_each(|keys| {
        put(&mut world, keys);
        world.commit();
    });
    let first = world.store.revision();
    world.compact(first).unwrap();
    world.finish();
    let again: Vec<usize> = (0..10).map(|n| n * 9_999).collect();
    let second = put(&mut world, &again);
    world.compact(second).unwrap();
    assert_eq!(world.slice(1_000), Slice::Finished { revision: second, dropped: 10 });
    assert_eq!(world.stored().len(), 100_000);
}

#[test]
fn compaction_reads_no_file_and_drops_in_order_of_revision() {
    let mut world = World::new();
    for key in ["c", "b", "a", "d"] {
        world.put(key);
    }
    world.delete("b");
    for key in ["a", "c"] {
        world.put(key);
    }
    world.commit();
    world.compact(8).unwrap();
    let other = open(&vfs::SimDisk::new(1));
    world.store.attach(ReadView::of_file(other.view()));
    let mut dropped = Vec::new();
    while world.store.is_compacting() {
        let mut batch = Batch::new(EntryId::default());
        world.store.compaction_slice(&mut batch, 2);
        assert!(batch.dropped().len() <= 2);
        dropped.extend(batch.dropped().iter().map(|d| (d.revision.main, d.tombstone)));
    }
    assert_eq!(dropped, [(2, false), (3, false), (4, false), (6, true)]);
}

/// No etcd writes such a file. The index ignores the second tombstone, and the next compaction
/// drops it.
#[test]
fn a_tombstone_of_a_deleted_key_is_dropped_although_the_index_leaves_it_out() {
    let mut world = World::new();
    world.put("a");
    world.put("b");
    let deleted = world.delete("a");
    let again = Revision { main: deleted + 1, sub: 0 };
    let tombstone = KeyValue { key: b"a", ..KeyValue::default() }.to_bytes();
    world.change(|_, batch| batch.put_version(again, true, tombstone));
    let mut world = world.restarted();
    world.put("b");
    world.compact(deleted).unwrap();
    world.finish();
    let want = [(3, false), (deleted, true), (again.main, true), (6, false)];
    assert_eq!(world.stored(), want);
    world.compact(again.main).unwrap();
    world.finish();
    assert_eq!(world.stored(), [(3, false), (6, false)]);
}

#[test]
fn a_compaction_goes_on_after_a_restart_at_any_slice() {
    for slices in 0..30 {
        let mut world = World::new();
        for _ in 0..8 {
            world.put("a");
            world.put("b");
            world.delete("b");
        }
        let current = world.store.revision();
        world.compact(current).unwrap();
        for _ in 0..slices {
            world.slice(1);
        }
        let had_finished = !world.store.is_compacting();
        let mut world = world.restarted();
        assert_eq!(world.store.revision(), current, "after {slices} slices");
        assert_eq!(world.store.compact_revision(), current);
        assert_eq!(world.store.is_compacting(), !had_finished);
        world.finish();
        assert_eq!(world.stored(), [(current - 2, false), (current, true)]);
        assert_eq!(world.keys_at(current), Ok(1));
        let world = world.restarted();
        assert!(!world.store.is_compacting());
        assert_eq!(world.store.finished_compaction(), Some(current));
    }
}

#[test]
fn the_revision_does_not_decrease_when_compaction_takes_the_newest_version() {
    // The newest change is a tombstone that a compaction of an older etcd dropped.
    let mut world = World::new();
    world.put("a");
    let deleted = world.delete("a");
    let revision = Revision { main: deleted, sub: 0 };
    for key in [SCHEDULED_COMPACT, FINISHED_COMPACT] {
        world.change(|_, batch| {
            batch.put(Bucket::Meta, key.into(), Bytes::copy_from_slice(&revision.to_bytes()));
        });
        let world = World::over(std::mem::replace(&mut world, World::new()).restarted().backend);
        assert_eq!(world.store.revision(), deleted);
        assert_eq!(world.store.compact_revision(), deleted);
    }
    // Killed after dropping it and before recording the end of the compaction.
    let mut world = World::new();
    world.change(|_, batch| {
        let revision = Revision { main: 9, sub: 0 };
        let value = Bytes::copy_from_slice(&revision.to_bytes());
        batch.put(Bucket::Meta, SCHEDULED_COMPACT.into(), value);
    });
    let world = world.restarted();
    assert_eq!((world.store.revision(), world.store.compact_revision()), (9, 9));
    assert!(world.store.is_compacting());
}

#[test]
fn a_bump_record_is_a_revision_without_a_key() {
    let mut world = World::new();
    world.put("a");
    let bump = Revision { main: 1_000_002, sub: 0 };
    world.change(|_, batch| {
        batch.put_version(bump, false, Bytes::new());
        let value = Bytes::copy_from_slice(&bump.to_bytes());
        batch.put(Bucket::Meta, SCHEDULED_COMPACT.into(), value);
    });
    let mut world = world.restarted();
    assert_eq!(world.store.revision(), bump.main);
    assert!(world.store.is_compacting());
    world.finish();
    assert_eq!(world.stored(), [(2, false), (bump.main, false)]);
    assert_eq!(world.keys_at(0), Ok(1));
    assert_eq!(world.put("a"), bump.main + 1);
    let item = world
        .store
        .view()
        .get(&Permitted::internal(PastVersion { key: "a".into(), revision: 0 }))
        .unwrap()
        .unwrap();
    assert_eq!(KeyValue::decode(&item.unwrap()).unwrap().version, 2);
    let events = world.store.view().history(bump.main, bump.main).unwrap().unwrap();
    assert_eq!(events.map(Result::unwrap).filter(|event| event.key.is_empty()).count(), 1);
}

#[test]
fn restore_fails_on_bytes_that_are_not_a_version() {
    for (value, tombstone) in [(&b"\xff"[..], false), (b"\x0a\x05k", true), (b"\x00", false)] {
        let mut overlay = Overlay::new(None, Overlay::LIMIT);
        let mut batch = Batch::new(EntryId::default());
        batch.put_version(Revision { main: 2, sub: 0 }, tombstone, value.into());
        overlay.push(Arc::new(batch));
        let error = Store::restore(overlay.view()).unwrap_err();
        assert!(error.to_string().contains("not a key-value"), "{error}");
    }
    let mut overlay = Overlay::new(None, Overlay::LIMIT);
    let mut batch = Batch::new(EntryId::default());
    batch.put(Bucket::Meta, FINISHED_COMPACT.into(), Bytes::from_static(b"short"));
    overlay.push(Arc::new(batch));
    assert!(Store::restore(overlay.view()).is_err());
}

#[test]
fn reading_a_version_that_is_missing_in_the_file_is_an_error() {
    let mut world = World::new();
    world.put("a");
    world.commit();
    let other = open(&vfs::SimDisk::new(1));
    world.store.attach(ReadView::of_file(other.view()));
    let query = RangeQuery::of(KeyRange::One("a".into()));
    let cursor = world.store.view().range(&permitted(query)).unwrap();
    let error = cursor.read_all().unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

/// No etcd writes such a file, but a damaged one may contain it: a put and a deletion of the same
/// key at the same revision.
#[test]
fn a_file_with_a_revision_twice_is_compacted_without_a_panic() {
    let disk = vfs::SimDisk::new(1);
    drop(open(&disk));
    let cache = Arc::new(bolt::PageCache::new(64 << 10));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    let mut db = bolt::Db::open(&disk, Path::new("db"), options).unwrap();
    let mut tx = db.begin();
    let encoded = KeyValue { key: b"k", value: b"v", ..KeyValue::default() }.to_bytes();
    for main in [2, 3] {
        let revision = Revision { main, sub: 0 };
        let put = Bytes::copy_from_slice(&revision.to_bytes());
        let deletion = Bytes::copy_from_slice(&revision.to_tombstone_bytes());
        tx.put(b"key", put, encoded.clone()).unwrap();
        tx.put(b"key", deletion, encoded.clone()).unwrap();
    }
    tx.commit().unwrap();
    drop(db);
    let mut world = World::over(open(&disk));
    world.compact(3).unwrap();
    world.finish();
    world.restarted();
}

#[test]
fn a_key_that_moves_or_ends_leaves_its_lease() {
    let mut world = World::new();
    let put = |lease| Put {
        key: "k".into(),
        value: Some(Bytes::from_static(b"v")),
        lease: Some(LeaseId(lease)),
        prev_kv: false,
    };
    let changes = world.change(|store, batch| {
        let mut txn = store.write(batch);
        txn.put(permitted(put(5))).unwrap().unwrap();
        txn.put(permitted(put(5))).unwrap().unwrap();
        txn.put(permitted(put(6))).unwrap().unwrap();
        let range = DeleteRange { keys: KeyRange::One("k".into()), prev_kv: false };
        txn.delete_range(permitted(range)).unwrap();
        txn.end()
    });
    let moves: Vec<_> = changes.leases.iter().map(|change| (change.old.0, change.new.0)).collect();
    assert_eq!(moves, [(0, 5), (5, 6), (6, 0)]);
}
