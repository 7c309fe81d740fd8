//! The state of a connection, and the operations that both directions use.

use crate::frame::{self, GOAWAY, PING, RST_STREAM, Reason, SETTINGS, WINDOW_UPDATE};
use crate::head::Head;
use crate::hpack::{Decoder, Encoder};
use crate::limits::{Limits, Rate};
use crate::stream::{Closed, Stream, StreamKey, Streams};
use bytes::Bytes;
use std::collections::VecDeque;
use std::rc::Rc;

/// The default window of a connection and of a stream, in bytes.
const WINDOW_DEFAULT: u32 = 65_535;
/// The default limit of a frame's length, in bytes.
const FRAME_DEFAULT: usize = 16_384;
/// The payload of the PING after the first GOAWAY. Its answer shows that the client has received
/// the GOAWAY.
pub(super) const SHUTDOWN_PING: &[u8; 8] = b"shutdown";
/// The payload of the PING that checks whether the client is alive.
pub(super) const ALIVE_PING: &[u8; 8] = b"areyouok";

// The identifiers of the settings that we send.
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// An event that a client caused.
#[derive(Debug)]
pub enum ClientEvent<'i> {
    /// A request has begun.
    Request {
        /// Its stream.
        stream: StreamKey,
        /// Its head; requests with the same head share it.
        head: Rc<Head>,
        /// Whether the request has no body.
        ended: bool,
    },
    /// A part of the body. The caller gives the window back with [`Connection::take`].
    Data {
        /// Its stream.
        stream: StreamKey,
        /// The bytes; may be empty.
        data: &'i [u8],
        /// Whether this is the end of the body.
        ended: bool,
    },
    /// The body has ended, with trailers.
    Ended(StreamKey),
    /// The stream is closed: the client has reset it, or we have because of its mistake.
    Reset(StreamKey, Reason),
    /// A request was refused before it became a stream. The client has been told.
    Refused(RefusedRequest),
    /// The client has answered the PING of [`Connection::ask_alive`].
    Alive,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedRequest {
    /// [`Limits::streams_max`] streams are open already: REFUSED_STREAM.
    Streams,
    /// Its header list is longer than [`Limits::headers_max`]: the status 431.
    Headers,
    /// Its header list is not valid for a request: PROTOCOL_ERROR.
    Malformed,
}

/// The client broke a rule that ends the connection. The GOAWAY frame is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionFault {
    /// The error code in the GOAWAY frame.
    pub reason: Reason,
    /// The mistake of the client.
    pub what: &'static str,
}

impl std::fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.what)
    }
}

impl std::error::Error for ConnectionFault {}

/// The result of [`Connection::receive`].
#[derive(Debug)]
pub struct FramesRead<'i> {
    /// How many bytes of the input were used.
    pub used: usize,
    /// The event; `None` if the rest of the input is not a complete frame.
    pub event: Option<ClientEvent<'i>>,
}

/// The server's side of a connection. The crate's documentation describes how to drive it.
#[derive(Debug)]
pub struct Connection {
    pub(super) limits: Limits,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) streams: Streams,
    /// Streams that have data or want room, in the order of their turns.
    pub(super) queue: VecDeque<StreamKey>,
    pub(super) out: Out,
    pub(super) client: ClientState,
    /// Bytes that the client may still send on the connection.
    pub(super) receive_window: u32,
    /// Bytes that were taken and are not yet given back with a WINDOW_UPDATE.
    pub(super) taken: u32,
    /// The header block whose further frames are still to come.
    pub(super) block: Option<OpenBlock>,
    pub(super) rates: Rates,
    pub(super) shutdown: Shutdown,
}

/// The output that waits for the socket.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
}

/// The client's settings, its windows, and its state.
#[derive(Debug)]
pub(super) struct ClientState {
    /// Bytes that we may still send on the connection.
    pub(super) send_window: i64,
    pub(super) stream_window: i64,
    pub(super) frame_max: usize,
    /// True once its first SETTINGS frame has arrived.
    pub(super) is_open: bool,
    /// True once it has sent GOAWAY, so that it opens no further streams.
    pub(super) is_leaving: bool,
}

/// A header block that continues in the next frame.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    pub(super) ended: bool,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) useless: Rate,
    pub(super) resets: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    No,
    /// The first GOAWAY was sent. Streams that the client opened before it received the GOAWAY are
    /// served.
    Announced,
    /// Streams above this number are ignored.
    Final(u32),
}

impl Connection {
    /// A connection whose preface has been read. Writes our settings to the output.
    #[must_use]
    pub fn new(limits: Limits) -> Connection {
        let mut out = Out::default();
        write_settings(&limits, &mut out.bytes);
        let window = limits.connection_window.max(WINDOW_DEFAULT);
        if window > WINDOW_DEFAULT {
            window_update(0, window - WINDOW_DEFAULT, &mut out.bytes);
        }
        Connection {
            limits,
            decoder: Decoder::new(),
            encoder: Encoder::default(),
            streams: Streams::default(),
            queue: VecDeque::new(),
            out,
            client: ClientState {
                send_window: i64::from(WINDOW_DEFAULT),
                stream_window: i64::from(WINDOW_DEFAULT),
                frame_max: FRAME_DEFAULT,
                is_open: false,
                is_leaving: false,
            },
            receive_window: window,
            taken: 0,
            block: None,
            rates: Rates::default(),
            shutdown: Shutdown::No,
        }
    }

    /// The bytes that wait for the socket.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.out.bytes[self.out.sent..]
    }

    /// Records that the socket has taken the first `len` of the unsent bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn sent(&mut self, len: usize) {
        self.out.sent += len;
        assert!(self.out.sent <= self.out.bytes.len(), "more was sent than there was");
        if self.out.sent == self.out.bytes.len() {
            // An idle connection keeps no buffer.
            self.out = Out::default();
        } else if self.out.sent >= self.limits.unsent_max {
            // Drops the sent part, so that the buffer does not grow when the client never takes all
            // of it.
            self.out.bytes.drain(..self.out.sent);
            self.out.sent = 0;
        }
    }

    /// Whether so much output waits for the socket that nothing more should be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.bytes.len() - self.out.sent >= self.limits.unsent_max
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is open and none will be: the connection can be closed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_last = self.client.is_leaving || matches!(self.shutdown, Shutdown::Final(_));
        is_last && self.streams.len() == 0
    }

    /// Whether the stream is open: the client may still send, or the response is not finished.
    pub fn is_open(&mut self, stream: StreamKey) -> bool {
        self.streams.get_mut(stream).is_some()
    }

    /// Asks the client to open no further streams.
    pub fn shut_down(&mut self) {
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::Announced;
            self.go_away(0x7fff_ffff, Reason::NO_ERROR, "");
            frame::write(PING, 0, 0, SHUTDOWN_PING, &mut self.out.bytes);
        }
    }

    /// Pings the client. Its answer is [`ClientEvent::Alive`].
    pub fn ask_alive(&mut self) {
        frame::write(PING, 0, 0, ALIVE_PING, &mut self.out.bytes);
    }

    /// Records that data of a stream was read. The client gets as much window for the stream and
    /// the connection. See [`Connection::discard`] for data that is dropped unread.
    pub fn take(&mut self, stream: StreamKey, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let Some(state) = self.streams.get_mut(stream) else { return };
        let len = len.min(state.held);
        state.held -= len;
        if state.is_receiving {
            state.taken += len;
            if state.taken >= self.limits.stream_window / 2 {
                state.receive_window += state.taken;
                window_update(stream.id, state.taken, &mut self.out.bytes);
                state.taken = 0;
            }
        }
        self.give_back(len);
    }

    /// Records that data of a stream was dropped unread. The client gets window for the connection,
    /// and so for other streams, but none for this stream.
    pub fn discard(&mut self, stream: StreamKey, len: usize) {
        let Some(state) = self.streams.get_mut(stream) else { return };
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(state.held);
        state.held -= len;
        self.give_back(len);
    }

    /// Opens the connection's window again after data was read or dropped.
    pub(super) fn give_back(&mut self, len: u32) {
        self.taken += len;
        if self.taken >= self.limits.connection_window.max(WINDOW_DEFAULT) / 2 {
            self.receive_window += self.taken;
            window_update(0, self.taken, &mut self.out.bytes);
            self.taken = 0;
        }
    }

    /// Ends a stream at once, in both directions. Does nothing if it has ended.
    pub fn reset(&mut self, stream: StreamKey, reason: Reason) {
        if self.close(stream, Closed::ByUs) {
            reset(stream.id, reason, &mut self.out.bytes);
        }
    }

    /// Removes an open stream. Returns false if it is not open.
    pub(super) fn close(&mut self, stream: StreamKey, how: Closed) -> bool {
        let Some(state) = self.streams.remove(stream, how) else { return false };
        self.give_back(state.held);
        true
    }

    pub(super) fn go_away(&mut self, last: u32, reason: Reason, what: &str) {
        let out = &mut self.out.bytes;
        frame::write_head(8 + what.len(), GOAWAY, 0, 0, out);
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(&reason.0.to_be_bytes());
        out.extend_from_slice(what.as_bytes());
    }
}

/// Appends our settings.
fn write_settings(limits: &Limits, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(24);
    let mut add = |name: u16, value: u32| {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    };
    if limits.streams_max != u32::MAX {
        add(MAX_CONCURRENT_STREAMS, limits.streams_max);
    }
    add(INITIAL_WINDOW_SIZE, limits.stream_window);
    add(MAX_FRAME_SIZE, limits.frame_max);
    add(MAX_HEADER_LIST_SIZE, limits.headers_max);
    frame::write(SETTINGS, 0, 0, &payload, out);
}

fn window_update(stream: u32, more: u32, out: &mut Vec<u8>) {
    frame::write(WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), out);
}

pub(super) fn reset(stream: u32, reason: Reason, out: &mut Vec<u8>) {
    frame::write(RST_STREAM, 0, stream, &reason.0.to_be_bytes(), out);
}

pub(super) fn new_stream(
    id: u32,
    head: &Head,
    ended: bool,
    window: u32,
    client: &ClientState,
) -> Stream {
    Stream {
        id,
        is_receiving: !ended,
        is_answered: false,
        receive_window: window,
        held: 0,
        taken: 0,
        announced: head.content_length(),
        send_window: client.stream_window,
        unsent: Bytes::new(),
        end: None,
        wants_room: false,
        is_queued: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_does_not_grow_while_a_client_never_takes_all_of_it() {
        let limits = Limits { unsent_max: 1_000, ..Limits::default() };
        let mut connection = Connection::new(limits);
        connection.sent(connection.unsent().len());
        let (mut taken, mut longest) = (Vec::new(), 0);
        for _ in 0..1_000 {
            while !connection.is_full() {
                connection.ask_alive();
            }
            taken.extend_from_slice(&connection.unsent()[..900]);
            connection.sent(900);
            longest = longest.max(connection.out.bytes.len());
        }
        assert!(longest < 3_000, "{longest}");
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0], &ALIVE_PING[..]].concat();
        assert!(taken.iter().eq(ping.iter().cycle().take(taken.len())), "no byte is lost");
    }
}
