//! Compares the store, the overlay and the file with a simple twin: random transactions, reads at
//! random revisions from views of any age, compactions in slices of any size, commits of any
//! prefix, restarts with the committed state.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test says which seed failed")]

mod twin;

use auth::{AuthStore, Caller, Guarded, Permitted};
use backend::{Backend, Batch, Bucket, Overlay};
use bytes::Bytes;
use mvcc::{
    DeleteRange, EventKind, KeyRange, KeyValue, Put, RangeQuery, RequestError, Size, Slice, Step,
    Store, View, Wait,
};
use proto::{EntryId, Index, LeaseId, Term};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use twin::{Seed, Twin};

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

struct World {
    disk: vfs::SimDisk,
    backend: Backend,
    overlay: Overlay,
    store: Store,
    twin: Twin,
    applied: u64,
    /// The twin at the file's state, and after each batch in the overlay.
    twins: VecDeque<Twin>,
    /// The twin at the last committed state.
    durable: Twin,
    views: Vec<(View, Twin)>,
}

fn open(disk: &vfs::SimDisk) -> Backend {
    let cache = Arc::new(bolt::PageCache::new(64 << 10));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    Backend::open(disk, Path::new("db"), options).unwrap()
}

fn span(from: &[u8], end: Option<&[u8]>) -> KeyRange {
    KeyRange::Span { from: Bytes::copy_from_slice(from), end: end.map(Bytes::copy_from_slice) }
}

fn key_of(n: i64) -> Vec<u8> {
    match n % 4 {
        0 => vec![b'a'; usize::try_from(n % 30 + 1).unwrap()],
        1 => format!("/registry/pods/default/{n:06}").into_bytes(),
        _ => format!("k{n}").into_bytes(),
    }
}

impl World {
    fn new() -> World {
        let disk = vfs::SimDisk::new(1);
        let backend = open(&disk);
        let overlay = Overlay::new(Some(backend.view()), Overlay::LIMIT);
        let store = Store::restore(overlay.view()).unwrap().store;
        let twin = Twin::new();
        let durable = twin.clone();
        World {
            disk,
            backend,
            overlay,
            store,
            twin,
            applied: 0,
            twins: VecDeque::new(),
            durable,
            views: Vec::new(),
        }
    }

    fn batch(&mut self) -> Batch {
        self.applied += 1;
        Batch::new(EntryId { term: Term(1), index: Index(self.applied) })
    }

    fn push(&mut self, batch: Batch) {
        self.overlay.push(Arc::new(batch));
        self.store.attach(self.overlay.view());
        self.twins.push_back(self.twin.clone());
    }

    fn transactions(&mut self, seed: &mut Seed, space: i64) {
        let mut batch = self.batch();
        for _ in 0..=seed.below(3) {
            let mut txn = self.store.write(&mut batch);
            let mut events = Vec::new();
            let mut touched: Vec<Vec<u8>> = Vec::new();
            for _ in 0..=seed.below(4) {
                let key = key_of(seed.below(space));
                if touched.contains(&key) {
                    continue;
                }
                if seed.one_in(5) {
                    let end = key_of(seed.below(space));
                    let end = [Some(&end[..]), None, Some(&[&key[..], b"\0"].concat())]
                        [if seed.one_in(3) { seed.index(2) } else { 2 }]
                    .map(<[u8]>::to_vec);
                    let hit = |k: &Vec<u8>| *k >= key && end.as_ref().is_none_or(|end| k < end);
                    if touched.iter().any(hit) || (end.is_none() && !seed.one_in(20)) {
                        continue;
                    }
                    let prev = self.twin.range(&key, end.as_deref(), self.twin.read_revision());
                    let gone = self.twin.delete(&key, end.as_deref());
                    let keys = span(&key, end.as_deref());
                    let range = DeleteRange { keys, prev_kv: true };
                    let done = txn.delete_range(permitted(range)).unwrap();
                    assert_eq!(done.deleted, gone.len() as u64);
                    assert_eq!(done.prevs, prev);
                    assert_eq!(done.revision, self.twin.read_revision());
                    events.extend(gone.iter().map(|key| (EventKind::Delete, key.clone())));
                    touched.extend(gone);
                } else {
                    put(&mut self.twin, &mut txn, seed, &key);
                    events.push((EventKind::Put, key.clone()));
                    touched.push(key);
                }
                let main = seed.below(self.twin.read_revision() + 1);
                let query = RangeQuery { revision: main, ..RangeQuery::of(span(b"\0", None)) };
                let at = if main == 0 { self.twin.read_revision() } else { main };
                match txn.range(&permitted(query)).unwrap() {
                    Ok((items, _)) => assert_eq!(items, self.twin.range(b"", None, at)),
                    Err(error) => {
                        assert!(at < self.twin.compacted && error == RequestError::Compacted);
                    }
                }
            }
            let changes = txn.end();
            self.twin.end();
            assert_eq!(changes.revision, self.twin.current);
            let told: Vec<_> =
                changes.events.iter().map(|event| (event.kind, event.key.to_vec())).collect();
            assert_eq!(told, events);
        }
        self.push(batch);
    }

    fn commit(&mut self, seed: &mut Seed) {
        let count = seed.index(self.overlay.len() + 1);
        let batches: Vec<_> = self.overlay.iter().take(count).cloned().collect();
        let view = self.backend.commit(&batches).unwrap();
        self.overlay.retire(count, view);
        self.store.attach(self.overlay.view());
        if let Some(last) = self.twins.drain(..count).next_back() {
            self.durable = last;
        }
    }

    fn compact(&mut self, seed: &mut Seed) {
        if self.twin.jobs.len() > 1 {
            return;
        }
        let main = self.twin.current - seed.below(30) + 1;
        let mut batch = self.batch();
        match self.store.compact(main, &mut batch) {
            Ok(()) => self.twin.compact(main),
            Err(RequestError::Compacted) => assert!(main <= self.twin.compacted),
            Err(error) => assert!(main > self.twin.current, "{error}"),
        }
        self.push(batch);
    }

    fn slice(&mut self, seed: &mut Seed) {
        let max = [1, 2, 7, 40, 1000][seed.index(5)];
        let mut batch = self.batch();
        let slice = self.store.compaction_slice(&mut batch, max);
        let dropped = batch.dropped().len();
        assert!(dropped <= max);
        match slice {
            Slice::Idle => assert!(self.twin.jobs.is_empty() && batch.is_empty()),
            Slice::More(count) => {
                assert_eq!(count, dropped);
                assert!(!self.twin.slice(dropped), "it ends with the last version");
            }
            Slice::Finished { dropped: count, .. } => {
                assert_eq!(count, dropped);
                assert!(self.twin.slice(dropped), "nothing is left behind");
            }
        }
        self.push(batch);
    }

    fn restart(&mut self) {
        self.twin = self.durable.restore();
        self.durable = self.twin.clone();
        self.twins.clear();
        self.views.clear();
        self.overlay = Overlay::new(None, 0);
        self.store.attach(self.overlay.view());
        let applied = self.backend.applied();
        self.applied = applied.index.0;
        // The old handle is dropped before the file is opened again, because it holds the lock.
        let other = vfs::SimDisk::new(1);
        drop(std::mem::replace(&mut self.backend, open(&other)));
        self.backend = open(&self.disk);
        assert_eq!(self.backend.applied(), applied);
        self.overlay = Overlay::new(Some(self.backend.view()), Overlay::LIMIT);
        let restored = Store::restore(self.overlay.view()).unwrap();
        self.store = restored.store;
        let leases: Vec<_> = restored.leases.iter().map(|(id, key)| (key.to_vec(), id.0)).collect();
        assert_eq!(leases, self.twin.leases.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(self.store.is_compacting(), !self.twin.jobs.is_empty());
    }
}

fn put(twin: &mut Twin, txn: &mut mvcc::WriteTxn<'_>, seed: &mut Seed, key: &[u8]) {
    let sizes = if seed.one_in(30) { 5 } else { 4 };
    let size = [0, 3, 20, 200, 9_000][seed.index(sizes)];
    let value = vec![b'v'; size];
    let lease = if seed.one_in(3) { seed.below(5) - 1 } else { 0 };
    let before = twin.range(key, Some(&[key, b"\0"].concat()), twin.read_revision());
    let kept = before.first().map(|kv| KeyValue::decode(kv).unwrap());
    let (keep_value, keep_lease) = (seed.one_in(6), seed.one_in(6));
    let request = Put {
        key: Bytes::copy_from_slice(key),
        value: (!keep_value).then(|| value.clone().into()),
        lease: (!keep_lease).then_some(LeaseId(lease)),
        prev_kv: seed.one_in(2),
    };
    let wants_prev = request.prev_kv;
    match (txn.put(permitted(request)).unwrap(), kept) {
        (Err(error), None) => {
            assert!(error == RequestError::KeyNotFound && (keep_value || keep_lease));
            twin.put(key, &value, lease);
            let request = Put {
                key: Bytes::copy_from_slice(key),
                value: Some(value.into()),
                lease: Some(LeaseId(lease)),
                prev_kv: false,
            };
            txn.put(permitted(request)).unwrap().unwrap();
        }
        (Ok(done), kept) => {
            assert_eq!(done.prev.is_some(), wants_prev && kept.is_some());
            if let Some(prev) = &done.prev {
                assert_eq!(prev, &before[0]);
            }
            let kept = kept.unwrap_or_default();
            let value = if keep_value { kept.value } else { &value };
            twin.put(key, value, if keep_lease { kept.lease } else { lease });
        }
        (Err(error), Some(_)) => panic!("{error}"),
    }
}

fn compare(view: &View, twin: &Twin, seed: &mut Seed, space: i64) {
    assert_eq!(view.revision(), twin.current);
    assert_eq!(view.compact_revision(), twin.compacted);
    for _ in 0..4 {
        let (from, end) = (key_of(seed.below(space)), key_of(seed.below(space)));
        let end = if seed.one_in(3) { None } else { Some(&end[..]) };
        let main = seed.below(twin.current + 2);
        let limit = if seed.one_in(2) { 0 } else { seed.next() % 20 };
        let query = RangeQuery { revision: main, limit, ..RangeQuery::of(span(&from, end)) };
        let at = if main == 0 { twin.current } else { main };
        let mut cursor = match view.range(&permitted(query)) {
            Err(RequestError::FutureRevision) => {
                assert!(at > twin.current);
                continue;
            }
            Err(_) => {
                assert!(at < twin.compacted);
                continue;
            }
            Ok(cursor) => cursor,
        };
        let want = twin.range(&from, end, at);
        let size = loop {
            match cursor.size() {
                Size::Bytes(size) => break size,
                Size::Yield => {}
                Size::Unknown => panic!("whole values have a known size"),
            }
        };
        let mut items = Vec::new();
        loop {
            match cursor.next(if seed.one_in(2) { Wait::No } else { Wait::Yes }).unwrap() {
                Step::Item(item) => items.push(item),
                Step::NeedsDisk | Step::Yield => {}
                Step::End => break,
            }
        }
        assert_eq!(cursor.count(), Some(want.len() as u64));
        let cut = if limit == 0 { want.len() } else { usize::try_from(limit).unwrap() };
        assert_eq!(items, want[..want.len().min(cut)]);
        let framed: usize =
            items.iter().map(|kv| 1 + prost::length_delimiter_len(kv.len()) + kv.len()).sum();
        assert_eq!(size, framed as u64);
    }
    keys_only(view, twin, seed);
    history(view, twin, seed);
    hash(view, twin, seed);
}

fn keys_only(view: &View, twin: &Twin, seed: &mut Seed) {
    let main = twin.current - seed.below(5);
    if main <= 0 || main < twin.compacted {
        return;
    }
    let keys_only = true;
    let query = RangeQuery { revision: main, keys_only, ..RangeQuery::of(span(b"\0", None)) };
    let (items, _) = view.range(&permitted(query)).unwrap().read_all().unwrap();
    let want: Vec<Bytes> = twin
        .range(b"", None, main)
        .iter()
        .map(|kv| KeyValue { value: b"", lease: 0, ..KeyValue::decode(kv).unwrap() }.to_bytes())
        .collect();
    assert_eq!(items, want);
}

fn history(view: &View, twin: &Twin, seed: &mut Seed) {
    let from = seed.below(twin.current + 1);
    let to = from + seed.below(40);
    match view.history(from, to).unwrap() {
        Err(error) => assert!(from < twin.compacted && error == RequestError::Compacted),
        Ok(history) => {
            let events: Vec<_> = history.map(Result::unwrap).collect();
            let want = twin.history(from, to);
            assert_eq!(events.len(), want.len());
            for (event, (main, tombstone, value)) in events.iter().zip(want) {
                let stored = KeyValue::decode(&value).unwrap();
                let told = KeyValue::decode(&event.kv).unwrap();
                assert_eq!(event.mod_revision, main);
                assert_eq!(event.kind == EventKind::Delete, tombstone);
                assert_eq!(told, KeyValue { mod_revision: main, ..stored });
                assert_eq!(event.key, stored.key);
            }
        }
    }
}

fn hash(view: &View, twin: &Twin, seed: &mut Seed) {
    let revision = if seed.one_in(4) { 0 } else { twin.current - seed.below(30) };
    match view.hash_kv(revision.max(0)) {
        Err(error) => {
            assert!(revision < twin.compacted && error == RequestError::Compacted);
        }
        Ok(job) => {
            let hash = job.run().unwrap();
            let (want, depends) = twin.hash(revision.max(0));
            assert_eq!(
                (hash.compact_revision, hash.revision),
                (want.compact_revision, want.revision)
            );
            assert!(hash.hash == want.hash, "depends on compaction: {depends}");
        }
    }
}

fn file_is_the_twins(world: &World) {
    let view = world.store.view();
    let pairs: Vec<_> = view
        .read()
        .cursor(Bucket::Key, b"", false)
        .unwrap()
        .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect();
    let want: Vec<_> = world.twin.file.clone().into_iter().collect();
    assert!(pairs == want, "the buckets differ");
}

fn run(seed: u64, rounds: usize) {
    let mut seed = Seed::new(seed);
    let mut world = World::new();
    let space = [8, 40, 300][seed.index(3)];
    for _ in 0..rounds {
        match seed.below(100) {
            0..60 => world.transactions(&mut seed, space),
            60..75 => world.commit(&mut seed),
            75..78 => world.compact(&mut seed),
            78..90 => world.slice(&mut seed),
            90 if seed.one_in(3) => world.restart(),
            _ => {
                let view = world.store.view();
                compare(&view, &world.twin, &mut seed, space);
                if world.views.len() == 4 {
                    let at = seed.index(4);
                    world.views.remove(at);
                }
                world.views.push((view, world.twin.clone()));
                let (view, twin) = &world.views[seed.index(world.views.len())];
                compare(view, twin, &mut seed, space);
            }
        }
        if seed.one_in(10) {
            file_is_the_twins(&world);
        }
    }
    file_is_the_twins(&world);
    world.backend.view().check().unwrap();
}

#[test]
fn the_store_agrees_with_its_twin() {
    let seeds = std::env::var("SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let caught = std::panic::catch_unwind(|| run(seed, 500));
        if let Err(panic) = caught {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
