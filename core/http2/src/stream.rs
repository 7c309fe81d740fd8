//! The streams of a connection: their states and windows.
//!
//! Source: RFC 9113 §5.1, §5.2.

use crate::frame::Reason;
use bytes::Bytes;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};

/// How many closed streams are remembered, to distinguish late frames from mistakes.
const CLOSED_KEPT: usize = 64;

/// Identifies a stream. The slot is used again after the stream has ended; the id is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// The place of the stream among those that are open.
    pub slot: usize,
    /// The stream's number.
    pub id: u32,
}

/// How a response ends, after its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Without trailers.
    Bare,
    /// With the trailers of a gRPC call that succeeded.
    Success,
    /// With these trailers; the names are in lower case.
    Trailers(Vec<(Bytes, Bytes)>),
}

/// A stream that is open.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// True until the client has ended its side.
    pub(crate) is_receiving: bool,
    /// True once the head of the response is written.
    pub(crate) is_answered: bool,
    /// Bytes that the client may still send.
    pub(crate) receive_window: u32,
    /// Bytes that were received and not yet taken.
    pub(crate) held: u32,
    /// Bytes that were taken and are not yet given back with a WINDOW_UPDATE.
    pub(crate) taken: u32,
    /// Bytes that `content-length` announces and that have not arrived yet.
    pub(crate) announced: Option<u64>,
    /// Bytes that we may send; negative after a setting that made windows smaller.
    pub(crate) send_window: i64,
    /// Data that waits for a window or the socket.
    pub(crate) unsent: Bytes,
    /// The end of the response, written after the data.
    pub(crate) end: Option<End>,
    /// The caller has more data and waits for room.
    pub(crate) wants_room: bool,
    /// The stream is in the queue of [`Connection`](crate::Connection).
    pub(crate) is_queued: bool,
}

/// How a stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Both sides ended it, or the client reset it.
    Ended,
    /// We reset it; the client may not know yet.
    ByUs,
    /// It was never opened: the client skipped its number.
    Skipped,
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Slab<Stream>,
    slots: BTreeMap<u32, usize>,
    closed: VecDeque<(u32, Closed)>,
    /// The highest number that was dropped from `closed`.
    forgotten: u32,
    /// The highest number of a client's stream.
    last: u32,
    /// The stream that was found last. Most frames are for the same stream as the frame before.
    found: Option<StreamKey>,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Records a new number, which is above all others.
    pub(crate) fn begin(&mut self, id: u32) {
        self.last = id;
    }

    pub(crate) fn open(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        let slot = self.open.insert(stream);
        self.slots.insert(id, slot);
        let key = StreamKey { slot, id };
        self.found = Some(key);
        key
    }

    /// The open stream of this number.
    pub(crate) fn find(&mut self, id: u32) -> Option<StreamKey> {
        if let Some(found) = self.found.filter(|found| found.id == id) {
            return Some(found);
        }
        let key = self.slots.get(&id).map(|slot| StreamKey { slot: *slot, id });
        self.found = key.or(self.found);
        key
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.open.get_mut(key.slot).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.open.iter_mut().map(|(slot, stream)| (StreamKey { slot, id: stream.id }, stream))
    }

    pub(crate) fn remove(&mut self, key: StreamKey, how: Closed) -> Option<Stream> {
        self.get_mut(key)?;
        self.slots.remove(&key.id);
        self.found = None;
        self.close(key.id, how);
        Some(self.open.remove(key.slot))
    }

    /// Remembers a stream that is closed.
    pub(crate) fn close(&mut self, id: u32, how: Closed) {
        if self.closed.len() == CLOSED_KEPT
            && let Some((id, _)) = self.closed.pop_front()
        {
            self.forgotten = self.forgotten.max(id);
        }
        self.closed.push_back((id, how));
    }

    /// How a stream was closed. The stream must not be open, nor above the last one. `None` if it
    /// is forgotten.
    pub(crate) fn closed(&self, id: u32) -> Option<Closed> {
        let known = self.closed.iter().rev().find(|(closed, _)| *closed == id);
        match known {
            Some((_, how)) => Some(*how),
            None if id <= self.forgotten => None,
            None => Some(Closed::Skipped),
        }
    }
}

impl Stream {
    /// Increases the send window.
    pub(crate) fn open_window(&mut self, more: i64) -> Result<(), Reason> {
        let window = self.send_window + more;
        if window > i64::from(i32::MAX) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        self.send_window = window;
        Ok(())
    }

    /// Whether the stream has window, and has data to write or wants room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.send_window > 0 && (!self.unsent.is_empty() || self.wants_room)
    }
}
