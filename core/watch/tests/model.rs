//! Seeded sequences of operations, compared with a list of all events. Whatever is slow, late,
//! lost, canceled or compacted, each watcher receives exactly its events, in order and once, and
//! progress is sent only after the events that it covers.

#![expect(clippy::unwrap_used, reason = "a test, with functions of its own")]

use auth::{AuthStore, Caller, Guarded, Permitted};
use bytes::Bytes;
use prost::Message as _;
use proto::answer::Origin;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::{self, event::EventType};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::ops::ControlFlow;
use watch::{
    Budget, ConnectionId, CreateRequest, Event, EventBatch, EventKind, History, Limits, Shard,
    StreamId,
};

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

/// All past events.
#[derive(Default)]
struct Log {
    batches: Vec<EventBatch>,
    compact_revision: i64,
}

impl Log {
    fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.batches.iter().flat_map(|batch| &batch.events)
    }

    fn value_at(&self, key: &[u8], revision: i64) -> Option<&Event> {
        let at = |event: &&Event| event.key == key && event.mod_revision <= revision;
        self.events().rev().find(at).filter(|event| event.kind == EventKind::Put)
    }

    fn write(&mut self, rng: &mut SmallRng) {
        let revision = self.revision() + 1;
        let mut batch = EventBatch { revision, events: Vec::new() };
        for letter in b'a'..=b'e' {
            if rng.random_bool(0.6) {
                continue;
            }
            let key = Bytes::from(vec![letter; rng.random_range(1..3)]);
            let before = self.value_at(&key, revision);
            let is_put = rng.random_bool(0.7);
            if before.is_none() && !is_put {
                continue;
            }
            let mut kv =
                mvccpb::KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() };
            if is_put {
                kv.create_revision = before.map_or(revision, |event| event.create_revision);
                kv.version = before.map_or(1, |event| event.version + 1);
                kv.value = vec![b'v'; rng.random_range(0..60)].into();
            }
            batch.events.push(Event {
                kind: if is_put { EventKind::Put } else { EventKind::Delete },
                key,
                kv: kv.encode_to_vec().into(),
                mod_revision: revision,
                create_revision: kv.create_revision,
                version: kv.version,
            });
        }
        if !batch.events.is_empty() {
            self.batches.push(batch);
        }
    }
}

impl History for Log {
    type Error = Infallible;

    fn revision(&self) -> i64 {
        self.batches.last().map_or(1, |batch| batch.revision)
    }

    fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    fn replay(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        assert!(from >= self.compact_revision && to <= self.revision(), "that is not there");
        let events = self.events().filter(|event| (from..=to).contains(&event.mod_revision));
        for event in events {
            if visit(event.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Infallible> {
        let there = revision >= self.compact_revision;
        Ok(Log::value_at(self, key, revision).filter(|_| there).map(|event| event.kv.clone()))
    }
}

/// A watcher as its client sees it.
struct Watcher {
    request: WatchCreateRequest,
    /// All its events below this revision were received.
    next: i64,
    fragments: Vec<mvccpb::Event>,
}

#[derive(Default)]
struct Stream {
    /// Requests without a response yet; none for one that must be refused.
    asked: VecDeque<(i64, Option<Watcher>)>,
    watchers: BTreeMap<i64, Watcher>,
    canceled: usize,
}

struct World {
    rng: SmallRng,
    log: Log,
    shard: Shard,
    /// The next batch to feed to the shard; those before it were fed or lost.
    fed: usize,
    /// Whether batches were lost since the shard was last notified.
    has_lost: bool,
    streams: BTreeMap<StreamId, Stream>,
    context: String,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let (from, end) = (&self.request.key, &self.request.range_end);
        let in_range = match &end[..] {
            [] => event.key == from,
            [0] => event.key >= from,
            _ => event.key >= from && event.key < end,
        };
        let filter = i32::from(event.kind == EventKind::Delete);
        in_range && !self.request.filters.contains(&filter)
    }

    /// Handles received events, which must be the next ones.
    fn take(&mut self, response: WatchResponse, log: &Log, context: &str) {
        assert!(self.request.fragment || !response.fragment, "{context}");
        self.fragments.extend(response.events);
        if response.fragment {
            return;
        }
        let told = std::mem::take(&mut self.fragments);
        let last = told.last().unwrap().kv.as_ref().unwrap().mod_revision;
        assert!(last <= response.header.unwrap().revision, "{context}");
        let is_due = |event: &&Event| (self.next..=last).contains(&event.mod_revision);
        let due: Vec<&Event> =
            log.events().filter(is_due).filter(|event| self.wants(event)).collect();
        assert_eq!(told.len(), due.len(), "{context}: {told:?} {due:?}");
        for (told, due) in told.iter().zip(due) {
            let kind =
                if told.r#type() == EventType::Put { EventKind::Put } else { EventKind::Delete };
            let kv = told.kv.as_ref().unwrap().encode_to_vec();
            assert_eq!((kind, &kv[..]), (due.kind, &due.kv[..]), "{context}");
            let before = due.mod_revision - 1;
            let previous = log.value_at(&due.key, before).map(|event| event.kv.to_vec());
            let previous = previous.filter(|_| self.request.prev_kv);
            match &told.prev_kv {
                None if before < log.compact_revision => {}
                told => {
                    let told = told.as_ref().map(mvccpb::KeyValue::encode_to_vec);
                    assert_eq!(told, previous, "{context}");
                }
            }
        }
        self.next = last + 1;
    }

    fn has_all_up_to(&self, revision: i64, log: &Log) -> bool {
        let is_due = |event: &&Event| (self.next..=revision).contains(&event.mod_revision);
        !log.events().filter(is_due).any(|event| self.wants(event))
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = SmallRng::seed_from_u64(seed);
        let limits = Limits {
            stream_bytes: rng.random_range(200..4000),
            shard_bytes: rng.random_range(200..8000),
            fragment_from: rng.random_range(50..400),
            ..Limits::default()
        };
        World {
            rng,
            log: Log::default(),
            shard: Shard::new(1, limits),
            fed: 0,
            has_lost: false,
            streams: BTreeMap::new(),
            context: String::new(),
        }
    }

    fn feed(&mut self) {
        if let Some(batch) = self.log.batches.get(self.fed) {
            let Ok(()) = self.shard.on_events(batch, &self.log);
            self.fed += 1;
        }
    }

    /// Drops the next few batches, as a full queue does.
    fn lose_batches(&mut self) {
        let lost = self.rng.random_range(0..6).min(self.log.batches.len() - self.fed);
        self.fed += lost;
        self.has_lost |= lost > 0;
    }

    /// Notifies the shard of the loss. The view may be newer than batches that are fed later.
    fn report_loss(&mut self) {
        self.shard.events_lost(&self.log);
        self.has_lost = false;
    }

    fn any_stream(&mut self) -> Option<StreamId> {
        let at = self.rng.random_range(0..self.streams.len().max(1));
        self.streams.keys().nth(at).copied()
    }

    fn create(&mut self, id: StreamId) {
        let rng = &mut self.rng;
        let key = vec![rng.random_range(b'a'..=b'e'); rng.random_range(1..3)];
        let range_end = match rng.random_range(0..4) {
            0 => vec![0],
            1 => vec![rng.random_range(b'a'..=b'f')],
            _ => Vec::new(),
        };
        let newest = self.log.revision();
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: match rng.random_range(0..4) {
                0 => rng.random_range(-1..newest + 20),
                1 => rng.random_range(newest.saturating_sub(20).max(1)..=newest),
                _ => 0,
            },
            filters: match rng.random_range(0..6) {
                0 => vec![0],
                1 => vec![1],
                _ => Vec::new(),
            },
            prev_kv: rng.random(),
            fragment: rng.random(),
            progress_notify: rng.random(),
            watch_id: if rng.random_bool(0.2) { rng.random_range(1..9) } else { 0 },
        };
        let create = permitted(CreateRequest::new(request.clone()));
        self.shard.create(id, create, &self.log);
        let range_end = &request.range_end;
        let is_empty =
            range_end.len() > usize::from(range_end[..] == [0]) && request.key >= range_end;
        let refused = request.start_revision < 0 || is_empty;
        let next = if request.start_revision == 0 { newest + 1 } else { request.start_revision };
        let watch_id = request.watch_id;
        let watcher = Watcher { request, next, fragments: Vec::new() };
        let stream = self.streams.get_mut(&id).unwrap();
        stream.asked.push_back((watch_id, (!refused).then_some(watcher)));
    }

    /// Takes the next response of a stream and checks it.
    fn take(&mut self, id: StreamId) -> bool {
        let Some(response) = self.shard.next(id, &Origin::default()) else { return false };
        let bytes = [&response.head[..], &response.events[..]].concat();
        let response = WatchResponse::decode(&bytes[..]).unwrap();
        let context = format!("{}, stream {id:?}, {response:?}", self.context);
        let revision = response.header.as_ref().unwrap().revision;
        let stream = self.streams.get_mut(&id).unwrap();
        let watch_id = response.watch_id;
        if response.created {
            let (wanted_id, watcher) = stream.asked.pop_front().unwrap();
            if response.canceled {
                let is_taken = stream.watchers.contains_key(&wanted_id) && wanted_id != 0;
                assert!(watcher.is_none() || is_taken, "{context}");
                assert_eq!(watch_id, -1, "{context}");
            } else {
                assert!(wanted_id == 0 || wanted_id == watch_id, "{context}");
                let known = stream.watchers.insert(watch_id, watcher.unwrap());
                assert!(known.is_none(), "{context}");
            }
        } else if response.compact_revision != 0 {
            let watcher = stream.watchers.remove(&watch_id).unwrap();
            assert!(watcher.next < response.compact_revision, "{context}");
        } else if response.canceled {
            assert!(stream.watchers.remove(&watch_id).is_some(), "{context}");
            stream.canceled += 1;
        } else if response.events.is_empty() {
            let concerned =
                stream.watchers.iter().filter(|(id, _)| watch_id == -1 || **id == watch_id);
            for (_, watcher) in concerned {
                assert!(watcher.has_all_up_to(revision, &self.log), "{context}");
                assert!(watcher.request.start_revision <= revision, "{context}");
            }
        } else {
            let watcher = stream.watchers.get_mut(&watch_id);
            let watcher = watcher.unwrap_or_else(|| panic!("{context}: nobody's"));
            watcher.take(response, &self.log, &context);
        }
        true
    }

    fn step(&mut self, now_ms: u64) {
        let stream = self.any_stream();
        match (self.rng.random_range(0..20), stream) {
            (0, _) | (_, None) if self.streams.len() < 5 => {
                let id =
                    self.shard.open_stream(ConnectionId(self.rng.random_range(0..2)), now_ms, 500);
                assert!(self.streams.insert(id, Stream::default()).is_none());
            }
            (1, Some(id)) if self.rng.random_bool(0.1) => {
                self.shard.close_stream(id);
                self.streams.remove(&id);
            }
            (2..4, Some(id)) => self.create(id),
            (4, Some(id)) => self.shard.cancel(id, self.rng.random_range(0..12)),
            (5, Some(id)) => self.shard.request_progress(id),
            (6, _) if self.rng.random_bool(0.3) => {
                let newest = self.log.revision();
                let lowest = self.log.compact_revision.max(newest - 40).max(1);
                self.log.compact_revision = self.rng.random_range(lowest..=newest);
            }
            (7, _) if self.has_lost => self.report_loss(),
            (7, _) => self.lose_batches(),
            (8..12, _) => self.log.write(&mut self.rng),
            (12..15, _) => self.feed(),
            (15, _) => {
                let budget = Budget {
                    events: self.rng.random_range(1..50),
                    bytes: self.rng.random_range(1..2000),
                    revisions: self.rng.random_range(1..20),
                };
                let Ok(_) = self.shard.catch_up(&self.log, &budget);
            }
            (16, _) => self.shard.tick(now_ms),
            (_, Some(id)) => {
                for _ in 0..self.rng.random_range(0..6) {
                    self.take(id);
                }
            }
            (_, None) => {}
        }
        self.shard.check();
    }

    /// Delivers everything. Afterwards no watcher may miss an event.
    fn finish(&mut self) {
        while self.fed < self.log.batches.len() {
            self.feed();
        }
        if self.has_lost {
            self.report_loss();
        }
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for id in &ids {
                is_busy |= self.take(*id);
            }
            is_busy |= self.shard.has_behind();
            let Ok(_) = self.shard.catch_up(&self.log, &Budget::default());
        }
        self.shard.check();
        for stream in self.streams.values() {
            assert!(stream.asked.is_empty(), "{}: each request was answered", self.context);
            for (id, watcher) in &stream.watchers {
                let has_all = watcher.has_all_up_to(i64::MAX, &self.log);
                assert!(has_all, "{}, watcher {id}: nothing is lost", self.context);
            }
        }
        let stats = self.shard.stats();
        assert_eq!((stats.slow_watchers, stats.queued_bytes, stats.pending_events), (0, 0, 0));
    }
}

#[test]
fn watchers_receive_exactly_their_events() {
    let mut compacted = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        for step in 0..600 {
            world.context = format!("seed {seed}, step {step}");
            world.step(step * 10);
        }
        world.finish();
        compacted += usize::from(world.log.compact_revision > 0);
    }
    assert!(compacted > 50, "the sequences are long enough for compactions");
}
