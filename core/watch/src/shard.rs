//! The watchers of one worker.
//!
//! Source: etcd v3.7 server/storage/mvcc/watchable_store.go,
//! server/etcdserver/api/v3rpc/watch.go.

mod catch_up;
mod deliver;
mod progress;

pub use catch_up::{Budget, CatchUp};

use crate::interest::{Interests, WatcherKey};
use crate::response::{NO_WATCH, Response, ResponseHead};
use crate::stream::{
    ConnectionId, RESPONSE_BYTES, Stream, Waiting, Watcher, WatcherPlace, WatcherState,
};
use crate::{CreateRequest, History, StreamId};
use auth::Permitted;
use bytes::BytesMut;
use proto::answer::Origin;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The limits of a shard: its queues, and the watchers of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of responses queued in one stream. Above it, only an empty queue takes more.
    pub stream_bytes: usize,
    /// Bytes of events queued in all streams; shared bytes count once. Above it, only empty queues
    /// take more.
    pub shard_bytes: usize,
    /// Responses of at least this length are split for watchers that want fragments. In etcd the
    /// largest request plus 512 KiB.
    pub fragment_from: usize,
    /// Watchers of one stream.
    pub stream_watchers: usize,
    /// Watchers of all streams of one connection.
    pub connection_watchers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            stream_bytes: 1024 * 1024,
            shard_bytes: 8 * 1024 * 1024,
            fragment_from: 1536 * 1024 + 512 * 1024,
            stream_watchers: usize::MAX,
            connection_watchers: usize::MAX,
        }
    }
}

/// The contents of a shard, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Watchers.
    pub watchers: usize,
    /// Watchers that are behind.
    pub slow_watchers: usize,
    /// Bytes of queued events; shared bytes count once.
    pub queued_bytes: usize,
    /// Queued events, counted for each watcher.
    pub pending_events: u64,
    /// Events taken out to be sent, counted for each watcher.
    pub sent_events: u64,
    /// Creations that were refused because of a limit.
    pub refused_watchers: u64,
}

/// Watchers and their queued responses.
///
/// - Each watcher receives each event of its keys from its start on exactly once, in order of
///   revision, with all events of a revision in one response (or its fragments).
/// - A slow client misses nothing. Only compaction ends a watcher that is too far behind, and the
///   watcher is notified of it.
/// - A progress response with revision r is queued only after all events up to r of its watchers.
///   In responses with events, the header has the revision at which they were found, which may be
///   newer than the events.
/// - The response "created" of a watcher comes before its events, and "canceled" after them.
#[derive(Debug)]
pub struct Shard {
    limits: Limits,
    /// The revision up to which all events were fed or skipped.
    revision: i64,
    streams: Slab<Stream>,
    /// The watchers of each connection that has some.
    connections: BTreeMap<ConnectionId, usize>,
    watchers: Slab<Watcher>,
    interests: Interests,
    /// Watchers that read history, by the revision that they read next. Invariant: exactly the
    /// watchers in [`WatcherState::Behind`].
    behind: BTreeSet<(i64, WatcherKey)>,
    /// Where the next slice of history starts. It advances, so that every watcher gets its turn.
    scan_from: i64,
    /// Streams with queued responses that were not announced to the caller.
    ready: VecDeque<StreamId>,
    /// The streams by the time of their next progress check.
    progress: BTreeSet<(u64, StreamId)>,
    counts: Counts,
    buffer: BytesMut,
}

#[derive(Debug, Default)]
struct Counts {
    /// Watchers in [`WatcherState::Parked`].
    parked: usize,
    queued_bytes: usize,
    pending_events: u64,
    sent_events: u64,
    refused_watchers: u64,
}

impl Shard {
    /// A shard that will be fed the events of all revisions after `revision`.
    #[must_use]
    pub fn new(revision: i64, limits: Limits) -> Shard {
        Shard {
            limits,
            revision,
            streams: Slab::new(),
            connections: BTreeMap::new(),
            watchers: Slab::new(),
            interests: Interests::default(),
            behind: BTreeSet::new(),
            scan_from: 0,
            ready: VecDeque::new(),
            progress: BTreeSet::new(),
            counts: Counts::default(),
            buffer: BytesMut::new(),
        }
    }

    /// The revision up to which all events were fed or skipped.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The contents of the shard, counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.behind.len() + self.counts.parked,
            queued_bytes: self.counts.queued_bytes,
            pending_events: self.counts.pending_events,
            sent_events: self.counts.sent_events,
            refused_watchers: self.counts.refused_watchers,
        }
    }

    /// Opens a stream of a connection. Watchers that ask for progress get it at this interval. The caller adds up
    /// to a tenth to the interval, so that the streams are not all due together.
    pub fn open_stream(
        &mut self,
        connection: ConnectionId,
        now_ms: u64,
        progress_interval_ms: u64,
    ) -> StreamId {
        let progress_interval_ms = progress_interval_ms.max(1);
        let progress_due_ms = now_ms.saturating_add(progress_interval_ms);
        let id = StreamId(self.streams.insert(Stream {
            connection,
            watchers: BTreeMap::new(),
            next_id: 0,
            queue: VecDeque::new(),
            bytes: 0,
            parked: BTreeSet::new(),
            announced: false,
            progress_interval_ms,
            progress_due_ms,
        }));
        self.progress.insert((progress_due_ms, id));
        id
    }

    /// Closes a stream with its watchers and drops its queue.
    pub fn close_stream(&mut self, id: StreamId) {
        let watchers: Vec<WatcherKey> = self.stream(id).watchers.values().copied().collect();
        for watcher in watchers {
            self.remove(watcher);
        }
        while self.pop(id).is_some() {}
        let stream = self.streams.remove(id.0);
        self.progress.remove(&(stream.progress_due_ms, id));
        self.ready.retain(|ready| *ready != id);
    }

    /// Whether so much is queued that no more requests should be read from the stream.
    #[must_use]
    pub fn is_full(&self, id: StreamId) -> bool {
        self.streams.get(id.0).is_some_and(|stream| stream.bytes >= self.limits.stream_bytes)
    }

    /// Creates a watcher. The response, also of a failure, is queued in the stream.
    ///
    /// Events that the view contains and the shard was not fed yet may still be fed. The watcher
    /// receives those at or after its start revision; without one, those newer than the view.
    pub fn create(
        &mut self,
        stream: StreamId,
        request: Permitted<CreateRequest>,
        view: &impl History,
    ) {
        self.create_holding(stream, request, view, None);
    }

    /// As [`create`](Self::create). `held` is dropped when the watcher ends or is refused.
    pub fn create_holding(
        &mut self,
        stream: StreamId,
        request: Permitted<CreateRequest>,
        view: &impl History,
        held: Option<WatcherPlace>,
    ) {
        if self.is_at_limit(stream) {
            return self.refuse_for_limit(stream);
        }
        let request = request.into_inner();
        let current = self.revision.max(view.revision());
        if request.start_revision < 0 {
            return self.refuse(stream, "etcdserver: mvcc: required revision has been compacted");
        }
        if request.is_empty() {
            return self.refuse(stream, "mvcc: watcher range is empty");
        }
        let Some(id) = self.stream(stream).choose_id(request.watch_id) else {
            return self.refuse(stream, "mvcc: duplicate watch ID provided on the WatchStream");
        };
        let next_revision = match request.start_revision {
            0 => current + 1,
            start => start,
        };
        let group = self.interests.join(&request.keys, request.interest);
        let watcher = self.watchers.insert(Watcher {
            stream,
            id,
            group,
            state: WatcherState::Parked,
            start_revision: request.start_revision,
            next_revision,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            was_notified: false,
            _held: held,
        });
        self.counts.parked += 1;
        self.stream(stream).parked.insert(watcher);
        self.stream(stream).watchers.insert(id, watcher);
        let connection = self.stream(stream).connection;
        *self.connections.entry(connection).or_default() += 1;
        self.settle(watcher);
        let head = ResponseHead {
            revision: current,
            watch_id: id,
            created: true,
            ..ResponseHead::default()
        };
        self.push_head(stream, head);
    }

    /// Queues the response that a watcher was not created, as etcd does if the user may not read
    /// the keys.
    pub fn refuse(&mut self, stream: StreamId, reason: &str) {
        let head = ResponseHead {
            revision: self.revision,
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..ResponseHead::default()
        };
        self.push_head(stream, head);
    }

    /// Refuses a watcher because there are too many: of this client, or at the member as a whole,
    /// which only the caller can count.
    pub fn refuse_for_limit(&mut self, stream: StreamId) {
        self.counts.refused_watchers += 1;
        self.refuse(stream, "etcdserver: too many requests");
    }

    /// Whether the stream or its connection has as many watchers as it may have.
    fn is_at_limit(&mut self, stream: StreamId) -> bool {
        let stream = self.stream(stream);
        let (on_stream, connection) = (stream.watchers.len(), stream.connection);
        let on_connection = self.connections.get(&connection).copied().unwrap_or(0);
        on_stream >= self.limits.stream_watchers || on_connection >= self.limits.connection_watchers
    }

    /// Cancels a watcher. For an unknown id there is no response.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        let Some(watcher) = self.stream(stream).watchers.get(&watch_id).copied() else { return };
        self.remove(watcher);
        let revision = self.revision;
        let head = ResponseHead { revision, watch_id, canceled: true, ..ResponseHead::default() };
        self.push_head(stream, head);
    }

    /// The next stream with newly queued responses. The caller takes the responses with
    /// [`next`](Self::next) until there are none; later responses are announced again.
    pub fn next_ready(&mut self) -> Option<StreamId> {
        self.ready.pop_front()
    }

    /// Takes the next response of a stream. Watchers parked for lack of room may continue
    /// afterwards; see [`has_behind`](Self::has_behind).
    pub fn next(&mut self, stream: StreamId, origin: &Origin) -> Option<Response> {
        let waiting = self.stream(stream).queue.front_mut();
        let Some(waiting) = waiting else {
            self.stream(stream).announced = false;
            return None;
        };
        if let Waiting::Events(_) = waiting {
            return Some(self.next_events(stream, origin));
        }
        let Some(Waiting::Notice(head)) = self.pop(stream) else { return None };
        head.put(&mut self.buffer, origin);
        Some(Response { head: self.buffer.split().freeze(), events: bytes::Bytes::new() })
    }

    fn next_events(&mut self, stream: StreamId, origin: &Origin) -> Response {
        let front = self.streams[stream.0].queue.front_mut();
        let Some(Waiting::Events(events)) = front else {
            unreachable!("events are at the front of the queue");
        };
        let sent_before = events.sent;
        let response = events.take(&mut self.buffer, origin);
        let sent = (events.sent - sent_before) as u64;
        let is_sent = events.is_sent();
        self.counts.sent_events += sent;
        if is_sent {
            self.pop(stream);
        }
        response
    }

    /// Whether [`catch_up`](Self::catch_up) has something to do.
    #[must_use]
    pub fn has_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.streams.get_mut(id.0).expect("the caller refers to open streams")
    }

    /// Queues a response without events. Nothing bounds these here: the caller reads no requests of
    /// a client that does not take its responses, progress needs room, and a watcher is canceled
    /// once.
    fn push_head(&mut self, stream: StreamId, head: ResponseHead) {
        self.push(stream, Waiting::Notice(Box::new(head)));
    }

    fn push(&mut self, id: StreamId, waiting: Waiting) {
        let stream = &mut self.streams[id.0];
        stream.bytes += waiting.bytes();
        if let Waiting::Events(events) = &waiting {
            self.counts.pending_events += events.body.ends.len() as u64;
        }
        stream.queue.push_back(waiting);
        if !stream.announced {
            stream.announced = true;
            self.ready.push_back(id);
        }
    }

    /// Takes the response at the front, and unparks the stream's watchers if there is room.
    fn pop(&mut self, id: StreamId) -> Option<Waiting> {
        let stream = &mut self.streams[id.0];
        let waiting = stream.queue.pop_front()?;
        stream.bytes -= waiting.bytes();
        if let Waiting::Events(events) = &waiting {
            self.counts.pending_events -= events.body.ends.len() as u64;
            if Arc::strong_count(&events.body) == 1 {
                self.counts.queued_bytes -= events.body.events.len();
            }
        }
        let has_room = stream.bytes <= self.limits.stream_bytes / 2;
        if has_room && !stream.parked.is_empty() {
            for watcher in std::mem::take(&mut self.streams[id.0].parked) {
                self.streams[id.0].parked.insert(watcher);
                self.settle(watcher);
            }
        }
        Some(waiting)
    }

    fn has_room(&self, stream: StreamId, bytes: usize) -> bool {
        let stream = &self.streams[stream.0];
        stream.queue.is_empty()
            || (stream.bytes + bytes + RESPONSE_BYTES <= self.limits.stream_bytes
                && self.counts.queued_bytes <= self.limits.shard_bytes)
    }

    /// Sets the state that fits the watcher's next revision.
    fn settle(&mut self, watcher: WatcherKey) {
        let synced = self.watchers[watcher].next_revision > self.revision;
        self.set_state(watcher, if synced { WatcherState::Synced } else { WatcherState::Behind });
    }

    fn set_state(&mut self, key: WatcherKey, state: WatcherState) {
        let watcher = &mut self.watchers[key];
        let group = self.interests.group(watcher.group);
        match watcher.state {
            WatcherState::Synced => {
                group.synced.remove(&key);
            }
            WatcherState::Behind => {
                group.behind.remove(&key);
                self.behind.remove(&(watcher.next_revision, key));
            }
            WatcherState::Parked => {
                self.streams[watcher.stream.0].parked.remove(&key);
                self.counts.parked -= 1;
            }
        }
        watcher.state = state;
        match state {
            WatcherState::Synced => {
                group.synced.insert(key);
            }
            WatcherState::Behind => {
                group.behind.insert(key);
                self.behind.insert((watcher.next_revision, key));
            }
            WatcherState::Parked => {
                self.streams[watcher.stream.0].parked.insert(key);
                self.counts.parked += 1;
            }
        }
    }

    /// Sets the next revision of a watcher, and the state that fits it.
    fn advance(&mut self, key: WatcherKey, next_revision: i64) {
        // Leave the order by revision before the revision changes.
        self.set_state(key, WatcherState::Parked);
        self.watchers[key].next_revision = next_revision;
        self.settle(key);
    }

    fn remove(&mut self, key: WatcherKey) {
        self.set_state(key, WatcherState::Parked);
        let watcher = self.watchers.remove(key);
        let stream = &mut self.streams[watcher.stream.0];
        stream.parked.remove(&key);
        stream.watchers.remove(&watcher.id);
        let connection = stream.connection;
        if let Some(count) = self.connections.get_mut(&connection) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&connection);
            }
        }
        self.counts.parked -= 1;
        self.interests.leave(watcher.group, key);
    }

    /// Asserts the invariants of the type, for tests and simulations.
    ///
    /// # Panics
    /// If one is violated.
    pub fn check(&mut self) {
        let mut queued: BTreeMap<*const crate::body::Body, usize> = BTreeMap::new();
        let mut watchers = 0;
        for (_, stream) in &self.streams {
            watchers += stream.watchers.len();
            let bytes: usize = stream.queue.iter().map(Waiting::bytes).sum();
            assert_eq!(stream.bytes, bytes, "a stream counts its bytes");
            assert!(
                stream.queue.is_empty() || stream.announced,
                "a stream with a queue is announced"
            );
            let stuck = stream.queue.is_empty() && !stream.parked.is_empty();
            assert!(!stuck, "no watcher is parked on an empty queue");
            for waiting in &stream.queue {
                if let Waiting::Events(events) = waiting {
                    queued.insert(Arc::as_ptr(&events.body), events.body.events.len());
                }
            }
        }
        assert_eq!(
            self.counts.queued_bytes,
            queued.values().sum::<usize>(),
            "each body counts once"
        );
        assert_eq!(watchers, self.watchers.len(), "each watcher is in its stream");
        let on_connections: usize = self.connections.values().sum();
        assert_eq!(watchers, on_connections, "each watcher is counted at its connection");
        let mut count = [0; 3];
        for (key, watcher) in &self.watchers {
            let group = self.interests.group(watcher.group);
            let in_group = [group.synced.contains(&key), group.behind.contains(&key)];
            let place = (watcher.next_revision, key);
            let in_order = self.behind.contains(&place);
            let parked = self.streams[watcher.stream.0].parked.contains(&key);
            let (want, at) = match watcher.state {
                WatcherState::Synced => ([true, false, false, false], 0),
                WatcherState::Behind => ([false, true, true, false], 1),
                WatcherState::Parked => ([false, false, false, true], 2),
            };
            count[at] += 1;
            let actual = [in_group[0], in_group[1], in_order, parked];
            assert_eq!(actual, want, "a watcher is in the sets of its state");
            let lags = watcher.next_revision <= self.revision;
            assert!(
                lags || watcher.state == WatcherState::Synced,
                "a watcher without missing events is synced"
            );
        }
        assert_eq!(count[1], self.behind.len(), "`behind` has the watchers that are behind");
        assert_eq!(count[2], self.counts.parked, "the parked are counted");
        assert_eq!(
            watchers == 0,
            self.interests.is_empty(),
            "there are interests if and only if there are watchers"
        );
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Waiting::Events(events) => events.body.events.len() + RESPONSE_BYTES,
            Waiting::Notice(_) => RESPONSE_BYTES,
        }
    }
}

#[cfg(test)]
mod tests;
