//! Single steps, and a simulated server against the watchers that come and go.

use super::*;
use proto::mvccpb::KeyValue;
use random::Random;

fn target(token: Option<&'static str>) -> Target {
    let token = token.map(Bytes::from);
    Target { key: "k".into(), range_end: Bytes::new(), token }
}

fn from(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: "k".into(), start_revision, ..Default::default() }
}

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { cluster_id: 7, revision, ..Default::default() }
}

fn event(mod_revision: i64) -> Event {
    let kv = |mod_revision| KeyValue { key: "k".into(), mod_revision, ..Default::default() };
    Event { kv: Some(kv(mod_revision)), prev_kv: Some(kv(mod_revision - 1)), ..Default::default() }
}

fn events(revisions: &[i64], now: i64) -> pb::WatchResponse {
    let events = revisions.iter().copied().map(event).collect();
    pb::WatchResponse { header: Some(header(now)), events, ..Default::default() }
}

/// The broadcasts that were opened, with their start revision.
fn opened(effects: &[Effect]) -> Vec<(BroadcastId, i64)> {
    let opened = effects.iter().filter_map(|effect| match effect {
        Effect::Open { broadcast, start_revision, .. } => Some((*broadcast, *start_revision)),
        Effect::Close(_) | Effect::Send { .. } => None,
    });
    opened.collect()
}

/// The responses that were sent: the stream, and the revisions of the events.
fn sent(effects: &[Effect]) -> Vec<(u64, Vec<i64>)> {
    let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { stream, response } => {
            Some((*stream, response.events.iter().map(revision).collect()))
        }
        Effect::Open { .. } | Effect::Close(_) => None,
    });
    sent.collect()
}

fn responses(effects: Vec<Effect>) -> Vec<pb::WatchResponse> {
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { response, .. } => Some(response),
        Effect::Open { .. } | Effect::Close(_) => None,
    });
    sent.collect()
}

/// A coalescer with one watcher of stream 1 from revision 5 on, whose watch is created.
fn one() -> (Coalescer, BroadcastId) {
    let mut coalescer = Coalescer::default();
    coalescer.add(1, target(None), &from(5));
    let (broadcast, _) = opened(&coalescer.take_effects())[0];
    coalescer.created(broadcast, header(9));
    coalescer.take_effects();
    (coalescer, broadcast)
}

#[test]
fn watchers_of_the_same_keys_share_one_watch() {
    let (mut coalescer, broadcast) = one();
    coalescer.add(2, target(None), &from(5));
    coalescer.add(3, target(None), &from(7));
    let effects = coalescer.take_effects();
    assert_eq!(opened(&effects), []);
    let created = responses(effects);
    assert!(created.iter().all(|it| it.created && it.header == Some(header(9))), "{created:?}");
    assert_eq!(coalescer.sharing(), 2);
    assert_eq!(coalescer.received(broadcast, &events(&[6, 8], 9)), 2);
    let sent = sent(&coalescer.take_effects());
    assert_eq!(sent, [(1, vec![6, 8]), (2, vec![6, 8]), (3, vec![8])]);
}

#[test]
fn a_watcher_that_wants_older_events_gets_a_watch_of_its_own_until_it_has_caught_up() {
    let (mut coalescer, first) = one();
    coalescer.received(first, &events(&[8], 8));
    coalescer.take_effects();
    coalescer.add(2, target(None), &from(6));
    let (second, start) = opened(&coalescer.take_effects())[0];
    assert_eq!(start, 6);
    coalescer.created(second, header(9));
    // The header says 9, but the event 8 still follows.
    coalescer.received(second, &events(&[7], 9));
    assert!(!coalescer.take_effects().contains(&Effect::Close(second)));
    coalescer.received(second, &events(&[8], 9));
    let effects = coalescer.take_effects();
    assert_eq!(sent(&effects), [(2, vec![8])]);
    assert!(effects.contains(&Effect::Close(second)));
    coalescer.received(first, &events(&[10], 10));
    assert_eq!(sent(&coalescer.take_effects()), [(1, vec![10]), (2, vec![10])]);
}

#[test]
fn a_watcher_of_the_current_state_joins_once_its_revision_is_known() {
    let (mut coalescer, first) = one();
    coalescer.add(2, target(None), &from(0));
    let (second, start) = opened(&coalescer.take_effects())[0];
    assert_eq!(start, 0);
    coalescer.created(second, header(20));
    let effects = coalescer.take_effects();
    assert!(effects.contains(&Effect::Close(second)), "the first one is not ahead");
    // Events before its creation are not for it.
    coalescer.received(first, &events(&[6, 20, 21], 21));
    assert_eq!(sent(&coalescer.take_effects()), [(1, vec![6, 20, 21]), (2, vec![21])]);
    // Two that begin at the same time wait for the same response.
    coalescer.add(3, Target { key: "other".into(), ..target(None) }, &from(0));
    coalescer.add(4, Target { key: "other".into(), ..target(None) }, &from(0));
    let effects = coalescer.take_effects();
    assert_eq!((opened(&effects).len(), sent(&effects).len()), (1, 0));
}

#[test]
fn clients_with_different_tokens_share_nothing() {
    let (mut coalescer, _) = one();
    coalescer.add(2, target(Some("alice")), &from(5));
    coalescer.add(3, target(Some("bob")), &from(5));
    assert_eq!(opened(&coalescer.take_effects()).len(), 2);
}

#[test]
fn each_watcher_gets_what_it_asked_for() {
    let (mut coalescer, broadcast) = one();
    let all = pb::WatchCreateRequest { prev_kv: true, progress_notify: true, ..from(5) };
    coalescer.add(2, target(None), &all);
    let filters = vec![FilterType::Noput.into()];
    coalescer.add(3, target(None), &pb::WatchCreateRequest { filters, ..from(5) });
    coalescer.take_effects();
    coalescer.received(broadcast, &events(&[], 9));
    assert_eq!(sent(&coalescer.take_effects()), [(2, vec![])], "progress");
    let mut both = events(&[10, 10], 10);
    both.events[1].r#type = EventType::Delete.into();
    coalescer.received(broadcast, &both);
    let got: Vec<Vec<(i32, bool)>> = responses(coalescer.take_effects())
        .into_iter()
        .map(|it| it.events.into_iter().map(|it| (it.r#type, it.prev_kv.is_some())).collect())
        .collect();
    let plain = vec![(0, false), (1, false)];
    assert_eq!(got, [plain, vec![(0, true), (1, true)], vec![(1, false)]]);
}

#[test]
fn the_watch_ends_with_its_last_watcher() {
    let (mut coalescer, broadcast) = one();
    coalescer.add(2, target(None), &from(5));
    coalescer.take_effects();
    coalescer.cancel(WatcherId { stream: 1, id: 0 });
    coalescer.cancel(WatcherId { stream: 1, id: 0 });
    let effects = coalescer.take_effects();
    assert!(!effects.contains(&Effect::Close(broadcast)));
    let canceled = responses(effects);
    assert_eq!(canceled.len(), 1);
    assert!(canceled[0].canceled && canceled[0].header == Some(header(9)));
    coalescer.end_stream(2);
    assert_eq!(coalescer.take_effects(), [Effect::Close(broadcast)]);
    assert!(coalescer.watchers.is_empty() && coalescer.broadcasts.is_empty());
}

#[test]
fn a_watch_that_the_server_ends_ends_for_all() {
    let (mut coalescer, broadcast) = one();
    coalescer.add(2, target(None), &from(5));
    coalescer.take_effects();
    let end = pb::WatchResponse { compact_revision: 6, canceled: true, ..Default::default() };
    coalescer.ended(broadcast, &end);
    let ends = responses(coalescer.take_effects());
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|it| it.canceled && !it.created && it.compact_revision == 6));
    // One that was not created answers the request of each watcher.
    coalescer.add(3, target(None), &from(5));
    let (broadcast, _) = opened(&coalescer.take_effects())[0];
    coalescer.ended(broadcast, &pb::WatchResponse { cancel_reason: "no".into(), ..end });
    let ends = responses(coalescer.take_effects());
    assert!(ends[0].created && ends[0].canceled && ends[0].watch_id == -1);
    assert_eq!(ends[0].cancel_reason, "no");
}

#[test]
fn a_range_without_keys_is_refused() {
    let mut coalescer = Coalescer::default();
    let empty = Target { range_end: "a".into(), ..target(None) };
    coalescer.add(1, empty, &from(0));
    let refused = responses(coalescer.take_effects());
    assert!(refused[0].created && refused[0].canceled && refused[0].watch_id == -1);
    for range_end in ["", "l", "\0"] {
        coalescer.add(1, Target { range_end: range_end.into(), ..target(None) }, &from(0));
        assert_eq!(opened(&coalescer.take_effects()).len(), 1, "{range_end:?}");
    }
}

/// A watch at the simulated server: the next revision that it sends.
struct Served {
    next: i64,
    is_created: bool,
}

/// A server whose every revision is an event, watchers that come and go, and responses that arrive at
/// any time.
struct World {
    coalescer: Coalescer,
    now: i64,
    served: BTreeMap<BroadcastId, Served>,
    /// The start revision of each stream, which has one watcher, and what it got.
    streams: BTreeMap<u64, (i64, Vec<i64>)>,
    last_stream: u64,
}

impl World {
    fn add(&mut self, random: &mut Random) {
        self.last_stream += 1;
        let start = match random.below(2) {
            0 => 0,
            _ => 1 + random.below(self.now.unsigned_abs() + 3).cast_signed(),
        };
        self.streams.insert(self.last_stream, (start, Vec::new()));
        self.coalescer.add(self.last_stream, target(None), &from(start));
    }

    fn drop_one(&mut self, random: &mut Random) {
        let all: Vec<u64> = self.streams.keys().copied().collect();
        if let Some(stream) = all.get(random.index(all.len().max(1))) {
            self.streams.remove(stream);
            self.coalescer.end_stream(*stream);
        }
    }

    /// The server creates a watch, or sends at most `max` of its events, or else its progress.
    fn serve(&mut self, id: BroadcastId, max: i64) {
        let (watch, now) = (self.served.get_mut(&id).unwrap(), self.now);
        if !watch.is_created {
            watch.is_created = true;
            watch.next = if watch.next == 0 { now + 1 } else { watch.next };
            self.coalescer.created(id, header(now));
        } else if watch.next <= now {
            let all: Vec<i64> = (watch.next..=now.min(watch.next + max - 1)).collect();
            watch.next = all.last().unwrap() + 1;
            self.coalescer.received(id, &events(&all, now));
        } else if watch.next == now + 1 {
            self.coalescer.received(id, &events(&[], now));
        }
    }

    fn carry_out(&mut self) {
        for effect in self.coalescer.take_effects() {
            match effect {
                Effect::Open { broadcast, start_revision, .. } => {
                    let watch = Served { next: start_revision, is_created: false };
                    self.served.insert(broadcast, watch);
                }
                Effect::Close(broadcast) => assert!(self.served.remove(&broadcast).is_some()),
                Effect::Send { stream, response } => {
                    let (start, got) = self.streams.get_mut(&stream).expect("it has not ended");
                    if response.created && *start == 0 {
                        *start = response.header.unwrap().revision + 1;
                    }
                    let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
                    got.extend(response.events.iter().map(revision));
                }
            }
        }
        self.coalescer.check();
    }
}

/// Each watcher gets all events from its start on, once and in order.
fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World {
        coalescer: Coalescer::default(),
        now: 1,
        served: BTreeMap::new(),
        streams: BTreeMap::new(),
        last_stream: 0,
    };
    for _ in 0..400 {
        match random.below(8) {
            0 => world.add(&mut random),
            1 if random.below(3) == 0 => world.drop_one(&mut random),
            2 | 3 => world.now += 1,
            _ => {
                let all: Vec<BroadcastId> = world.served.keys().copied().collect();
                let Some(id) = all.get(random.index(all.len().max(1))) else { continue };
                world.serve(*id, 1 + random.below(3).cast_signed());
            }
        }
        world.carry_out();
    }
    // Everything that was not delivered yet.
    let is_behind = |world: &World| {
        let behind = |it: &Served| !it.is_created || it.next <= world.now;
        world.served.iter().find(|(_, it)| behind(it)).map(|(id, _)| *id)
    };
    while let Some(id) = is_behind(&world) {
        world.serve(id, i64::from(u16::MAX));
        world.carry_out();
    }
    for (stream, (start, got)) in world.streams {
        let all: Vec<i64> = (start..=world.now).collect();
        assert_eq!(got, all, "stream {stream} from {start}");
    }
}

#[test]
fn no_watcher_misses_or_repeats_an_event() {
    for seed in 0..500 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "failed with the seed {seed}");
    }
}
