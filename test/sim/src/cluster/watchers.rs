//! The watchers at a member: the shipped shard, and one stream for each watcher of a client.

use auth::Caller;
use executor::Moment;
use mvcc::{EventBatch, View};
use prost::Message as _;
use proto::answer::Origin;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use watch::{Budget, CatchUp, ConnectionId, CreateRequest, Limits, Shard, StreamId};

/// Small limits, so that slow clients fall behind.
const LIMITS: Limits = Limits {
    stream_bytes: 4 << 10,
    shard_bytes: 64 << 10,
    fragment_from: 1 << 20,
    stream_watchers: usize::MAX,
    connection_watchers: usize::MAX,
};
/// Small slices of history, so that catching up takes several.
const BUDGET: Budget = Budget { events: 40, bytes: 8 << 10, revisions: 20 };
/// The time between two progress notifications.
const PROGRESS_MS: u64 = 5_000;

/// The watchers of a member.
#[derive(Debug)]
pub(crate) struct MemberWatches {
    shard: Shard,
    /// The number of each stream's watcher.
    streams: BTreeMap<StreamId, u64>,
    /// Streams whose responses were not taken yet.
    left: Vec<StreamId>,
    /// There may be responses.
    is_touched: bool,
    /// Watchers that are behind wait for a newer view.
    awaits_view: bool,
}

impl MemberWatches {
    pub(crate) fn new(revision: i64) -> MemberWatches {
        let shard = Shard::new(revision, LIMITS);
        MemberWatches {
            shard,
            streams: BTreeMap::new(),
            left: Vec::new(),
            is_touched: false,
            awaits_view: false,
        }
    }

    /// Creates a watcher on a stream of its own.
    ///
    /// # Errors
    /// When it is not permitted.
    pub(crate) fn create(
        &mut self,
        watcher: u64,
        request: WatchCreateRequest,
        moment: &Moment,
        now_ms: u64,
    ) -> Result<(), String> {
        let request = moment.published.auth.permit(&Caller::default(), CreateRequest::new(request));
        let request = request.map_err(|denied| format!("a watcher: {denied}"))?;
        // As in the server's worker: the view may be newer than the last batch that the shard got.
        let view = &moment.published.view;
        if self.streams.is_empty() {
            self.shard.events_lost(view);
        }
        let stream = self.shard.open_stream(ConnectionId(watcher), now_ms, PROGRESS_MS);
        self.streams.insert(stream, watcher);
        self.shard.create(stream, request, view);
        self.is_touched = true;
        Ok(())
    }

    fn stream_of(&self, watcher: u64) -> Option<StreamId> {
        self.streams.iter().find(|(_, it)| **it == watcher).map(|(stream, _)| *stream)
    }

    pub(crate) fn close(&mut self, watcher: u64) {
        if let Some(stream) = self.stream_of(watcher) {
            self.streams.remove(&stream);
            self.left.retain(|left| *left != stream);
            self.shard.close_stream(stream);
        }
    }

    pub(crate) fn request_progress(&mut self, watcher: u64) {
        if let Some(stream) = self.stream_of(watcher) {
            self.shard.request_progress(stream);
            self.is_touched = true;
        }
    }

    pub(crate) fn on_events(
        &mut self,
        batches: &[Arc<EventBatch>],
        view: &View,
    ) -> Result<(), String> {
        self.awaits_view = false;
        for batch in batches {
            if batch.revision > self.shard.revision() {
                let fed = self.shard.on_events(batch, view);
                fed.map_err(|error| format!("events for watchers: {error}"))?;
            }
        }
        Ok(())
    }

    pub(crate) fn events_lost(&mut self, view: &View) {
        self.awaits_view = false;
        self.shard.events_lost(view);
    }

    pub(crate) fn tick(&mut self, now_ms: u64) {
        self.shard.tick(now_ms);
        self.is_touched |= !self.streams.is_empty();
        self.awaits_view = false;
    }

    /// Whether watchers are behind or responses are left.
    pub(crate) fn has_work(&self) -> bool {
        self.is_touched || !self.left.is_empty() || (self.shard.has_behind() && !self.awaits_view)
    }

    /// Reads a slice of history for watchers that are behind, and takes the responses of all
    /// streams except those whose client is slow now.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub(crate) fn collect(
        &mut self,
        view: &View,
        mut is_slow: impl FnMut() -> bool,
    ) -> Result<Vec<(u64, WatchResponse)>, String> {
        self.is_touched = false;
        if self.shard.has_behind() {
            let read = self.shard.catch_up(view, &BUDGET);
            match read.map_err(|error| format!("history for watchers: {error}"))? {
                CatchUp::More | CatchUp::Done => {}
                CatchUp::AwaitView => self.awaits_view = true,
            }
        }
        let mut ready = std::mem::take(&mut self.left);
        while let Some(stream) = self.shard.next_ready() {
            ready.push(stream);
        }
        let mut taken = Vec::new();
        for stream in ready {
            let Some(watcher) = self.streams.get(&stream).copied() else { continue };
            if is_slow() {
                self.left.push(stream);
                continue;
            }
            while let Some(response) = self.shard.next(stream, &Origin::default()) {
                let bytes = [&response.head[..], &response.events[..]].concat();
                let response = WatchResponse::decode(&bytes[..]);
                taken.push((watcher, response.map_err(|error| format!("a response: {error}"))?));
            }
        }
        Ok(taken)
    }
}
