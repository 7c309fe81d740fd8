//! A `WatchResponse` in two parts: the head, and the events, which are shared with other responses.

use crate::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use proto::answer::Origin;
use proto::varint;
use std::sync::Arc;

/// The watch id of responses without a watcher: failed creations, and progress of a whole stream.
pub(crate) const NO_WATCH: i64 = -1;

/// An encoded `WatchResponse`: `head` followed by `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The fields before the events.
    pub head: Bytes,
    /// The events; empty in other responses. Shared with other streams.
    pub events: Bytes,
}

impl Response {
    /// The length of the message in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.events.len()
    }

    /// Always false: a response has at least a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All fields except the events and the parts of the header that the caller supplies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) revision: i64,
    pub(crate) watch_id: i64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) compact_revision: i64,
    pub(crate) cancel_reason: String,
    pub(crate) fragment: bool,
}

/// Queued events of one watcher.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) watch_id: i64,
    pub(crate) revision: i64,
    pub(crate) body: Arc<Body>,
    /// The number of events already sent in fragments.
    pub(crate) sent: usize,
    /// Responses of at least this length are split into fragments; none if the watcher does not
    /// want fragments.
    pub(crate) fragment_from: Option<usize>,
}

const HEADER: u8 = 1 << 3 | 2;
const WATCH_ID: u8 = 2 << 3;
const CREATED: u8 = 3 << 3;
const CANCELED: u8 = 4 << 3;
const COMPACT_REVISION: u8 = 5 << 3;
const CANCEL_REASON: u8 = 6 << 3 | 2;
const FRAGMENT: u8 = 7 << 3;

fn put_number(to: &mut BytesMut, tag: u8, number: u64) {
    if number != 0 {
        to.put_u8(tag);
        varint::put(to, number);
    }
}

impl ResponseHead {
    pub(crate) fn put(&self, to: &mut BytesMut, origin: &Origin) {
        let header =
            [origin.cluster_id, origin.member_id, self.revision.cast_unsigned(), origin.raft_term];
        let set = header.iter().filter(|number| **number != 0);
        let len: usize = set.map(|number| 1 + varint::len(*number)).sum();
        to.put_u8(HEADER);
        varint::put(to, len as u64);
        for (tag, number) in [1 << 3, 2 << 3, 3 << 3, 4 << 3].into_iter().zip(header) {
            put_number(to, tag, number);
        }
        put_number(to, WATCH_ID, self.watch_id.cast_unsigned());
        put_number(to, CREATED, self.created.into());
        put_number(to, CANCELED, self.canceled.into());
        put_number(to, COMPACT_REVISION, self.compact_revision.cast_unsigned());
        if !self.cancel_reason.is_empty() {
            to.put_u8(CANCEL_REASON);
            varint::put(to, self.cancel_reason.len() as u64);
            to.put_slice(self.cancel_reason.as_bytes());
        }
        put_number(to, FRAGMENT, self.fragment.into());
    }
}

impl Events {
    /// Takes the next response: all remaining events, or the next fragment.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut, origin: &Origin) -> Response {
        let head = ResponseHead {
            revision: self.revision,
            watch_id: self.watch_id,
            ..ResponseHead::default()
        };
        let start = self.sent.checked_sub(1).map_or(0, |last| self.body.ends[last]);
        let mut until = self.body.ends.len();
        head.put(buffer, origin);
        if let Some(limit) = self.fragment_from
            && until > 1
            && (self.sent > 0 || buffer.len() + self.body.events.len() >= limit)
        {
            // The limit applies to the response with the fragment flag.
            let room = limit.saturating_sub(buffer.len() + 2);
            until = self.sent + 1;
            while until < self.body.ends.len() && self.body.ends[until] - start < room {
                until += 1;
            }
            if until < self.body.ends.len() {
                put_number(buffer, FRAGMENT, 1);
            }
        }
        self.sent = until;
        let end = self.body.ends.get(until - 1).copied().unwrap_or(start);
        Response { head: buffer.split().freeze(), events: self.body.events.slice(start..end) }
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.sent >= self.body.ends.len()
    }
}
