//! The receiving side: turns frames of the client into events.
//!
//! Source: RFC 9113 §5, §6; the order of checks is ours.

use super::state::{
    ALIVE_PING, ClientEvent, Connection, ConnectionFault, FramesRead, OpenBlock, RefusedRequest,
    SHUTDOWN_PING, Shutdown, new_stream, reset,
};
use crate::frame::{self, ACK, END_HEADERS, END_STREAM, FrameHead, HAS_PRIORITY, PADDED, Reason};
use crate::head::{HeadFault, TrailerCheck};
use crate::limits::{BLOCK_MAX, RESETS_MAX, USELESS_MAX};
use crate::stream::Closed;

/// A WINDOW_UPDATE by less than this, in bytes, counts as a useless frame.
const WORTHWHILE: i64 = 512;

type Happened<'i> = Result<Option<ClientEvent<'i>>, ConnectionFault>;

fn fault<T>(reason: Reason, what: &'static str) -> Result<T, ConnectionFault> {
    Err(ConnectionFault { reason, what })
}

fn size_fault<T>(what: &'static str) -> Result<T, ConnectionFault> {
    fault(Reason::FRAME_SIZE_ERROR, what)
}

fn protocol_fault<T>(what: &'static str) -> Result<T, ConnectionFault> {
    fault(Reason::PROTOCOL_ERROR, what)
}

impl Connection {
    /// Reads frames from `input`, which begins after the preface, up to the next event. `now_ms` is
    /// any clock that does not go back.
    ///
    /// # Errors
    /// When the client breaks a rule that ends the connection. The caller sends the unsent bytes,
    /// which contain a GOAWAY frame, and closes.
    pub fn receive<'i>(
        &mut self,
        input: &'i [u8],
        now_ms: u64,
    ) -> Result<FramesRead<'i>, ConnectionFault> {
        let mut used = 0;
        while let Some(head) = FrameHead::read(&input[used..]) {
            let happened = if head.len > self.limits.frame_max as usize {
                size_fault("a frame longer than our MAX_FRAME_SIZE")
            } else {
                let begin = used + frame::HEAD_LEN;
                let Some(payload) = input.get(begin..begin + head.len) else { break };
                used = begin + head.len;
                self.frame(head, payload, now_ms)
            };
            match happened {
                Ok(None) => {}
                Ok(event) => return Ok(FramesRead { used, event }),
                Err(fault) => {
                    self.go_away(self.streams.last(), fault.reason, fault.what);
                    return Err(fault);
                }
            }
        }
        Ok(FramesRead { used, event: None })
    }

    fn frame<'i>(&mut self, head: FrameHead, payload: &'i [u8], now_ms: u64) -> Happened<'i> {
        if !self.client.is_open {
            if head.kind != frame::SETTINGS || head.has(ACK) {
                return protocol_fault("the first frame is not SETTINGS");
            }
            self.client.is_open = true;
        }
        if self.block.is_some() && head.kind != frame::CONTINUATION {
            return protocol_fault("a frame within a header block");
        }
        let of_stream = matches!(
            head.kind,
            frame::DATA
                | frame::HEADERS
                | frame::PRIORITY
                | frame::RST_STREAM
                | frame::CONTINUATION
        );
        let of_connection = matches!(head.kind, frame::SETTINGS | frame::PING | frame::GOAWAY);
        if of_stream && head.stream == 0 {
            return protocol_fault("a frame of a stream for stream 0");
        }
        if of_connection && head.stream != 0 {
            return protocol_fault("a frame of the connection for a stream");
        }
        match head.kind {
            frame::DATA => self.data(head, payload, now_ms),
            frame::HEADERS => self.headers_frame(head, payload, now_ms),
            frame::PRIORITY => {
                self.useless(now_ms)?;
                if payload.len() != 5 {
                    return Ok(self.refuse(head.stream, Reason::FRAME_SIZE_ERROR));
                }
                if depends_on(payload) == Some(head.stream) {
                    return Ok(self.refuse(head.stream, Reason::PROTOCOL_ERROR));
                }
                Ok(None)
            }
            frame::RST_STREAM => self.reset_frame(head, payload, now_ms),
            frame::SETTINGS => self.settings_frame(head, payload, now_ms),
            frame::PUSH_PROMISE => protocol_fault("PUSH_PROMISE of a client"),
            frame::PING => self.ping(head, payload, now_ms),
            frame::GOAWAY => {
                if payload.len() < 8 {
                    return size_fault("GOAWAY of fewer than 8 bytes");
                }
                self.client.is_leaving = true;
                Ok(None)
            }
            frame::WINDOW_UPDATE => self.window_update(head, payload, now_ms),
            frame::CONTINUATION => self.continuation(head, payload, now_ms),
            // Unknown kinds are ignored.
            _ => self.useless(now_ms).map(|()| None),
        }
    }

    /// Counts a useless frame (see [`USELESS_MAX`]).
    fn useless(&mut self, now_ms: u64) -> Result<(), ConnectionFault> {
        if self.rates.useless.count(now_ms, USELESS_MAX) {
            return Ok(());
        }
        fault(Reason::ENHANCE_YOUR_CALM, "too many frames that bring nothing")
    }

    fn counted_reset(&mut self, now_ms: u64) -> Result<(), ConnectionFault> {
        if self.rates.resets.count(now_ms, RESETS_MAX) {
            return Ok(());
        }
        fault(Reason::ENHANCE_YOUR_CALM, "too many streams that are reset")
    }

    /// Resets a stream because of a mistake of the client. For a stream that is not open, only
    /// writes RST_STREAM, since there is no state to close.
    fn refuse<'i>(&mut self, id: u32, reason: Reason) -> Option<ClientEvent<'i>> {
        if let Some(stream) = self.streams.find(id) {
            self.reset(stream, reason);
            return Some(ClientEvent::Reset(stream, reason));
        }
        reset(id, reason, &mut self.out.bytes);
        None
    }

    fn data<'i>(&mut self, head: FrameHead, payload: &'i [u8], now_ms: u64) -> Happened<'i> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(window) = self.receive_window.checked_sub(len) else {
            return fault(Reason::FLOW_CONTROL_ERROR, "more data than the connection's window");
        };
        self.receive_window = window;
        let Some(data) = unpadded(head, payload) else {
            return protocol_fault("padding longer than its frame");
        };
        let ended = head.has(END_STREAM);
        if data.is_empty() && !ended {
            self.useless(now_ms)?;
        }
        let Some(stream) = self.streams.find(head.stream) else {
            if head.stream > self.streams.last() || is_even(head.stream) {
                return protocol_fault("DATA for an idle stream");
            }
            self.useless(now_ms)?;
            self.give_back(len);
            let closed = self.streams.closed(head.stream);
            if closed != Some(Closed::ByUs) && !self.is_ignored(head.stream) {
                reset(head.stream, Reason::STREAM_CLOSED, &mut self.out.bytes);
            }
            return Ok(None);
        };
        let overhead = u32::try_from(payload.len() - data.len()).unwrap_or(0);
        let data_len = len - overhead;
        let Some(state) = self.streams.get_mut(stream) else { return Ok(None) };
        let window = state.receive_window.checked_sub(len);
        let reason = if !state.is_receiving {
            Some(Reason::STREAM_CLOSED)
        } else if window.is_none() {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !fits(&mut state.announced, data_len, ended) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.give_back(len);
            self.counted_reset(now_ms)?;
            return Ok(self.refuse(head.stream, reason));
        }
        state.receive_window = window.unwrap_or(0);
        state.held += len;
        state.is_receiving = !ended;
        if overhead > 0 {
            self.take(stream, overhead as usize);
        }
        Ok(Some(ClientEvent::Data { stream, data, ended }))
    }

    fn headers_frame<'i>(
        &mut self,
        head: FrameHead,
        payload: &'i [u8],
        now_ms: u64,
    ) -> Happened<'i> {
        let Some(mut fragment) = unpadded(head, payload) else {
            return protocol_fault("padding longer than its frame");
        };
        let mut depends_on_itself = false;
        if head.has(HAS_PRIORITY) {
            let Some((priority, rest)) = fragment.split_first_chunk::<5>() else {
                return size_fault("HEADERS too short for its priority");
            };
            depends_on_itself = depends_on(priority) == Some(head.stream);
            fragment = rest;
        }
        if is_even(head.stream) {
            return protocol_fault("HEADERS with an even number");
        }
        let ended = head.has(END_STREAM);
        if head.has(END_HEADERS) {
            let happened = self.block(head.stream, ended, fragment, now_ms)?;
            if depends_on_itself {
                self.counted_reset(now_ms)?;
                return Ok(self.refuse(head.stream, Reason::PROTOCOL_ERROR));
            }
            return Ok(happened);
        }
        self.block = Some(OpenBlock { stream: head.stream, ended, bytes: fragment.to_vec() });
        Ok(None)
    }

    fn continuation<'i>(&mut self, head: FrameHead, payload: &[u8], now_ms: u64) -> Happened<'i> {
        let Some(mut block) = self.block.take() else {
            return protocol_fault("CONTINUATION without HEADERS");
        };
        if block.stream != head.stream {
            return protocol_fault("CONTINUATION for another stream");
        }
        if payload.len() < 64 && !head.has(END_HEADERS) {
            self.useless(now_ms)?;
        }
        if block.bytes.len() + payload.len() > BLOCK_MAX {
            return fault(Reason::ENHANCE_YOUR_CALM, "a header block of more than 1 MiB");
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            self.block = Some(block);
            return Ok(None);
        }
        self.block(block.stream, block.ended, &block.bytes, now_ms)
    }

    /// Handles a complete header block of a request or of trailers.
    fn block<'i>(&mut self, id: u32, ended: bool, block: &[u8], now_ms: u64) -> Happened<'i> {
        let no_hpack =
            ConnectionFault { reason: Reason::COMPRESSION_ERROR, what: "a wrong header block" };
        if id <= self.streams.last() {
            let mut check = TrailerCheck::default();
            let decoded = self.decoder.decode(block, &mut |field| check.take(&field));
            decoded.map_err(|_| no_hpack)?;
            return self.trailers(id, ended, &check, now_ms);
        }
        let request = self.decoder.request(block, self.limits.headers_max as usize);
        let request = request.map_err(|_| no_hpack)?;
        self.streams.begin(id);
        if self.is_ignored(id) {
            return Ok(None);
        }
        let head = match request {
            Ok(head) if head.content_length().is_none_or(|length| length == 0 || !ended) => head,
            Err(HeadFault::TooLarge) => {
                self.refuse_headers(id, ended);
                return Ok(Some(ClientEvent::Refused(RefusedRequest::Headers)));
            }
            Ok(_) | Err(HeadFault::Malformed) => {
                self.counted_reset(now_ms)?;
                self.streams.close(id, Closed::ByUs);
                reset(id, Reason::PROTOCOL_ERROR, &mut self.out.bytes);
                return Ok(Some(ClientEvent::Refused(RefusedRequest::Malformed)));
            }
        };
        if self.streams.len() >= self.limits.streams_max as usize {
            self.counted_reset(now_ms)?;
            self.streams.close(id, Closed::ByUs);
            reset(id, Reason::REFUSED_STREAM, &mut self.out.bytes);
            return Ok(Some(ClientEvent::Refused(RefusedRequest::Streams)));
        }
        let window = self.limits.stream_window;
        let stream = self.streams.open(new_stream(id, &head, ended, window, &self.client));
        Ok(Some(ClientEvent::Request { stream, head, ended }))
    }

    /// Whether the client opened the stream after the final GOAWAY.
    fn is_ignored(&self, id: u32) -> bool {
        matches!(self.shutdown, Shutdown::Final(last) if id > last)
    }

    fn trailers<'i>(
        &mut self,
        id: u32,
        ended: bool,
        check: &TrailerCheck,
        now_ms: u64,
    ) -> Happened<'i> {
        let Some(stream) = self.streams.find(id) else {
            if self.is_ignored(id) {
                return Ok(None);
            }
            return match self.streams.closed(id) {
                Some(Closed::Ended) => {
                    fault(Reason::STREAM_CLOSED, "HEADERS for a stream that is closed")
                }
                Some(Closed::Skipped) => protocol_fault("HEADERS for a number that was left out"),
                Some(Closed::ByUs) | None => self.useless(now_ms).map(|()| None),
            };
        };
        let headers_max = self.limits.headers_max as usize;
        let Some(state) = self.streams.get_mut(stream) else { return Ok(None) };
        let reason = if !state.is_receiving {
            Reason::STREAM_CLOSED
        } else if !ended || !check.passes(headers_max) || !fits(&mut state.announced, 0, true) {
            Reason::PROTOCOL_ERROR
        } else {
            state.is_receiving = false;
            return Ok(Some(ClientEvent::Ended(stream)));
        };
        self.counted_reset(now_ms)?;
        Ok(self.refuse(id, reason))
    }

    fn reset_frame<'i>(&mut self, head: FrameHead, payload: &[u8], now_ms: u64) -> Happened<'i> {
        let Ok(code) = payload.try_into() else {
            return size_fault("RST_STREAM of another length than 4 bytes");
        };
        let reason = Reason(u32::from_be_bytes(code));
        if let Some(stream) = self.streams.find(head.stream) {
            // Only streams without a response count. A later cancellation is normal use.
            if self.streams.get_mut(stream).is_some_and(|state| !state.is_answered) {
                self.counted_reset(now_ms)?;
            }
            self.close(stream, Closed::Ended);
            return Ok(Some(ClientEvent::Reset(stream, reason)));
        }
        if head.stream > self.streams.last() || is_even(head.stream) {
            return protocol_fault("RST_STREAM for an idle stream");
        }
        self.useless(now_ms)?;
        Ok(None)
    }

    fn settings_frame<'i>(&mut self, head: FrameHead, payload: &[u8], now_ms: u64) -> Happened<'i> {
        self.useless(now_ms)?;
        if !head.has(ACK) {
            self.apply_settings(payload)?;
        } else if !payload.is_empty() {
            return size_fault("an acknowledgement of SETTINGS with content");
        }
        Ok(None)
    }

    fn ping<'i>(&mut self, head: FrameHead, payload: &[u8], now_ms: u64) -> Happened<'i> {
        if payload.len() != 8 {
            return size_fault("PING of another length than 8 bytes");
        }
        self.useless(now_ms)?;
        if !head.has(ACK) {
            frame::write(frame::PING, ACK, 0, payload, &mut self.out.bytes);
            return Ok(None);
        }
        if payload == SHUTDOWN_PING && self.shutdown == Shutdown::Announced {
            let last = self.streams.last();
            self.shutdown = Shutdown::Final(last);
            self.go_away(last, Reason::NO_ERROR, "");
        }
        Ok((payload == ALIVE_PING).then_some(ClientEvent::Alive))
    }

    fn window_update<'i>(&mut self, head: FrameHead, payload: &[u8], now_ms: u64) -> Happened<'i> {
        let Ok(more) = payload.try_into() else {
            return size_fault("WINDOW_UPDATE of another length than 4 bytes");
        };
        let more = i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
        if more < WORTHWHILE {
            self.useless(now_ms)?;
        }
        if head.stream == 0 {
            if more == 0 {
                return protocol_fault("WINDOW_UPDATE of 0 for the connection");
            }
            self.client.send_window += more;
            if self.client.send_window > i64::from(i32::MAX) {
                return fault(Reason::FLOW_CONTROL_ERROR, "a connection's window above 2^31-1");
            }
            return Ok(None);
        }
        let Some(stream) = self.streams.find(head.stream) else {
            if head.stream > self.streams.last() || is_even(head.stream) {
                return protocol_fault("WINDOW_UPDATE for an idle stream");
            }
            self.useless(now_ms)?;
            return Ok(None);
        };
        let Some(state) = self.streams.get_mut(stream) else { return Ok(None) };
        let opened = if more == 0 { Err(Reason::PROTOCOL_ERROR) } else { state.open_window(more) };
        if let Err(reason) = opened {
            self.counted_reset(now_ms)?;
            return Ok(self.refuse(head.stream, reason));
        }
        self.enqueue(stream);
        Ok(None)
    }
}

fn is_even(id: u32) -> bool {
    id.is_multiple_of(2)
}

/// The stream that a priority names as its dependency.
fn depends_on(priority: &[u8]) -> Option<u32> {
    priority.first_chunk::<4>().map(|parent| u32::from_be_bytes(*parent) & 0x7fff_ffff)
}

/// The content of DATA or HEADERS without its padding.
fn unpadded(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, content) = payload.split_first()?;
    content.get(..content.len().checked_sub(usize::from(*padding))?)
}

/// Subtracts data from the announced `content-length`. Returns false if they do not agree.
fn fits(announced: &mut Option<u64>, len: u32, ended: bool) -> bool {
    let Some(left) = announced else { return true };
    let Some(rest) = left.checked_sub(u64::from(len)) else { return false };
    *left = rest;
    !ended || rest == 0
}
