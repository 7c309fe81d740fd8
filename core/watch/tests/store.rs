//! A shard on the real store: the events and previous values that it reads from the history equal
//! those that were reported at the time of the change, through overwrites, deletions and
//! compactions at every place.

#![expect(clippy::unwrap_used, reason = "a test, with functions of its own")]

use auth::{AuthStore, Caller, Guarded, Permitted};
use backend::{Batch, Overlay};
use bytes::Bytes;
use mvcc::{DeleteRange, KeyRange, KeyValue, Put, Restored, Store};
use prost::Message as _;
use proto::answer::Origin;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::{EntryId, Index, LeaseId, Term, mvccpb};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use watch::{
    Budget, CatchUp, ConnectionId, CreateRequest, Event, EventBatch, EventKind, Limits, Shard,
    StreamId,
};

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

struct World {
    overlay: Overlay,
    store: Store,
    applied: u64,
    events: Vec<Event>,
    shard: Shard,
    stream: StreamId,
}

impl World {
    fn new() -> World {
        let overlay = Overlay::new(None, usize::MAX);
        let Restored { store, .. } = Store::restore(overlay.view()).unwrap();
        let mut shard = Shard::new(store.revision(), Limits::default());
        let stream = shard.open_stream(ConnectionId::default(), 0, 1000);
        World { overlay, store, applied: 0, events: Vec::new(), shard, stream }
    }

    fn batch(&mut self) -> Batch {
        self.applied += 1;
        Batch::new(EntryId { term: Term(1), index: Index(self.applied) })
    }

    fn push(&mut self, batch: Batch) {
        self.overlay.push(Arc::new(batch));
        self.store.attach(self.overlay.view());
    }

    fn write(&mut self, rng: &mut SmallRng) {
        let mut batch = self.batch();
        let mut txn = self.store.write(&mut batch);
        for letter in b'a'..=b'e' {
            let key = Bytes::from(vec![letter]);
            if rng.random_bool(0.3) {
                let value = vec![b'v'; rng.random_range(0..20)];
                let value = Some(value.into());
                let put = Put { key, value, lease: Some(LeaseId(0)), prev_kv: false };
                txn.put(permitted(put)).unwrap().unwrap();
            } else if rng.random_bool(0.3) {
                let range = DeleteRange { keys: KeyRange::One(key), prev_kv: false };
                txn.delete_range(permitted(range)).unwrap();
            }
        }
        let changes = txn.end();
        self.push(batch);
        if !changes.events.is_empty() {
            self.events.extend(changes.events.iter().cloned());
            let batch = EventBatch { revision: changes.revision, events: changes.events };
            self.shard.on_events(&batch, &self.store.view()).unwrap();
        }
    }

    fn compact(&mut self, revision: i64) {
        let mut batch = self.batch();
        self.store.compact(revision, &mut batch).unwrap();
        self.push(batch);
    }

    fn compaction_slice(&mut self, max: usize) {
        let mut batch = self.batch();
        self.store.compaction_slice(&mut batch, max);
        self.push(batch);
    }

    fn told(&mut self) -> Vec<mvccpb::Event> {
        let mut events = Vec::new();
        while let Some(response) = self.shard.next(self.stream, &Origin::default()) {
            let bytes = [&response.head[..], &response.events[..]].concat();
            let response = WatchResponse::decode(&bytes[..]).unwrap();
            assert!(!response.canceled);
            events.extend(response.events);
        }
        events
    }

    /// Watches all keys from `start` on and compares the events.
    fn look(&mut self, start: i64, context: &str) {
        let request = WatchCreateRequest {
            range_end: "\0".into(),
            start_revision: start,
            prev_kv: true,
            watch_id: 7,
            ..Default::default()
        };
        let request = permitted(CreateRequest::new(request));
        let view = self.store.view();
        self.shard.create(self.stream, request, &view);
        let budget = Budget { events: 3, ..Budget::default() };
        while self.shard.catch_up(&view, &budget).unwrap() == CatchUp::More {}
        let told = self.told();
        let due = self.events.iter().filter(|event| event.mod_revision >= start);
        assert_eq!(told.len(), due.clone().count(), "{context}");
        for (told, due) in told.iter().zip(due) {
            let kind = i32::from(due.kind == EventKind::Delete);
            let kv = told.kv.as_ref().unwrap().encode_to_vec();
            assert_eq!((told.r#type, &kv[..]), (kind, &due.kv[..]), "{context}");
            let before = due.mod_revision - 1;
            let mut past = self.events.iter().rev();
            let previous = past.find(|event| event.key == due.key && event.mod_revision <= before);
            let previous = previous.filter(|event| event.kind == EventKind::Put);
            let is_there = before >= self.store.compact_revision();
            let previous = previous.filter(|_| is_there).map(|event| event.kv.to_vec());
            let told = told.prev_kv.as_ref().map(mvccpb::KeyValue::encode_to_vec);
            assert_eq!(told, previous, "{context}, {:?}", KeyValue::decode(&due.kv));
        }
        self.shard.cancel(self.stream, 7);
        while self.shard.next(self.stream, &Origin::default()).is_some() {}
    }
}

#[test]
fn events_read_from_the_history_equal_the_reported_ones() {
    for seed in 0..30 {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let mut world = World::new();
        for step in 0..60 {
            world.write(rng);
            let (compacted, newest) = (world.store.compact_revision(), world.store.revision());
            if rng.random_bool(0.1) && newest > compacted.max(1) {
                world.compact(rng.random_range(compacted.max(1) + 1..=newest));
            }
            if rng.random_bool(0.5) {
                world.compaction_slice(rng.random_range(1..20));
            }
            // At a start at the compacted revision, the previous values are dropped.
            for start in [world.store.compact_revision(), newest, rng.random_range(1..=newest)] {
                if start >= world.store.compact_revision().max(1) {
                    world.look(start, &format!("seed {seed}, step {step}, start {start}"));
                }
            }
        }
    }
}
