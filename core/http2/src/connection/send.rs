//! The sending side: writes responses as frames, as far as the windows and the socket allow.

use super::state::{Connection, reset};
use crate::frame::{self, DATA, END_HEADERS, END_STREAM, HEAD_LEN, HEADERS, Reason};
use crate::hpack::Encoder;
use crate::stream::{Closed, End, StreamKey};
use bytes::{Buf as _, Bytes};

/// The longest DATA frame that is written, in bytes. After it, other streams get their turn.
const DATA_MAX: usize = 64 * 1024;

/// Room for a short response, in bytes.
const RESPONSE_USUAL: usize = 256;

impl Connection {
    /// Sends the head of a successful gRPC response.
    pub fn send_grpc_head(&mut self, stream: StreamKey) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        state.is_answered = true;
        self.headers(stream.id, false, |encoder, out| encoder.grpc_head(out));
    }

    /// Sends the head of a response. The field names must be in lower case. `ended` is true if
    /// nothing follows.
    pub fn send_head<'f>(
        &mut self,
        stream: StreamKey,
        status: u16,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        ended: bool,
    ) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        state.is_answered = true;
        self.headers(stream.id, ended, |encoder, out| {
            encoder.status(status, out);
            fields.for_each(|(name, value)| Encoder::field(name, value, out));
        });
        if ended {
            self.finish(stream);
        }
    }

    /// Whether data of this stream would be written at once, at least in part.
    #[must_use]
    pub fn has_room(&mut self, stream: StreamKey) -> bool {
        let is_open = self.client.send_window > 0 && !self.is_full();
        let state = self.streams.get_mut(stream);
        is_open && state.is_some_and(|state| state.unsent.is_empty() && state.send_window > 0)
    }

    /// Queues the stream for [`Connection::next_with_room`], which returns it once there is room.
    pub fn want_room(&mut self, stream: StreamKey) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        state.wants_room = true;
        self.enqueue(stream);
    }

    /// Sends data. Data without room is kept in memory, so call this only when the stream
    /// [has room](Connection::has_room).
    ///
    /// # Panics
    /// When data of the stream still waits.
    pub fn send_data(&mut self, stream: StreamKey, data: Bytes) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        assert!(state.unsent.is_empty(), "data is sent only after the data before it");
        state.unsent = data;
        while self.write_data(stream) {}
        self.enqueue(stream);
    }

    /// Ends the response after the waiting data.
    pub fn send_end(&mut self, stream: StreamKey, end: End) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        state.wants_room = false;
        if state.unsent.is_empty() {
            return self.write_end(stream, end);
        }
        state.end = Some(end);
    }

    /// Writes waiting data, stream by stream, until it finds a stream that wants room and has some.
    /// Returns that stream. Streams take turns.
    pub fn next_with_room(&mut self) -> Option<StreamKey> {
        while self.client.send_window > 0 && !self.is_full() {
            let stream = self.queue.pop_front()?;
            let Some(state) = self.streams.get_mut(stream) else { continue };
            state.is_queued = false;
            if state.unsent.is_empty() {
                if state.send_window > 0 && std::mem::take(&mut state.wants_room) {
                    return Some(stream);
                }
                continue;
            }
            self.write_data(stream);
            self.enqueue(stream);
        }
        None
    }

    /// Puts a stream at the end of the queue if it has something to write or wants room.
    pub(super) fn enqueue(&mut self, stream: StreamKey) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        if state.is_waiting() && !std::mem::replace(&mut state.is_queued, true) {
            self.queue.push_back(stream);
        }
    }

    /// Writes one frame of the waiting data, and the end after the last frame. Returns whether more
    /// data is left.
    fn write_data(&mut self, stream: StreamKey) -> bool {
        if self.is_full() {
            return false;
        }
        let frame_max = self.client.frame_max.min(DATA_MAX);
        let Some(state) = self.streams.get_mut(stream) else { return false };
        let window = state.send_window.min(self.client.send_window).max(0);
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let len = state.unsent.len().min(frame_max).min(window);
        if len == 0 {
            return false;
        }
        let ends = len == state.unsent.len() && state.end == Some(End::Bare);
        let flags = if ends { END_STREAM } else { 0 };
        frame::write_head(len, DATA, flags, stream.id, &mut self.out.bytes);
        self.out.bytes.extend_from_slice(&state.unsent[..len]);
        state.unsent.advance(len);
        let written = i64::try_from(len).unwrap_or(i64::MAX);
        state.send_window -= written;
        self.client.send_window -= written;
        if !state.unsent.is_empty() {
            return true;
        }
        state.unsent = Bytes::new();
        match state.end.take() {
            None => {}
            Some(End::Bare) => self.finish(stream),
            Some(end) => self.write_end(stream, end),
        }
        false
    }

    fn write_end(&mut self, stream: StreamKey, end: End) {
        match end {
            End::Bare => frame::write(DATA, END_STREAM, stream.id, &[], &mut self.out.bytes),
            End::Success => {
                self.headers(stream.id, true, |encoder, out| encoder.grpc_success(out));
            }
            End::Trailers(fields) => self.headers(stream.id, true, |encoder, out| {
                encoder.begin(out);
                fields.iter().for_each(|(name, value)| Encoder::field(name, value, out));
            }),
        }
        self.finish(stream);
    }

    /// Closes the stream after the response. If the client has not ended its side, resets the
    /// stream with NO_ERROR, so that it stops sending.
    fn finish(&mut self, stream: StreamKey) {
        let is_receiving = self.streams.get_mut(stream).is_some_and(|state| state.is_receiving);
        if is_receiving {
            self.reset(stream, Reason::NO_ERROR);
        } else {
            self.close(stream, Closed::Ended);
        }
    }

    /// Writes a header block as HEADERS, and as CONTINUATION frames if it is longer than a frame.
    fn headers(&mut self, id: u32, ended: bool, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let out = &mut self.out.bytes;
        if out.capacity() == 0 {
            out.reserve(RESPONSE_USUAL);
        }
        let begin = out.len();
        let flags = if ended { END_HEADERS | END_STREAM } else { END_HEADERS };
        frame::write_head(0, HEADERS, flags, id, out);
        encode(&mut self.encoder, out);
        let len = out.len() - begin - HEAD_LEN;
        if len <= self.client.frame_max {
            let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
            out[begin..begin + 3].copy_from_slice(&[a, b, c]);
            return;
        }
        let block = out.split_off(begin + HEAD_LEN);
        out.truncate(begin);
        let last = block.len().div_ceil(self.client.frame_max) - 1;
        for (at, part) in block.chunks(self.client.frame_max).enumerate() {
            let kind = if at == 0 { HEADERS } else { frame::CONTINUATION };
            let mut flags = if at == last { END_HEADERS } else { 0 };
            if at == 0 && ended {
                flags |= END_STREAM;
            }
            frame::write(kind, flags, id, part, out);
        }
    }

    /// Answers a request whose headers are too large. Its stream was not opened.
    pub(super) fn refuse_headers(&mut self, id: u32, ended: bool) {
        self.headers(id, true, |encoder, out| encoder.status(431, out));
        if !ended {
            reset(id, Reason::NO_ERROR, &mut self.out.bytes);
        }
        self.streams.close(id, if ended { Closed::Ended } else { Closed::ByUs });
    }
}
