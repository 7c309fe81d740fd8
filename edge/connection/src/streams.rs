//! The streams of one connection, without the socket: passes requests to the calls, and the output
//! of the calls to the buffer of the HTTP/2 machine.

use crate::body::{Inbound, RequestBody, RequestError};
use crate::calls::{Call, Calls, Stage};
use crate::head::Heads;
use crate::ready::Ready;
use crate::reply::{end_of_call, end_with, send_head};
use crate::request::ClientRequest;
use bytes::{Buf as _, BytesMut};
use http::{Method, response};
use http_body::Body as _;
use http2::{
    ClientEvent, Connection, ConnectionFault, End, Head, Limits, Reason, RefusedRequest, StreamKey,
};
use net::tasks::caught;
use rpc::body::{Part, Reply};
use std::rc::Rc;
use std::task::{Context, Poll};

/// How many bytes of one response are written before other streams get their turn.
const TURN: usize = 16 * 1024;
/// The length of a frame's head in bytes.
const FRAME_HEAD: usize = 9;
/// How many calls are polled before their output is written.
const CALLS_MAX: usize = 256;

/// The streams and their calls. `F` answers a request.
pub(crate) struct Streams<S, F> {
    pub(crate) http2: Connection,
    calls: Calls<F>,
    heads: Heads,
    service: S,
    refused: Rc<dyn Fn(RefusedRequest)>,
    /// Slots whose calls were woken and are to be polled.
    woken: Vec<usize>,
}

impl<S, F> Streams<S, F>
where
    S: Fn(ClientRequest) -> F,
    F: Future<Output = Reply>,
{
    pub(crate) fn new(
        limits: Limits,
        refused: Rc<dyn Fn(RefusedRequest)>,
        service: S,
    ) -> Streams<S, F> {
        let (http2, calls, heads) = (Connection::new(limits), Calls::new(), Heads::default());
        Streams { http2, calls, heads, service, refused, woken: Vec::new() }
    }

    pub(crate) fn ready(&self) -> &Ready {
        self.calls.ready()
    }

    /// Processes the complete frames of the input, unless too much output waits for the socket.
    ///
    /// # Errors
    /// When the client breaks a rule that ends the connection.
    pub(crate) fn receive(
        &mut self,
        input: &mut BytesMut,
        now_ms: u64,
    ) -> Result<(), ConnectionFault> {
        let mut used = 0;
        while !self.http2.is_full() {
            let read = self.http2.receive(&input[used..], now_ms)?;
            used += read.used;
            let Some(event) = read.event else { break };
            self.happened(event);
        }
        input.advance(used);
        Ok(())
    }

    fn happened(&mut self, event: ClientEvent<'_>) {
        match event {
            ClientEvent::Request { stream, head, ended } => self.begin(stream, &head, ended),
            ClientEvent::Data { stream, data, ended } => self.data(stream, data, ended),
            ClientEvent::Ended(stream) => self.data(stream, &[], true),
            ClientEvent::Reset(stream, reason) => {
                self.calls.end(stream, RequestError::Reset(reason));
            }
            ClientEvent::Refused(why) => (self.refused)(why),
            // Every byte is a sign of life.
            ClientEvent::Alive => {}
        }
    }

    fn begin(&mut self, stream: StreamKey, head: &Rc<Head>, ended: bool) {
        let Ok(head) = self.heads.parts(head) else {
            return self.http2.reset(stream, Reason::PROTOCOL_ERROR);
        };
        let inbound = (!ended).then(|| Inbound::new(self.calls.waker(stream.slot).clone()));
        let body = inbound.as_ref().map_or_else(RequestBody::empty, Inbound::reader);
        let is_head = head.method == Method::HEAD;
        let handler = Box::pin((self.service)(ClientRequest { head, body, switch: None }));
        self.calls.begin(Call { stream, stage: Stage::Handler(handler), inbound, is_head });
    }

    fn data(&mut self, stream: StreamKey, data: &[u8], ended: bool) {
        match self.calls.get(stream) {
            Some(call) => {
                if let Some(inbound) = &call.inbound {
                    inbound.receive(data, ended);
                }
                settle(&mut self.http2, call);
            }
            None => self.http2.discard(stream, data.len()),
        }
    }

    /// Polls the calls that were woken, up to a limit. Returns their number.
    pub(crate) fn poll_calls(&mut self) -> usize {
        if self.woken.is_empty() {
            self.calls.ready().take(&mut self.woken);
        }
        let count = self.woken.len().min(CALLS_MAX);
        let mut woken = std::mem::take(&mut self.woken);
        for slot in woken.drain(..count) {
            self.poll_call(slot);
        }
        self.woken = woken;
        count
    }

    fn poll_call(&mut self, slot: usize) {
        let Some((call, waker)) = self.calls.poll(slot) else { return };
        let stream = call.stream;
        let answered = match call.stage {
            Stage::Response(_) => None,
            Stage::Handler(_) => {
                let polled = caught("call", || call.poll_handler(&mut Context::from_waker(waker)));
                let Some(polled) = polled else {
                    return self.reset(stream, Reason::INTERNAL_ERROR);
                };
                settle(&mut self.http2, call);
                let Poll::Ready(head) = polled else { return };
                Some(head)
            }
        };
        match answered {
            Some(head) => self.answer(stream, &head),
            None => {
                settle(&mut self.http2, call);
                self.advance(stream);
            }
        }
    }

    /// Writes the head of the response, and as much of its body as is ready.
    fn answer(&mut self, stream: StreamKey, head: &response::Parts) {
        let Some((call, _)) = self.calls.poll(stream.slot) else { return };
        let Stage::Response(body) = &call.stage else { return };
        let ended = call.is_head || body.is_end_stream();
        send_head(&mut self.http2, stream, head, body, ended);
        if ended {
            return self.calls.end(stream, RequestError::Closed);
        }
        self.advance(stream);
    }

    /// Continues the responses that waited for room, now that there is some.
    pub(crate) fn give_turns(&mut self) {
        while let Some(stream) = self.http2.next_with_room() {
            self.advance(stream);
        }
    }

    /// Writes a response until its body is not ready, a window is used up, or its turn is over.
    fn advance(&mut self, stream: StreamKey) {
        let mut written = 0;
        while let Some((call, waker)) = self.calls.poll(stream.slot) {
            let Stage::Response(body) = &mut call.stage else { return };
            // The end of a response needs no window, so it does not wait for one.
            let is_over = written >= TURN || !self.http2.has_room(stream);
            if is_over && !body.is_at_its_end() {
                return self.http2.want_room(stream);
            }
            let polled = caught("call", || body.poll_part(&mut Context::from_waker(waker)));
            let end = match polled {
                Some(Poll::Pending) => return,
                Some(Poll::Ready(Ok(Part::Data(data)))) => {
                    written += FRAME_HEAD + data.len();
                    self.http2.send_data(stream, data);
                    continue;
                }
                Some(Poll::Ready(Ok(Part::Status(status)))) => end_of_call(&status),
                Some(Poll::Ready(Ok(Part::Trailers(trailers)))) => end_with(&trailers),
                Some(Poll::Ready(Ok(Part::End))) => End::Bare,
                Some(Poll::Ready(Err(cut))) => return self.reset(stream, Reason(cut.code())),
                None => return self.reset(stream, Reason::INTERNAL_ERROR),
            };
            self.http2.send_end(stream, end);
            return self.calls.end(stream, RequestError::Closed);
        }
    }

    fn reset(&mut self, stream: StreamKey, reason: Reason) {
        self.http2.reset(stream, reason);
        self.calls.end(stream, RequestError::Closed);
    }
}

/// Returns window to the client for the data that was read or dropped.
fn settle<F>(http2: &mut Connection, call: &Call<F>) {
    let Some(inbound) = &call.inbound else { return };
    let read = inbound.take_read();
    if read.taken > 0 {
        http2.take(call.stream, read.taken);
    }
    if read.unwanted > 0 {
        http2.discard(call.stream, read.unwanted);
    }
}
