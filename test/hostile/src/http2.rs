//! The client's side of HTTP/2, frame by frame, so that a test can send frames that no library
//! sends. Header blocks are literals without an index, and only what the tests need is decoded.
//!
//! Source: RFC 9113 (frames, windows), RFC 7541 §6.2.2 (literals).

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The start of a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The setting for the window of each stream.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// The longest frame that every server accepts.
pub const FRAME_MAX: usize = 16_384;
/// The default window of a connection and of its streams.
const WINDOW: i64 = 65_535;
/// If more bytes than this wait for the socket, the connection counts as blocked.
const UNSENT_MAX: usize = 256 * 1024;
const TICK: Duration = Duration::from_millis(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = len[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface and the settings.
#[must_use]
pub fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

fn string(text: &[u8], into: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len) if len < 127 => into.push(len),
        _ => {
            into.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                into.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                rest /= 128;
            }
            into.push(u8::try_from(rest).unwrap_or(0));
        }
    }
    into.extend_from_slice(text);
}

/// The header block of a call.
#[must_use]
pub fn header_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        block.push(0);
        string(name.as_bytes(), &mut block);
        string(value.as_bytes(), &mut block);
    }
    block
}

/// HEADERS with as many CONTINUATION frames as the block needs.
#[must_use]
pub fn headers(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let last = block.len().div_ceil(FRAME_MAX).max(1) - 1;
    for (at, part) in block.chunks(FRAME_MAX).enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if at == last { END_HEADERS } else { 0 };
        if end && at == 0 {
            flags |= END_STREAM;
        }
        bytes.extend(frame(kind, flags, stream, part));
    }
    bytes
}

/// RST_STREAM with the code for "cancelled".
#[must_use]
pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A message of gRPC with its prefix.
#[must_use]
pub fn message(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &len, &bytes].concat()
}

/// The response of the server on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Whether the server sent anything.
    pub answered: bool,
    /// Whether it ended the stream, in order or by a reset.
    pub ended: bool,
    /// The code of its reset.
    pub reset: Option<u32>,
}

/// A connection that respects the server's windows. It opens its own windows again only after
/// [`RawConnection::gives_back`].
#[derive(Debug)]
pub struct RawConnection {
    socket: TcpStream,
    unsent: Vec<u8>,
    input: Vec<u8>,
    window: i64,
    stream_window: i64,
    windows: BTreeMap<u32, i64>,
    streams: BTreeMap<u32, StreamEnd>,
    last_stream: u32,
    gives_back: bool,
    closed: bool,
}

impl RawConnection {
    /// Connects and sends the preface with these settings.
    ///
    /// # Errors
    /// When the server does not accept the connection.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> std::io::Result<RawConnection> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut connection = RawConnection {
            socket,
            unsent: opening(settings),
            input: Vec::new(),
            window: WINDOW,
            stream_window: WINDOW,
            windows: BTreeMap::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            gives_back: false,
            closed: false,
        };
        connection.pump();
        Ok(connection)
    }

    /// From now on opens its windows again for all data, like a client that reads everything.
    pub fn gives_back(&mut self) {
        self.gives_back = true;
    }

    /// Forgets the streams that have ended.
    pub fn forget_ended(&mut self) {
        let streams = &mut self.streams;
        self.windows.retain(|stream, _| !streams.get(stream).is_some_and(|state| state.ended));
        streams.retain(|_, state| !state.ended);
    }

    /// Resets a stream.
    pub fn cancel(&mut self, stream: u32) {
        self.windows.remove(&stream);
        self.streams.remove(&stream);
        self.send(&reset(stream));
    }

    /// Whether the server has closed the connection or sent GOAWAY.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The server's response on a stream.
    #[must_use]
    pub fn stream(&self, stream: u32) -> StreamEnd {
        self.streams.get(&stream).copied().unwrap_or_default()
    }

    /// Sends complete frames.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.pump();
    }

    /// Opens a stream for a call and returns its number.
    pub fn call(&mut self, path: &str, more: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream();
        let frames = headers(stream, &header_block(path, more), false);
        self.send(&frames);
        stream
    }

    /// The number of the next stream.
    pub fn next_stream(&mut self) -> u32 {
        self.last_stream = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        self.windows.insert(self.last_stream, self.stream_window);
        self.last_stream
    }

    /// Sends data if the windows and the socket have room. Returns whether it did.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> bool {
        self.pump();
        let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let room = self.windows.get(&stream).copied().unwrap_or(0).min(self.window);
        if self.closed || len > room || self.unsent.len() > UNSENT_MAX {
            return false;
        }
        self.window -= len;
        if let Some(window) = self.windows.get_mut(&stream) {
            *window -= len;
        }
        let flags = if end { END_STREAM } else { 0 };
        self.unsent.extend(frame(DATA, flags, stream, bytes));
        self.pump();
        true
    }

    /// Sends a unary call and waits for its end.
    pub fn unary(
        &mut self,
        path: &str,
        request: &impl prost::Message,
        limit: Duration,
    ) -> StreamEnd {
        let stream = self.call(path, &[]);
        let sent = self.wait(limit, |connection| connection.data(stream, &message(request), true));
        if sent {
            self.wait(limit, |connection| connection.stream(stream).ended);
        }
        self.stream(stream)
    }

    /// Reads and writes until `done` returns true, the connection ends, or the time is over.
    /// Returns whether `done` returned true.
    pub fn wait(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            self.pump();
            if done(self) {
                return true;
            }
            if self.closed || begun.elapsed() > limit {
                return false;
            }
            std::thread::sleep(TICK);
        }
    }

    /// Writes and reads as much as possible without waiting.
    pub fn pump(&mut self) {
        while !self.closed && !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(len) => {
                    self.input.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            break;
        }
        self.take_frames();
    }

    fn take_frames(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, next)) = after.split_at_checked(len) else { break };
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.take_frame(head[3], head[4], stream, payload);
            rest = next;
        }
        self.input = rest.to_vec();
    }

    fn take_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        if kind == DATA && self.gives_back && !payload.is_empty() {
            let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
            self.unsent.extend(frame(WINDOW_UPDATE, 0, 0, &len));
            if flags & END_STREAM == 0 {
                self.unsent.extend(frame(WINDOW_UPDATE, 0, stream, &len));
            }
        }
        match kind {
            DATA | HEADERS => {
                let state = self.streams.entry(stream).or_default();
                state.answered = true;
                state.ended |= flags & END_STREAM != 0;
            }
            RST_STREAM => {
                let state = self.streams.entry(stream).or_default();
                state.ended = true;
                state.reset = Some(number(0));
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    let value =
                        u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        let more = i64::from(value) - self.stream_window;
                        self.stream_window += more;
                        self.windows.values_mut().for_each(|window| *window += more);
                    }
                }
                self.unsent.extend(frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => self.unsent.extend(frame(PING, ACK, 0, payload)),
            GOAWAY => self.closed = true,
            WINDOW_UPDATE if stream == 0 => self.window += i64::from(number(0)),
            WINDOW_UPDATE => {
                if let Some(window) = self.windows.get_mut(&stream) {
                    *window += i64::from(number(0));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_header_block_is_divided_into_frames() {
        let bytes = headers(1, &[0; 2 * FRAME_MAX + 1], true);
        let kinds: Vec<(u8, u8)> = [0, FRAME_MAX + 9, 2 * (FRAME_MAX + 9)]
            .map(|at| (bytes[at + 3], bytes[at + 4]))
            .to_vec();
        let wanted = [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)];
        assert_eq!(kinds, wanted);
    }

    #[test]
    fn long_strings_have_the_length_of_rfc_7541() {
        let mut bytes = Vec::new();
        // C.1.2's example with a prefix of seven bits: 1337 = 127 + 58 + 9 * 128.
        string(&[b'x'; 1337], &mut bytes);
        assert_eq!(bytes[..3], [127, 58 | 128, 9]);
        assert_eq!(bytes.len(), 3 + 1337);
    }
}
