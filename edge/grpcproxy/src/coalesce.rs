//! Watchers that share the watches of servers, as a machine without I/O: requests of clients and
//! responses of servers go in, [`Effect`]s come out.
//!
//! A *broadcast* is one watch at a server, with the watchers that receive its events. Watchers of the
//! same [`Target`] share one as far as they can:
//!
//! - A watcher joins a broadcast that is not ahead of it: that will still deliver every event that
//!   the watcher wants.
//! - Otherwise it gets a broadcast of its own. When that one has caught up with another one of the
//!   target, its watchers go over to the other one, and its watch ends.
//! - **Invariant:** each watcher gets the events of its keys from its start revision on, in order,
//!   each once.
//! - **Invariant:** a broadcast has at least one watcher.
//!
//! A broadcast always asks for previous values and for progress; each watcher gets what it asked for.
//!
//! Source: etcd server/proxy/grpcproxy/{watch,watcher,watch_ranges,watch_broadcast,watch_broadcasts}.go
//! @ v3.7.1. There, a broadcast counts as being at the revision in the header of a response, although
//! events up to it may still follow; here, at its last event or notice of progress.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;
use std::collections::{BTreeMap, BTreeSet};

/// A broadcast with as many watchers does not go over to another one: that would be much work.
const WATCHERS_TO_MOVE_MAX: usize = 4;
/// The maximum number of watchers in the proxy.
pub(crate) const WATCHERS_MAX: usize = 250_000;
/// The id in responses for a watch that was not created.
const NO_WATCH: i64 = -1;

/// What a watch at a server is for. Only watchers with the same one share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
    /// The token of the client. A watch of somebody else could end with that one's token.
    pub(crate) token: Option<Bytes>,
}

/// The number of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BroadcastId(u64);

/// A watcher: the number of its stream, and its id on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatcherId {
    pub(crate) stream: u64,
    pub(crate) id: i64,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Create a watch at a server, with the token of the target.
    Open { broadcast: BroadcastId, target: Target, start_revision: i64 },
    /// End the watch at the server.
    Close(BroadcastId),
    /// Send a response to a client.
    Send { stream: u64, response: pb::WatchResponse },
}

#[derive(Debug)]
struct Broadcast {
    target: Target,
    /// All events of the target before this revision were delivered. 0 before the watch is created,
    /// if it begins with the current state.
    next: i64,
    /// Of the response that created the watch; `None` before.
    created: Option<pb::ResponseHeader>,
    watchers: BTreeSet<WatcherId>,
}

#[derive(Debug)]
struct Watcher {
    broadcast: BroadcastId,
    /// The watcher wants events from this revision on; 0 before its watch is created, if it begins
    /// with the current state.
    next: i64,
    wants_progress: bool,
    wants_previous: bool,
    wants_puts: bool,
    wants_deletions: bool,
    /// The last header that it was sent.
    header: Option<pb::ResponseHeader>,
}

/// All watchers and broadcasts.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    watchers: BTreeMap<WatcherId, Watcher>,
    broadcasts: BTreeMap<BroadcastId, Broadcast>,
    by_target: BTreeMap<Target, BTreeSet<BroadcastId>>,
    /// The id of the next watcher of each stream.
    next_ids: BTreeMap<u64, i64>,
    last_broadcast: u64,
    effects: Vec<Effect>,
}

impl Coalescer {
    /// What is to be done, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How many watchers share the watch of another one.
    pub(crate) fn sharing(&self) -> usize {
        self.watchers.len() - self.broadcasts.len()
    }

    /// Whether no further watcher is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.watchers.len() >= WATCHERS_MAX
    }

    /// Adds a watcher of a stream.
    pub(crate) fn add(&mut self, stream: u64, target: Target, request: &pb::WatchCreateRequest) {
        if !is_range(&target.key, &target.range_end) {
            return self.refuse(stream, "");
        }
        let next_id = self.next_ids.entry(stream).or_default();
        let watcher = WatcherId { stream, id: *next_id };
        *next_id += 1;
        let next = request.start_revision;
        let joined = self.joinable(&target, next);
        let broadcast = joined.unwrap_or_else(|| self.begin(target, next));
        let wants = |filter: FilterType| !request.filters.contains(&filter.into());
        let state = Watcher {
            broadcast,
            next,
            wants_progress: request.progress_notify,
            wants_previous: request.prev_kv,
            wants_puts: wants(FilterType::Noput),
            wants_deletions: wants(FilterType::Nodelete),
            header: None,
        };
        self.watchers.insert(watcher, state);
        if let Some(broadcast) = self.broadcasts.get_mut(&broadcast) {
            broadcast.watchers.insert(watcher);
            // Otherwise the response of the server follows.
            if let Some(header) = broadcast.created {
                self.send_created(watcher, header);
            }
        }
    }

    /// Tells a client that its watch is not created.
    pub(crate) fn refuse(&mut self, stream: u64, reason: &str) {
        let response = pb::WatchResponse {
            header: Some(pb::ResponseHeader::default()),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        self.effects.push(Effect::Send { stream, response });
    }

    /// A broadcast of the target that will deliver every event from this revision on.
    fn joinable(&self, target: &Target, next: i64) -> Option<BroadcastId> {
        let all = self.by_target.get(target)?;
        let fits = |id: &&BroadcastId| {
            let broadcast = &self.broadcasts[id];
            // One that begins with the current state is behind no one that wants an older one.
            broadcast.next <= next && (broadcast.next > 0 || next == 0)
        };
        all.iter().find(fits).copied()
    }

    fn begin(&mut self, target: Target, next: i64) -> BroadcastId {
        self.last_broadcast += 1;
        let id = BroadcastId(self.last_broadcast);
        let open = Effect::Open { broadcast: id, target: target.clone(), start_revision: next };
        self.effects.push(open);
        self.by_target.entry(target.clone()).or_default().insert(id);
        let broadcast = Broadcast { target, next, created: None, watchers: BTreeSet::new() };
        self.broadcasts.insert(id, broadcast);
        id
    }

    /// Removes a watcher and confirms it to its client.
    pub(crate) fn cancel(&mut self, watcher: WatcherId) {
        let Some(removed) = self.remove(watcher) else { return };
        let response = pb::WatchResponse {
            header: removed.header,
            watch_id: watcher.id,
            canceled: true,
            ..Default::default()
        };
        self.effects.push(Effect::Send { stream: watcher.stream, response });
    }

    /// Removes the watchers of a stream that has ended.
    pub(crate) fn end_stream(&mut self, stream: u64) {
        self.next_ids.remove(&stream);
        let all = WatcherId { stream, id: i64::MIN }..=WatcherId { stream, id: i64::MAX };
        let all: Vec<WatcherId> = self.watchers.range(all).map(|(watcher, _)| *watcher).collect();
        for watcher in all {
            self.remove(watcher);
        }
    }

    fn remove(&mut self, watcher: WatcherId) -> Option<Watcher> {
        let removed = self.watchers.remove(&watcher)?;
        let broadcast = self.broadcasts.get_mut(&removed.broadcast)?;
        broadcast.watchers.remove(&watcher);
        if broadcast.watchers.is_empty() {
            self.end(removed.broadcast);
            self.effects.push(Effect::Close(removed.broadcast));
        }
        Some(removed)
    }

    fn end(&mut self, id: BroadcastId) -> Option<Broadcast> {
        let broadcast = self.broadcasts.remove(&id)?;
        if let Some(all) = self.by_target.get_mut(&broadcast.target) {
            all.remove(&id);
            if all.is_empty() {
                self.by_target.remove(&broadcast.target);
            }
        }
        Some(broadcast)
    }

    /// A server has created the watch of a broadcast.
    pub(crate) fn created(&mut self, id: BroadcastId, header: pb::ResponseHeader) {
        let Some(broadcast) = self.broadcasts.get_mut(&id) else { return };
        broadcast.created = Some(header);
        if broadcast.next == 0 {
            broadcast.next = header.revision + 1;
        }
        for watcher in broadcast.watchers.clone() {
            self.send_created(watcher, header);
        }
        self.go_over(id);
    }

    fn send_created(&mut self, id: WatcherId, header: pb::ResponseHeader) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if watcher.next == 0 {
            watcher.next = header.revision + 1;
        }
        watcher.header = Some(header);
        let response = pb::WatchResponse {
            header: Some(header),
            watch_id: id.id,
            created: true,
            ..Default::default()
        };
        self.effects.push(Effect::Send { stream: id.stream, response });
    }

    /// A server has sent events or progress. Returns how many watchers besides one received it.
    pub(crate) fn received(&mut self, id: BroadcastId, response: &pb::WatchResponse) -> usize {
        let Some(broadcast) = self.broadcasts.get_mut(&id) else { return 0 };
        let reached = match response.events.last() {
            Some(last) => last.kv.as_ref().map_or(0, |kv| kv.mod_revision),
            None => response.header.map_or(0, |header| header.revision),
        };
        broadcast.next = broadcast.next.max(reached + 1);
        let watchers: Vec<WatcherId> = broadcast.watchers.iter().copied().collect();
        for watcher in &watchers {
            self.deliver(*watcher, response);
        }
        self.go_over(id);
        watchers.len() - 1
    }

    /// Sends a watcher its part of a response.
    fn deliver(&mut self, id: WatcherId, response: &pb::WatchResponse) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let is_progress = response.events.is_empty();
        if is_progress && !watcher.wants_progress {
            return;
        }
        let next = watcher.next;
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let new = response.events.iter().filter(|event| revision(event) >= next);
        // Several events have the same revision, so it is raised only after all of them.
        watcher.next = new.clone().map(revision).max().map_or(next, |last| last + 1);
        let is_wanted = |event: &&Event| match event.r#type() {
            EventType::Put => watcher.wants_puts,
            EventType::Delete => watcher.wants_deletions,
        };
        let events: Vec<Event> = new
            .filter(is_wanted)
            .map(|event| {
                let prev_kv = event.prev_kv.clone().filter(|_| watcher.wants_previous);
                Event { prev_kv, kv: event.kv.clone(), r#type: event.r#type }
            })
            .collect();
        if events.is_empty() && !is_progress {
            return;
        }
        watcher.header = response.header;
        let (header, watch_id) = (response.header, id.id);
        let response = pb::WatchResponse { header, watch_id, events, ..Default::default() };
        self.effects.push(Effect::Send { stream: id.stream, response });
    }

    /// A server has ended the watch of a broadcast, with this response.
    pub(crate) fn ended(&mut self, id: BroadcastId, response: &pb::WatchResponse) {
        let Some(broadcast) = self.end(id) else { return };
        for watcher in broadcast.watchers {
            self.watchers.remove(&watcher);
            // Before the creation, clients wait for the response to it.
            let created = broadcast.created.is_none();
            let response = pb::WatchResponse {
                header: Some(response.header.unwrap_or_default()),
                watch_id: if created { NO_WATCH } else { watcher.id },
                created,
                canceled: true,
                compact_revision: response.compact_revision,
                cancel_reason: response.cancel_reason.clone(),
                ..Default::default()
            };
            self.effects.push(Effect::Send { stream: watcher.stream, response });
        }
    }

    /// Moves the watchers of a broadcast to another one that is not ahead of it, if there is one.
    fn go_over(&mut self, id: BroadcastId) {
        let Some(from) = self.broadcasts.get(&id) else { return };
        if from.created.is_none() || from.watchers.len() > WATCHERS_TO_MOVE_MAX {
            return;
        }
        let Some(all) = self.by_target.get(&from.target) else { return };
        let fits = |other: &&BroadcastId| {
            let to = &self.broadcasts[other];
            **other != id && to.created.is_some() && to.next <= from.next
        };
        let Some(to) = all.iter().find(fits).copied() else { return };
        let Some(mut from) = self.end(id) else { return };
        for watcher in &from.watchers {
            if let Some(watcher) = self.watchers.get_mut(watcher) {
                watcher.broadcast = to;
            }
        }
        if let Some(to) = self.broadcasts.get_mut(&to) {
            to.watchers.append(&mut from.watchers);
        }
        self.effects.push(Effect::Close(id));
    }

    /// Asserts the invariants.
    #[cfg(test)]
    fn check(&self) {
        for (id, broadcast) in &self.broadcasts {
            assert!(!broadcast.watchers.is_empty(), "{id:?} has no watcher");
            assert!(self.by_target[&broadcast.target].contains(id));
            for watcher in &broadcast.watchers {
                assert_eq!(self.watchers[watcher].broadcast, *id);
            }
        }
        let of_targets: usize = self.by_target.values().map(BTreeSet::len).sum();
        assert_eq!(of_targets, self.broadcasts.len());
        let of_broadcasts: usize = self.broadcasts.values().map(|it| it.watchers.len()).sum();
        assert_eq!(of_broadcasts, self.watchers.len());
    }
}

/// Whether a request is for a key, or for a range that is not empty.
fn is_range(key: &Bytes, range_end: &Bytes) -> bool {
    range_end.is_empty() || range_end > key || range_end[..] == [0]
}

#[cfg(test)]
mod tests;
