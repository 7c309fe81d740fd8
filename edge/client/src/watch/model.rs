//! Seeded runs of [`Hub`] against a server that answers in any legal order, loses streams, compacts
//! and refuses. Each run compares the events that the readers got with the server's history.

use super::hub::{Hub, Number};
use super::update::WatchUpdate;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use random::Random;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const KEYS: u64 = 4;

/// A watch at the server.
#[derive(Debug)]
struct Served {
    number: Number,
    key: u64,
    /// The next revision to send.
    next: i64,
    fragment: bool,
}

/// One stream at the server. The answers are in flight until the client reads them.
#[derive(Debug, Default)]
struct Wire {
    requests: VecDeque<pb::WatchRequest>,
    answers: VecDeque<(pb::WatchResponse, Option<Number>)>,
    watches: BTreeMap<i64, Served>,
    next_id: i64,
}

/// The server: `history[r]` is the key that revision `r` changed.
#[derive(Debug)]
struct Server {
    history: Vec<u64>,
    compacted: i64,
    wire: Wire,
}

/// A reader: the events that it must get, and those that it got.
#[derive(Debug)]
struct Reader {
    key: u64,
    start: i64,
    /// The revision of its first event; known once the watch is created.
    first: Option<i64>,
    given: Vec<i64>,
    /// The revision of its last progress notification.
    progress: i64,
    ended: Option<String>,
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn event(mod_revision: i64) -> proto::mvccpb::Event {
    let kv = proto::mvccpb::KeyValue { mod_revision, ..Default::default() };
    proto::mvccpb::Event { kv: Some(kv), ..Default::default() }
}

impl Server {
    fn revision(&self) -> i64 {
        i64::try_from(self.history.len()).unwrap() - 1
    }

    fn events(&self, key: u64, from: i64) -> Vec<i64> {
        (from.max(1)..=self.revision())
            .filter(|revision| self.history[usize::try_from(*revision).unwrap()] == key)
            .collect()
    }

    fn send(&mut self, answer: pb::WatchResponse, number: Option<Number>) {
        self.wire.answers.push_back((answer, number));
    }

    /// Executes the next request, if there is one.
    fn execute(&mut self, random: &mut Random) {
        let Some(request) = self.wire.requests.pop_front() else { return };
        let revision = self.revision();
        match request.request_union.unwrap() {
            RequestUnion::CreateRequest(create) => self.create(&create, random),
            RequestUnion::CancelRequest(cancel) => {
                if let Some(served) = self.wire.watches.remove(&cancel.watch_id) {
                    let watch_id = cancel.watch_id;
                    let header = header(revision);
                    let answer = pb::WatchResponse {
                        header,
                        watch_id,
                        canceled: true,
                        ..Default::default()
                    };
                    self.send(answer, Some(served.number));
                }
            }
            RequestUnion::ProgressRequest(_) => {
                // It is answered only if all watches of the stream are at the current revision.
                if self.wire.watches.values().all(|served| served.next > revision) {
                    let header = header(revision);
                    let answer = pb::WatchResponse { header, watch_id: -1, ..Default::default() };
                    self.send(answer, None);
                }
            }
        }
    }

    fn create(&mut self, create: &pb::WatchCreateRequest, random: &mut Random) {
        assert_eq!(create.watch_id, 0, "the server chooses the id");
        let number = Number::from(create.range_end[0]) << 8 | Number::from(create.range_end[1]);
        let revision = self.revision();
        let mut answer =
            pb::WatchResponse { header: header(revision), created: true, ..Default::default() };
        if random.below(40) == 0 {
            answer.watch_id = -1;
            answer.canceled = true;
            answer.cancel_reason = "etcdserver: permission denied".to_string();
            return self.send(answer, Some(number));
        }
        let id = self.wire.next_id;
        self.wire.next_id += 1;
        answer.watch_id = id;
        self.send(answer, Some(number));
        let next = if create.start_revision == 0 { revision + 1 } else { create.start_revision };
        if next <= self.compacted {
            let compact_revision = self.compacted;
            let (watch_id, header) = (id, header(revision));
            return self.send(
                pb::WatchResponse {
                    header,
                    watch_id,
                    canceled: true,
                    compact_revision,
                    ..Default::default()
                },
                Some(number),
            );
        }
        let (key, fragment) = (u64::from(create.key[0]), create.fragment);
        self.wire.watches.insert(id, Served { number, key, next, fragment });
    }

    /// Sends a watch some of its next events, or its progress, or ends it.
    fn serve(&mut self, random: &mut Random) {
        let ids: Vec<i64> = self.wire.watches.keys().copied().collect();
        let Some(id) = pick(&ids, random) else { return };
        let served = &self.wire.watches[&id];
        let (number, revision, next) = (served.number, self.revision(), served.next);
        let events = self.events(served.key, next);
        let watch_id = id;
        if random.below(60) == 0 {
            self.wire.watches.remove(&id);
            let cancel_reason = "etcdserver: user name is empty".to_string();
            let header = header(revision);
            let end = pb::WatchResponse {
                header,
                watch_id,
                canceled: true,
                cancel_reason,
                ..Default::default()
            };
            return self.send(end, Some(number));
        }
        if events.is_empty() {
            if random.below(3) == 0 && next <= revision + 1 {
                self.wire.watches.get_mut(&id).unwrap().next = revision + 1;
                let header = header(revision);
                let progress = pb::WatchResponse { header, watch_id, ..Default::default() };
                self.send(progress, Some(number));
            }
            return;
        }
        let count = 1 + usize::try_from(random.below(events.len() as u64)).unwrap();
        let events = &events[..count];
        let last = *events.last().unwrap();
        let fragment = served.fragment && events.len() > 1 && random.below(2) == 0;
        let parts =
            if fragment { events.chunks(1 + events.len() / 3) } else { events.chunks(count) };
        let parts: Vec<Vec<i64>> = parts.map(<[i64]>::to_vec).collect();
        let all = parts.len();
        for (at, part) in parts.into_iter().enumerate() {
            let answer = pb::WatchResponse {
                header: header(revision),
                watch_id,
                events: part.into_iter().map(event).collect(),
                fragment: at + 1 < all,
                ..Default::default()
            };
            self.send(answer, Some(number));
            self.interrupt_fragments(random);
        }
        self.wire.watches.get_mut(&id).unwrap().next = last + 1;
    }

    /// Between the fragments of one watch, sends answers for other watches.
    fn interrupt_fragments(&mut self, random: &mut Random) {
        if random.below(4) == 0
            && matches!(
                self.wire.requests.front().and_then(|request| request.request_union.as_ref()),
                Some(RequestUnion::CreateRequest(_))
            )
        {
            self.execute(random);
        }
    }
}

fn pick<T: Copy>(from: &[T], random: &mut Random) -> Option<T> {
    let at = random.below(from.len().max(1) as u64);
    from.get(usize::try_from(at).unwrap()).copied()
}

struct World {
    random: Random,
    server: Server,
    hub: Hub,
    readers: BTreeMap<Number, Reader>,
    dropped: BTreeSet<Number>,
    next: Number,
}

impl World {
    fn new(seed: u64) -> World {
        let server = Server { history: vec![KEYS], compacted: 0, wire: Wire::default() };
        World {
            random: Random::new(seed),
            server,
            hub: Hub::default(),
            readers: BTreeMap::new(),
            dropped: BTreeSet::new(),
            next: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0 | 1 => self.add(),
            2 => self.drop_reader(),
            3 => self.hub.want_progress(),
            4 if self.random.below(4) == 0 => self.break_stream(),
            5 if self.random.below(6) == 0 => {
                self.server.compacted = self.server.revision() / 2;
            }
            6..=8 => {
                let key = self.random.below(KEYS);
                self.server.history.push(key);
            }
            9..=12 => {
                self.server.wire.requests.extend(self.hub.next_request());
            }
            13..=15 => self.server.execute(&mut self.random),
            16..=19 => self.server.serve(&mut self.random),
            _ => self.receive(),
        }
        self.hub.check();
        let (requests, watches) = self.hub.held();
        assert!(requests <= 2 * (watches + self.dropped.len()), "{requests} for {watches}");
    }

    fn add(&mut self) {
        if self.readers.len() > 12 {
            return;
        }
        let (number, key) = (self.next, self.random.below(KEYS));
        self.next += 1;
        let revision = u64::try_from(self.server.revision()).unwrap();
        let start = match self.random.below(2) {
            0 => 0,
            _ => i64::try_from(1 + self.random.below(revision + 3)).unwrap(),
        };
        let tag = vec![u8::try_from(number >> 8).unwrap(), u8::try_from(number & 255).unwrap()];
        self.hub.add(
            number,
            pb::WatchCreateRequest {
                key: vec![u8::try_from(key).unwrap()].into(),
                range_end: tag.into(),
                start_revision: start,
                fragment: self.random.below(2) == 0,
                ..Default::default()
            },
        );
        let (given, ended) = (Vec::new(), None);
        let reader = Reader { key, start, first: None, given, progress: 0, ended };
        self.readers.insert(number, reader);
    }

    fn drop_reader(&mut self) {
        let numbers: Vec<Number> = self.readers.keys().copied().collect();
        if let Some(number) = pick(&numbers, &mut self.random) {
            self.readers.remove(&number);
            self.dropped.insert(number);
            self.hub.forget(number);
        }
    }

    /// Breaks the stream. Unread answers and requests are lost.
    fn break_stream(&mut self) {
        self.server.wire = Wire::default();
        self.hub.stream_ended();
    }

    fn receive(&mut self) {
        let Some((answer, about)) = self.server.wire.answers.pop_front() else { return };
        if answer.created && !answer.canceled {
            let reader = about.and_then(|number| self.readers.get_mut(&number));
            if let Some(reader) = reader.filter(|reader| reader.first.is_none()) {
                let now = answer.header.as_ref().unwrap().revision + 1;
                reader.first = Some(if reader.start == 0 { now } else { reader.start });
            }
        }
        for delivery in self.hub.receive(answer).expect("the server keeps to the protocol") {
            assert!(
                about.is_none_or(|about| about == delivery.number),
                "an answer for {about:?} was given to {}",
                delivery.number
            );
            let reader = self.readers.get_mut(&delivery.number);
            reader.expect("nothing is delivered to a dropped reader").give(delivery.update);
        }
    }

    /// Runs until nothing is in flight, without faults.
    fn settle(&mut self) {
        loop {
            let request = self.hub.next_request();
            let quiet = request.is_none()
                && self.server.wire.requests.is_empty()
                && self.server.wire.answers.is_empty();
            self.server.wire.requests.extend(request);
            self.server.execute(&mut self.random);
            let revision = self.server.revision();
            let behind = |served: &Served| !self.server.events(served.key, served.next).is_empty();
            let behind = self.server.wire.watches.values().any(behind);
            self.server.serve(&mut self.random);
            self.receive();
            assert_eq!(revision, self.server.revision());
            if quiet && !behind {
                break;
            }
        }
        while !self.server.wire.answers.is_empty() {
            self.receive();
        }
    }

    fn check(&self) {
        for (number, reader) in &self.readers {
            reader.check_order(&self.server);
            let served = self.server.wire.watches.values().any(|served| served.number == *number);
            if reader.ended.is_none() {
                assert!(served, "watch {number} goes on and is not at the server");
                let first = reader.first.unwrap();
                let all = self.server.events(reader.key, first);
                assert_eq!(reader.given, all, "watch {number} from {first}");
            } else {
                assert!(!served, "watch {number} has ended and is still at the server");
            }
        }
        for served in self.server.wire.watches.values() {
            let number = served.number;
            assert!(!self.dropped.contains(&number), "{number} is cancelled and still served");
        }
    }
}

impl Reader {
    fn give(&mut self, update: WatchUpdate) {
        assert!(self.ended.is_none(), "nothing follows the end");
        let revision = update.response.header.as_ref().map_or(0, |header| header.revision);
        if update.is_progress() {
            self.progress = self.progress.max(revision);
        }
        for event in update.response.events {
            let revision = event.kv.unwrap().mod_revision;
            assert!(revision > self.progress, "an event after the progress that contains it");
            self.given.push(revision);
        }
        self.ended = update.error.map(|error| error.to_string());
    }

    /// Checks that the reader got the history from its first revision on, without a gap.
    fn check_order(&self, server: &Server) {
        let Some(first) = self.first else { return assert!(self.given.is_empty()) };
        let all = server.events(self.key, first);
        assert!(all.starts_with(&self.given), "{:?} of {all:?}", self.given);
    }
}

fn run(seed: u64, steps: u64) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
        for reader in world.readers.values() {
            reader.check_order(&world.server);
        }
    }
    world.settle();
    world.check();
}

#[test]
fn no_event_is_lost_or_doubled_and_dropped_watches_end_at_the_server() {
    let (first, last) = match std::env::var("RETCD_SEED") {
        Ok(seed) => (seed.parse().unwrap(), seed.parse().unwrap()),
        Err(_) => (0, 1999),
    };
    for seed in first..=last {
        let outcome = std::panic::catch_unwind(|| run(seed, 300));
        assert!(outcome.is_ok(), "failed: RETCD_SEED={seed}");
    }
}
