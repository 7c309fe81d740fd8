//! The watches of one hub as a machine without I/O: commands and answers go in; requests for the
//! server and deliveries for the readers come out.
//!
//! A watch is in one of three states on a stream. The effect of each message in each state:
//!
//! | | waiting | creating | live |
//! |---|---|---|---|
//! | created | | becomes live | the stream is broken: its id was given twice |
//! | created, but no watch is wanted | | cancelled at the server | |
//! | created and canceled | | ends | |
//! | events | | | delivered; moves its revision |
//! | fragment of events | | | kept until the last one; does not move its revision |
//! | progress for its id, or for all | | | delivered; moves its revision |
//! | canceled, with or without a compaction | | | ends |
//! | its reader is dropped | forgotten | cancelled once it is created | cancelled at the server |
//! | the stream ends | | waiting | waiting |
//!
//! Answers for ids that are not live belong to watches that the client cancelled. They are ignored.
//!
//! Source: etcd v3.7.1 client/v3/watch.go.

use super::update::WatchUpdate;
use crate::Error;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use std::collections::{BTreeMap, VecDeque};
use tonic::Status;

/// The watch id of an answer that concerns all watches of the stream, or none.
const NO_WATCH: i64 = -1;

/// The number of a watch in its hub; it stays the same when the stream changes.
pub(super) type Number = u64;

/// An answer for the reader of a watch.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) number: Number,
    /// An update with an error is the last one of its watch.
    pub(super) update: WatchUpdate,
}

/// The server violated etcd's watch protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProtocolViolation;

#[derive(Debug)]
struct Watch {
    /// The watch resumes at the start revision of this request. Invariant: all events of the watch
    /// before that revision were delivered.
    request: pb::WatchCreateRequest,
    /// The watch id on the current stream, if the watch is live.
    id: Option<i64>,
    /// The fragments of an incomplete response.
    fragments: Option<pb::WatchResponse>,
}

/// The state of the watches of a hub.
#[derive(Debug, Default)]
pub(super) struct Hub {
    watches: BTreeMap<Number, Watch>,
    /// The live watches. Invariant: exactly those of `watches` that have an id.
    by_id: BTreeMap<i64, Number>,
    /// Watches to create on the server, one at a time, since responses are matched to requests by
    /// their order. Invariant: all are in `watches`, and none is live.
    to_create: VecDeque<Number>,
    /// The watch whose creation was requested and not answered yet. It is in `watches` unless its
    /// reader was dropped meanwhile.
    creating: Option<Number>,
    /// Ids to cancel on the current stream; at most one for each watch that the server has.
    to_cancel: VecDeque<i64>,
    /// A progress request must be sent. One is enough for several callers, since the answer
    /// concerns all watches.
    progress_wanted: bool,
}

impl Hub {
    /// Adds a watch, which will be created at the server.
    pub(super) fn add(&mut self, number: Number, request: pb::WatchCreateRequest) {
        // The server chooses the id, so that no id is used twice on a stream.
        let request = pb::WatchCreateRequest { watch_id: 0, ..request };
        let before = self.watches.insert(number, Watch { request, id: None, fragments: None });
        assert!(before.is_none(), "the numbers of watches are unique");
        self.to_create.push_back(number);
    }

    /// Requests progress of all watches. Does nothing if there are no watches.
    pub(super) fn want_progress(&mut self) {
        self.progress_wanted = !self.watches.is_empty();
    }

    /// Forgets a watch whose reader was dropped.
    pub(super) fn forget(&mut self, number: Number) {
        if let Some(id) = self.remove(number) {
            self.to_cancel.push_back(id);
        }
        self.to_create.retain(|waiting| *waiting != number);
    }

    /// Whether there are no watches.
    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// The watch whose creation was requested and not answered yet.
    pub(super) fn creating(&self) -> Option<Number> {
        self.creating
    }

    /// Whether the server has the watch.
    pub(super) fn is_live(&self, number: Number) -> bool {
        self.watches.get(&number).is_some_and(|watch| watch.id.is_some())
    }

    /// Whether [`Hub::next_request`] returns a request.
    pub(super) fn has_request(&self) -> bool {
        !self.to_cancel.is_empty() || self.can_create() || self.progress_wanted
    }

    fn can_create(&self) -> bool {
        self.creating.is_none() && !self.to_create.is_empty()
    }

    /// The next request for the server.
    pub(super) fn next_request(&mut self) -> Option<pb::WatchRequest> {
        let union = if let Some(watch_id) = self.to_cancel.pop_front() {
            RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })
        } else if self.can_create() {
            self.creating = self.to_create.pop_front();
            let watch = self.creating.and_then(|number| self.watches.get(&number))?;
            RequestUnion::CreateRequest(watch.request.clone())
        } else if std::mem::take(&mut self.progress_wanted) {
            RequestUnion::ProgressRequest(pb::WatchProgressRequest {})
        } else {
            return None;
        };
        Some(pb::WatchRequest { request_union: Some(union) })
    }

    /// Takes an answer of the server.
    ///
    /// # Errors
    /// When the stream cannot be used further.
    pub(super) fn receive(
        &mut self,
        mut answer: pb::WatchResponse,
    ) -> Result<Vec<Delivery>, ProtocolViolation> {
        if answer.created {
            return self.created(answer);
        }
        if answer.watch_id == NO_WATCH {
            let live: Vec<Number> = self.by_id.values().copied().collect();
            let deliver = |number| self.deliver(number, answer.clone());
            return Ok(live.into_iter().filter_map(deliver).collect());
        }
        let Some(number) = self.by_id.get(&answer.watch_id).copied() else { return Ok(vec![]) };
        let Some(watch) = self.watches.get_mut(&number) else { return Ok(vec![]) };
        if let Some(mut before) = watch.fragments.take() {
            before.events.append(&mut answer.events);
            answer = pb::WatchResponse { events: before.events, ..answer };
        }
        if answer.fragment {
            watch.fragments = Some(answer);
            return Ok(vec![]);
        }
        Ok(self.deliver(number, answer).into_iter().collect())
    }

    fn created(&mut self, answer: pb::WatchResponse) -> Result<Vec<Delivery>, ProtocolViolation> {
        let refused = answer.canceled || answer.watch_id == NO_WATCH;
        let number = self.creating.take().filter(|number| self.watches.contains_key(number));
        let Some(number) = number else {
            if !refused {
                self.to_cancel.push_back(answer.watch_id);
            }
            return Ok(vec![]);
        };
        if refused {
            let answer = pb::WatchResponse { canceled: true, ..answer };
            return Ok(self.deliver(number, answer).into_iter().collect());
        }
        if self.by_id.insert(answer.watch_id, number).is_some() {
            return Err(ProtocolViolation);
        }
        if let Some(watch) = self.watches.get_mut(&number) {
            watch.id = Some(answer.watch_id);
            if watch.request.start_revision == 0 {
                // Resume here after a broken connection, so that no event is missed.
                let revision = answer.header.map_or(0, |header| header.revision);
                watch.request.start_revision = revision + 1;
            }
        }
        Ok(vec![])
    }

    /// The delivery of an answer to a watch. Moves the revision from which it resumes.
    fn deliver(&mut self, number: Number, response: pb::WatchResponse) -> Option<Delivery> {
        let watch = self.watches.get_mut(&number)?;
        let error = response.canceled.then(|| why_canceled(&response));
        let last = response.events.last().and_then(|event| event.kv.as_ref());
        let next = &mut watch.request.start_revision;
        match (last, &response.header) {
            (Some(last), _) => *next = last.mod_revision + 1,
            (None, Some(header)) if error.is_none() => *next = (*next).max(header.revision + 1),
            (None, _) => {}
        }
        if error.is_some() {
            self.remove(number);
        }
        Some(Delivery { number, update: WatchUpdate { response, error } })
    }

    /// Removes a watch; returns its id if it was live.
    fn remove(&mut self, number: Number) -> Option<i64> {
        let id = self.watches.remove(&number)?.id?;
        self.by_id.remove(&id);
        Some(id)
    }

    /// The stream has ended: all watches are to be created again on the next one.
    pub(super) fn stream_ended(&mut self) {
        self.creating = None;
        self.to_cancel.clear();
        self.progress_wanted = false;
        self.by_id.clear();
        for watch in self.watches.values_mut() {
            watch.id = None;
            watch.fragments = None;
        }
        self.to_create = self.watches.keys().copied().collect();
    }

    /// The server refused the stream: all watches end with its error.
    pub(super) fn refused(&mut self, status: &Status) -> Vec<Delivery> {
        let numbers: Vec<Number> = self.watches.keys().copied().collect();
        *self = Hub::default();
        let end = |number| Delivery { number, update: WatchUpdate::ended(status.clone().into()) };
        numbers.into_iter().map(end).collect()
    }

    /// Asserts the invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let live: BTreeMap<i64, Number> =
            self.watches.iter().filter_map(|(number, watch)| Some((watch.id?, *number))).collect();
        assert_eq!(live, self.by_id, "live watches are those with an id");
        for number in &self.to_create {
            assert!(self.watches[number].id.is_none(), "a live watch is not created again");
        }
    }

    /// The number of queued requests, and of watches. For tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.to_create.len() + self.to_cancel.len(), self.watches.len())
    }
}

fn why_canceled(response: &pb::WatchResponse) -> Error {
    const PREFIX: &str = "etcdserver: mvcc: required revision";
    if response.compact_revision != 0 {
        Status::out_of_range(format!("{PREFIX} has been compacted")).into()
    } else if response.cancel_reason.is_empty() {
        Status::out_of_range(format!("{PREFIX} is a future revision")).into()
    } else {
        Status::failed_precondition(response.cancel_reason.clone()).into()
    }
}
