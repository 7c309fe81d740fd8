//! Tests of single streams and watchers. Random sequences are in tests/model.rs.

use super::*;
use crate::{Budget, CatchUp, Event, EventBatch, EventKind};
use auth::{AuthStore, Caller, Guarded};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::WatchCreateRequest;
use proto::{etcdserverpb, mvccpb};
use std::convert::Infallible;
use std::ops::ControlFlow;

const ORIGIN: Origin = Origin { cluster_id: 11, member_id: 22, raft_term: 3 };

/// Permits a request while authentication is off.
fn permitted<R: Guarded>(request: R) -> Permitted<R> {
    AuthStore::disabled().permit(&Caller::default(), request).unwrap()
}

/// All past events.
#[derive(Default)]
struct Store {
    batches: Vec<EventBatch>,
    compact_revision: i64,
}

impl History for Store {
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
        let batches = self.batches.iter().filter(|batch| (from..=to).contains(&batch.revision));
        for event in batches.flat_map(|batch| &batch.events) {
            if visit(event.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Infallible> {
        let mut events = self.batches.iter().rev().flat_map(|batch| batch.events.iter().rev());
        let last = events.find(|event| event.key == key && event.mod_revision <= revision);
        let live = last.filter(|event| event.kind == EventKind::Put);
        Ok(live.filter(|_| revision >= self.compact_revision).map(|event| event.kv.clone()))
    }
}

impl Store {
    /// Writes a revision: each key is put if it has a value, else deleted.
    fn write(&mut self, changes: &[(&str, Option<&str>)]) -> EventBatch {
        let revision = self.revision() + 1;
        let event = |(key, value): &(&str, Option<&str>)| {
            let before = self.value_at(key.as_bytes(), revision).unwrap();
            let before = before.map(|kv| mvccpb::KeyValue::decode(kv).unwrap());
            let create_revision = before.as_ref().map_or(revision, |kv| kv.create_revision);
            let version = before.map_or(1, |kv| kv.version + 1);
            let mut kv = mvccpb::KeyValue {
                key: Bytes::copy_from_slice(key.as_bytes()),
                mod_revision: revision,
                ..Default::default()
            };
            if let Some(value) = value {
                kv.value = Bytes::copy_from_slice(value.as_bytes());
                (kv.create_revision, kv.version) = (create_revision, version);
            }
            Event {
                kind: if value.is_some() { EventKind::Put } else { EventKind::Delete },
                key: kv.key.clone(),
                kv: kv.encode_to_vec().into(),
                mod_revision: revision,
                create_revision: kv.create_revision,
                version: kv.version,
            }
        };
        let batch = EventBatch { revision, events: changes.iter().map(event).collect() };
        self.batches.push(batch.clone());
        batch
    }
}

struct Setting {
    store: Store,
    shard: Shard,
    stream: StreamId,
}

impl Setting {
    fn new() -> Setting {
        Setting::with(Limits::default())
    }

    fn with(limits: Limits) -> Setting {
        let mut shard = Shard::new(1, limits);
        let stream = shard.open_stream(ConnectionId(1), 0, 1000);
        Setting { store: Store::default(), shard, stream }
    }

    fn write(&mut self, changes: &[(&str, Option<&str>)]) {
        let batch = self.store.write(changes);
        let Ok(()) = self.shard.on_events(&batch, &self.store);
        self.shard.check();
    }

    fn put(&mut self, key: &str, value: &str) {
        self.write(&[(key, Some(value))]);
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let request = permitted(CreateRequest::new(request));
        self.shard.create(self.stream, request, &self.store);
        self.shard.check();
    }

    fn watch(&mut self, key: &'static str, start_revision: i64) {
        self.create(WatchCreateRequest { key: key.into(), start_revision, ..Default::default() });
    }

    fn catch_up(&mut self) {
        while self.shard.catch_up(&self.store, &Budget::default()) == Ok(CatchUp::More) {
            self.shard.check();
        }
    }

    /// All queued responses, decoded.
    fn responses(&mut self) -> Vec<etcdserverpb::WatchResponse> {
        let mut responses = Vec::new();
        while let Some(response) = self.shard.next(self.stream, &ORIGIN) {
            let bytes = [&response.head[..], &response.events[..]].concat();
            assert_eq!(bytes.len(), response.len());
            let decoded = etcdserverpb::WatchResponse::decode(&bytes[..]).unwrap();
            assert_eq!(decoded.encode_to_vec(), bytes, "the bytes are prost's");
            responses.push(decoded);
            self.shard.check();
        }
        responses
    }

    /// All queued responses, abbreviated.
    fn told(&mut self) -> Vec<String> {
        self.responses().iter().map(short).collect()
    }
}

fn short(response: &etcdserverpb::WatchResponse) -> String {
    let header = response.header.as_ref().unwrap();
    let mut text = format!("{}@{}", response.watch_id, header.revision);
    for (flag, name) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        text += if flag { name } else { "" };
    }
    if response.compact_revision != 0 {
        text += &format!(" compacted {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        text += &format!(" ({})", response.cancel_reason);
    }
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        let text_of = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        text += &match event.r#type() {
            mvccpb::event::EventType::Put => {
                format!(" {}={}", text_of(&kv.key), text_of(&kv.value))
            }
            mvccpb::event::EventType::Delete => format!(" -{}", text_of(&kv.key)),
        };
        text += &format!("@{}", kv.mod_revision);
        if let Some(prev) = &event.prev_kv {
            text += &format!("(was {})", text_of(&prev.value));
        }
    }
    text
}

#[test]
fn the_header_has_the_fields_of_the_caller_and_of_the_shard() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    let header =
        etcdserverpb::ResponseHeader { cluster_id: 11, member_id: 22, revision: 1, raft_term: 3 };
    let created =
        etcdserverpb::WatchResponse { header: Some(header), created: true, ..Default::default() };
    assert_eq!(setting.responses(), [created]);
}

#[test]
fn events_reach_the_watchers_of_their_keys() {
    let mut setting = Setting::new();
    setting.watch("b", 0);
    for (key, range_end) in [("a", "c"), ("b", "\0"), ("", "\0"), ("c", "d")] {
        let (key, range_end) = (key.into(), range_end.into());
        setting.create(WatchCreateRequest { key, range_end, ..Default::default() });
    }
    setting.told();
    setting.put("b", "1");
    assert_eq!(setting.told(), ["0@2 b=1@2", "1@2 b=1@2", "2@2 b=1@2", "3@2 b=1@2"]);
    setting.put("a", "1");
    assert_eq!(setting.told(), ["1@3 a=1@3", "3@3 a=1@3"]);
    setting.put("c", "1");
    assert_eq!(setting.told(), ["2@4 c=1@4", "3@4 c=1@4", "4@4 c=1@4"]);
}

#[test]
fn the_events_of_a_revision_are_in_one_response_and_in_order() {
    let mut setting = Setting::new();
    setting.put("x", "0");
    setting.create(WatchCreateRequest { range_end: "\0".into(), ..Default::default() });
    setting.write(&[("z", Some("1")), ("x", None), ("y", Some("2"))]);
    assert_eq!(setting.told(), ["0@2 created", "0@3 z=1@3 -x@3 y=2@3"]);
}

#[test]
fn filtered_events_are_left_out_and_empty_responses_are_not_sent() {
    let mut setting = Setting::new();
    for filters in [vec![0], vec![1], vec![0, 1], vec![7]] {
        setting.create(WatchCreateRequest { key: "a".into(), filters, ..Default::default() });
    }
    setting.told();
    setting.put("a", "1");
    setting.write(&[("a", None)]);
    assert_eq!(setting.told(), ["3@2 a=1@2", "1@2 a=1@2", "3@3 -a@3", "0@3 -a@3"]);
}

#[test]
fn previous_values_are_sent_on_request() {
    let mut setting = Setting::new();
    setting.put("a", "1");
    let request = WatchCreateRequest {
        key: "a".into(),
        prev_kv: true,
        start_revision: 2,
        ..Default::default()
    };
    setting.create(request.clone());
    setting.put("a", "2");
    setting.write(&[("a", None)]);
    setting.put("a", "3");
    setting.catch_up();
    let all = " a=1@2 a=2@3(was 1) -a@4(was 2) a=3@5";
    assert_eq!(setting.told(), ["0@2 created".to_owned(), format!("0@5{all}")]);
    setting.put("a", "4");
    assert_eq!(setting.told(), ["0@6 a=4@6(was 3)"]);
    // If the watcher starts at the compacted revision, the previous value is dropped.
    setting.store.compact_revision = 6;
    setting.create(WatchCreateRequest { start_revision: 6, ..request });
    setting.catch_up();
    assert_eq!(setting.told(), ["1@6 created", "1@6 a=4@6"]);
}

#[test]
fn a_watcher_that_starts_in_the_past_reads_history_and_then_new_events() {
    let mut setting = Setting::new();
    for value in ["1", "2", "3"] {
        setting.put("a", value);
    }
    setting.watch("a", 3);
    assert_eq!(setting.shard.stats().slow_watchers, 1);
    setting.put("a", "4");
    assert_eq!(setting.told(), ["0@4 created"]);
    setting.catch_up();
    setting.put("a", "5");
    assert_eq!(setting.told(), ["0@5 a=2@3 a=3@4 a=4@5", "0@6 a=5@6"]);
    assert!(!setting.shard.has_behind());
}

#[test]
fn a_watcher_that_starts_in_the_future_gets_nothing_earlier() {
    let mut setting = Setting::new();
    setting.watch("a", 4);
    setting.watch("a", i64::MAX - 2);
    for value in ["1", "2", "3", "4"] {
        setting.put("a", value);
    }
    assert_eq!(setting.told(), ["0@1 created", "1@1 created", "0@4 a=3@4", "0@5 a=4@5"]);
}

#[test]
fn a_watcher_without_a_start_gets_no_event_of_its_view() {
    let mut setting = Setting::new();
    let batch = setting.store.write(&[("a", Some("1"))]);
    setting.watch("a", 0);
    setting.watch("a", 2);
    let Ok(()) = setting.shard.on_events(&batch, &setting.store);
    setting.put("a", "2");
    let told = setting.told();
    assert_eq!(told, ["0@2 created", "1@2 created", "1@2 a=1@2", "0@3 a=2@3", "1@3 a=2@3"]);
}

#[test]
fn a_watcher_with_a_compacted_start_is_canceled() {
    let mut setting = Setting::new();
    for value in ["1", "2", "3"] {
        setting.put("a", value);
    }
    setting.store.compact_revision = 3;
    setting.watch("a", 2);
    setting.watch("a", 3);
    setting.catch_up();
    assert_eq!(
        setting.told(),
        ["0@4 created", "1@4 created", "0@0 canceled compacted 3", "1@4 a=2@3 a=3@4"]
    );
    setting.shard.cancel(setting.stream, 0);
    assert_eq!(setting.told(), [] as [&str; 0], "it is gone");
}

#[test]
fn creations_are_refused_as_etcd_refuses_them() {
    let mut setting = Setting::new();
    setting.watch("a", -1);
    let (key, range_end) = (Bytes::from("b"), Bytes::from("a"));
    setting.create(WatchCreateRequest { key: key.clone(), range_end, ..Default::default() });
    let range_end = key.clone();
    setting.create(WatchCreateRequest { key, range_end, ..Default::default() });
    for _ in 0..2 {
        setting.create(WatchCreateRequest { key: "a".into(), watch_id: 7, ..Default::default() });
    }
    setting.shard.refuse(setting.stream, "no");
    assert_eq!(
        setting.told(),
        [
            "-1@1 created canceled (etcdserver: mvcc: required revision has been compacted)",
            "-1@1 created canceled (mvcc: watcher range is empty)",
            "-1@1 created canceled (mvcc: watcher range is empty)",
            "7@1 created",
            "-1@1 created canceled (mvcc: duplicate watch ID provided on the WatchStream)",
            "-1@1 created canceled (no)",
        ]
    );
}

#[test]
fn ids_are_assigned_from_zero_and_skip_taken_ones() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    setting.create(WatchCreateRequest { key: "a".into(), watch_id: 1, ..Default::default() });
    setting.watch("a", 0);
    setting.shard.cancel(setting.stream, 0);
    setting.watch("a", 0);
    assert_eq!(
        setting.told(),
        ["0@1 created", "1@1 created", "2@1 created", "0@1 canceled", "3@1 created"]
    );
}

#[test]
fn a_failed_creation_does_not_affect_watcher_zero() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    setting.watch("a", -1);
    setting.told();
    setting.put("a", "1");
    assert_eq!(setting.told(), ["0@2 a=1@2"]);
}

#[test]
fn a_canceled_watcher_receives_nothing_more() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    setting.put("a", "1");
    setting.shard.cancel(setting.stream, 0);
    setting.shard.cancel(setting.stream, 0);
    setting.shard.cancel(setting.stream, 99);
    setting.put("a", "2");
    assert_eq!(setting.told(), ["0@1 created", "0@2 a=1@2", "0@2 canceled"]);
}

#[test]
fn progress_is_sent_once_for_a_stream_whose_watchers_are_current() {
    let mut setting = Setting::new();
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), [] as [&str; 0], "without watchers there is no answer");
    setting.put("b", "1");
    setting.watch("a", 0);
    setting.watch("b", 0);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["0@2 created", "1@2 created", "-1@2"]);
    setting.watch("a", 1);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["2@2 created"], "one is behind");
    setting.catch_up();
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["-1@2"]);
    setting.watch("a", 4);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["3@2 created"], "one waits for the future");
    setting.put("b", "2");
    setting.put("b", "3");
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["1@3 b=2@3", "1@4 b=3@4", "-1@4"]);
}

#[test]
fn idle_watchers_that_want_progress_receive_it_at_intervals() {
    let mut setting = Setting::new();
    let request =
        WatchCreateRequest { key: "a".into(), progress_notify: true, ..Default::default() };
    setting.create(request.clone());
    setting.watch("a", 0);
    setting.create(WatchCreateRequest { start_revision: 3, ..request });
    setting.told();
    assert_eq!(setting.shard.next_tick_ms(), Some(1000));
    setting.shard.tick(999);
    assert_eq!(setting.told(), [] as [&str; 0]);
    setting.shard.tick(1000);
    assert_eq!(setting.told(), ["0@1"], "nobody else asked or is there");
    setting.put("a", "1");
    setting.told();
    setting.shard.tick(2000);
    assert_eq!(setting.told(), [] as [&str; 0], "it was told something since");
    setting.put("b", "1");
    setting.shard.tick(3000);
    assert_eq!(setting.told(), ["0@3", "2@3"]);
    setting.shard.close_stream(setting.stream);
    assert_eq!(setting.shard.next_tick_ms(), None);
}

#[test]
fn large_responses_are_split_for_watchers_that_want_fragments() {
    let mut setting = Setting::with(Limits { fragment_from: 100, ..Limits::default() });
    let all = WatchCreateRequest { range_end: "\0".into(), ..Default::default() };
    setting.create(all.clone());
    setting.create(WatchCreateRequest { fragment: true, ..all });
    setting.told();
    let value = "x".repeat(30);
    let keys = ["a", "b", "c", "d", "e"].map(|key| (key, Some(&value[..])));
    setting.write(&keys);
    let responses = setting.responses();
    let events = |at: usize| responses[at].events.len();
    assert_eq!((responses[0].watch_id, events(0)), (0, 5));
    assert!(responses[1..].iter().all(|response| response.encoded_len() < 100));
    assert_eq!((1..responses.len()).map(events).sum::<usize>(), 5);
    let flags: Vec<bool> = responses[1..].iter().map(|response| response.fragment).collect();
    assert!(flags.len() > 2 && !responses[0].fragment, "{flags:?}");
    assert_eq!(flags.iter().position(|fragment| !fragment), Some(flags.len() - 1));
    setting.put("a", &"x".repeat(200));
    assert_eq!(setting.responses()[1].events.len(), 1, "one event is never cut");
}

#[test]
fn a_slow_stream_queues_little_and_misses_nothing() {
    let mut setting = Setting::with(Limits { stream_bytes: 1000, ..Limits::default() });
    setting.watch("a", 0);
    setting.told();
    for number in 0..100 {
        setting.put("a", &number.to_string());
    }
    let stats = setting.shard.stats();
    assert!(stats.queued_bytes < 1000 && stats.slow_watchers == 1, "{stats:?}");
    assert!(!setting.shard.has_behind(), "without room it is not tried");
    let mut events = 0;
    while events < 100 {
        let responses = setting.responses();
        events += responses.iter().map(|response| response.events.len()).sum::<usize>();
        setting.catch_up();
    }
    assert_eq!(setting.told(), [] as [&str; 0]);
    let stats = setting.shard.stats();
    assert_eq!((stats.queued_bytes, stats.pending_events, stats.sent_events), (0, 0, 100));
}

#[test]
fn a_slow_stream_does_not_delay_other_streams() {
    let mut setting = Setting::with(Limits { stream_bytes: 1000, ..Limits::default() });
    setting.watch("a", 0);
    let slow = setting.stream;
    setting.stream = setting.shard.open_stream(ConnectionId(1), 0, 1000);
    setting.watch("a", 0);
    setting.told();
    for number in 0..100 {
        setting.put("a", &number.to_string());
        assert_eq!(setting.told().len(), 1);
    }
    assert!(setting.shard.is_full(slow) || setting.shard.stats().slow_watchers == 1);
}

#[test]
fn progress_that_nobody_reads_does_not_pile_up() {
    let mut setting = Setting::with(Limits { stream_bytes: 1000, ..Limits::default() });
    let request =
        || WatchCreateRequest { key: "a".into(), progress_notify: true, ..Default::default() };
    setting.create(request());
    setting.create(request());
    for round in 1..=1000 {
        setting.shard.tick(round * 1000);
    }
    setting.shard.check();
    assert!(setting.told().len() <= 8, "as many as fit 1000 bytes");
    setting.shard.tick(1_001_000);
    assert_eq!(setting.told(), ["0@1", "1@1"], "a client that reads gets them again");
}

#[test]
fn watchers_over_a_limit_are_refused_and_canceled_ones_make_room() {
    let limits = Limits { stream_watchers: 2, connection_watchers: 3, ..Limits::default() };
    let mut setting = Setting::with(limits);
    const REFUSED: &str = "-1@1 created canceled (etcdserver: too many requests)";
    setting.watch("a", 0);
    setting.watch("a", 0);
    setting.watch("a", 0);
    assert_eq!(setting.told(), ["0@1 created", "1@1 created", REFUSED]);
    let first = setting.stream;
    setting.stream = setting.shard.open_stream(ConnectionId(1), 0, 1000);
    setting.watch("a", 0);
    setting.watch("a", 0);
    assert_eq!(setting.told(), ["0@1 created", REFUSED], "the connection has three");
    setting.shard.cancel(first, 0);
    setting.watch("a", 0);
    assert_eq!(setting.told(), ["1@1 created"]);
    setting.stream = setting.shard.open_stream(ConnectionId(2), 0, 1000);
    setting.watch("a", 0);
    assert_eq!(setting.told(), ["0@1 created"], "another connection has its own limit");
    setting.shard.close_stream(first);
    setting.shard.check();
    let stats = setting.shard.stats();
    assert_eq!((stats.watchers, stats.refused_watchers), (3, 2));
}

#[test]
fn what_a_watcher_holds_is_dropped_when_it_ends_or_is_refused() {
    let limits = Limits { stream_watchers: 2, ..Limits::default() };
    let Setting { store, mut shard, stream } = Setting::with(limits);
    let place = std::rc::Rc::new(());
    let held = || std::rc::Rc::strong_count(&place) - 1;
    let create = |shard: &mut Shard| {
        let request = WatchCreateRequest { key: "a".into(), ..Default::default() };
        let request = permitted(CreateRequest::new(request));
        let holds: WatcherPlace = Box::new(std::rc::Rc::clone(&place));
        shard.create_holding(stream, request, &store, Some(holds));
    };
    create(&mut shard);
    create(&mut shard);
    create(&mut shard);
    assert_eq!(held(), 2, "the third is refused");
    shard.cancel(stream, 0);
    assert_eq!(held(), 1);
    shard.close_stream(stream);
    assert_eq!(held(), 0);
}

#[test]
fn watchers_of_the_same_events_share_their_bytes() {
    let mut setting = Setting::new();
    let mut streams = vec![setting.stream];
    streams.extend((0..9).map(|_| setting.shard.open_stream(ConnectionId(1), 0, 1000)));
    for stream in &streams {
        setting.stream = *stream;
        setting.watch("a", 0);
        let (key, range_end) = ("a".into(), "b".into());
        setting.create(WatchCreateRequest { key, range_end, ..Default::default() });
        setting.told();
    }
    setting.put("a", &"x".repeat(500));
    assert!(setting.shard.stats().queued_bytes < 600);
    let mut pointers = BTreeSet::new();
    for stream in streams {
        while let Some(response) = setting.shard.next(stream, &ORIGIN) {
            pointers.insert(response.events.as_ptr());
        }
    }
    assert_eq!(pointers.len(), 1);
    assert_eq!(setting.shard.stats().queued_bytes, 0);
}

#[test]
fn a_stream_is_announced_once_until_it_is_empty() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    setting.put("a", "1");
    assert_eq!(setting.shard.next_ready(), Some(setting.stream));
    assert_eq!(setting.shard.next_ready(), None);
    setting.told();
    setting.put("a", "2");
    assert_eq!(setting.shard.next_ready(), Some(setting.stream));
}

#[test]
fn missing_and_repeated_batches_lose_and_double_no_event() {
    let mut setting = Setting::new();
    setting.watch("a", 0);
    setting.watch("a", 5);
    setting.told();
    setting.put("a", "1");
    setting.store.write(&[("a", Some("2"))]);
    setting.put("a", "3");
    setting.put("a", "4");
    let last = setting.store.batches.last().unwrap().clone();
    let Ok(()) = setting.shard.on_events(&last, &setting.store);
    setting.catch_up();
    let told = setting.told();
    assert_eq!(told, ["0@2 a=1@2", "1@5 a=4@5", "0@5 a=2@3 a=3@4 a=4@5"]);
}

#[test]
fn skipped_revisions_do_not_cancel_current_watchers() {
    let mut setting = Setting::new();
    setting.watch("quiet", 0);
    setting.watch("quiet", i64::MAX - 2);
    setting.told();
    for value in ["1", "2", "3"] {
        setting.put("a", value);
    }
    setting.store.write(&[("quiet", Some("x"))]);
    setting.store.write(&[("a", Some("5"))]);
    setting.store.compact_revision = 5;
    setting.shard.events_lost(&setting.store);
    setting.catch_up();
    assert_eq!(setting.told(), ["0@6 quiet=x@5"]);
}

#[test]
fn lost_events_are_read_from_the_history_before_progress_is_sent() {
    let mut setting = Setting::new();
    let key = "a".into();
    setting.create(WatchCreateRequest { key, progress_notify: true, ..Default::default() });
    setting.watch("a", 6);
    setting.put("a", "1");
    setting.told();
    setting.store.write(&[("a", Some("lost"))]);
    setting.store.write(&[("b", Some("lost"))]);
    let queued = setting.store.write(&[("a", Some("queued"))]);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), [] as [&str; 0], "watcher 1 waits for revision 6");
    setting.shard.cancel(setting.stream, 1);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["1@2 canceled", "-1@2"], "the loss is not known yet");
    setting.shard.events_lost(&setting.store);
    setting.shard.events_lost(&setting.store);
    setting.shard.check();
    assert_eq!(setting.shard.stats().slow_watchers, 1);
    let Ok(()) = setting.shard.on_events(&queued, &setting.store);
    setting.shard.tick(2000);
    setting.shard.tick(4000);
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), [] as [&str; 0], "the watcher is behind");
    setting.catch_up();
    setting.shard.request_progress(setting.stream);
    assert_eq!(setting.told(), ["0@5 a=lost@3 a=queued@5", "-1@5"]);
    setting.put("a", "2");
    assert_eq!(setting.told(), ["0@6 a=2@6"]);
}

#[test]
fn watchers_that_keep_starting_in_the_past_do_not_starve_others() {
    let mut setting = Setting::new();
    for number in 0..100 {
        setting.put("a", &number.to_string());
    }
    setting.watch("a", 50);
    let budget = Budget { events: 5, ..Budget::default() };
    for _ in 0..100 {
        setting.watch("b", 2);
        let Ok(_) = setting.shard.catch_up(&setting.store, &budget);
    }
    let told = setting.told();
    assert!(told.iter().any(|text| text.contains("a=99@101")), "the last event has come");
}

#[test]
fn catching_up_waits_for_a_view_that_is_new_enough() {
    let mut setting = Setting::new();
    setting.put("a", "1");
    setting.watch("a", 2);
    let old = Store::default();
    assert_eq!(setting.shard.catch_up(&old, &Budget::default()), Ok(CatchUp::AwaitView));
    setting.catch_up();
    assert_eq!(setting.told(), ["0@2 created", "0@2 a=1@2"]);
}
