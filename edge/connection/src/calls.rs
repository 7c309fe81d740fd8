//! The calls of one connection, each in the slot of its stream.

use crate::body::{Inbound, RequestError};
use crate::ready::{Ready, Signal};
use http::response;
use http2::StreamKey;
use net::tasks::caught;
use rpc::body::{Body, Reply};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Slots that a connection without calls keeps.
const KEPT_SLOTS: usize = 8;

/// The calls, and the list of those that must be polled. `F` is the future of a handler.
#[derive(Debug)]
pub(crate) struct Calls<F> {
    slots: Vec<Slot<F>>,
    open: usize,
    ready: Ready,
}

#[derive(Debug)]
struct Slot<F> {
    signal: Arc<Signal>,
    waker: Waker,
    call: Option<Call<F>>,
}

/// A request whose response is not completely written.
#[derive(Debug)]
pub(crate) struct Call<F> {
    pub(crate) stream: StreamKey,
    pub(crate) stage: Stage<F>,
    /// Where the rest of the request goes; `None` if it had no body.
    pub(crate) inbound: Option<Rc<Inbound>>,
    /// True for a HEAD request: the response has no body.
    pub(crate) is_head: bool,
}

/// The stage of a call.
pub(crate) enum Stage<F> {
    /// The handler has not responded yet.
    Handler(Pin<Box<F>>),
    /// The head of the response is written.
    Response(Body),
}

impl<F> std::fmt::Debug for Stage<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Handler(_) => "Handler",
            Stage::Response(_) => "Response",
        })
    }
}

impl<F: Future<Output = Reply>> Call<F> {
    /// Polls the handler. Once it has responded, replaces it by the body and returns the head.
    pub(crate) fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<response::Parts> {
        if let Some(inbound) = &self.inbound {
            inbound.set_polled(true);
        }
        let polled = match &mut self.stage {
            Stage::Handler(handler) => handler.as_mut().poll(cx),
            Stage::Response(_) => Poll::Pending,
        };
        let polled = polled.map(|reply| {
            let (head, body) = reply.into_parts();
            self.stage = Stage::Response(body);
            head
        });
        if let Some(inbound) = &self.inbound {
            inbound.set_polled(false);
        }
        polled
    }
}

impl<F> Calls<F> {
    pub(crate) fn new() -> Calls<F> {
        Calls { slots: Vec::new(), open: 0, ready: Ready::new() }
    }

    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The waker for the next call in this slot.
    pub(crate) fn waker(&mut self, slot: usize) -> &Waker {
        while self.slots.len() <= slot {
            let signal = self.ready.signal(self.slots.len());
            let waker = Waker::from(Arc::clone(&signal));
            self.slots.push(Slot { signal, waker, call: None });
        }
        &self.slots[slot].waker
    }

    /// Adds a call, and wakes it so that it is polled.
    pub(crate) fn begin(&mut self, call: Call<F>) {
        let slot = call.stream.slot;
        self.waker(slot).wake_by_ref();
        let before = self.slots[slot].call.replace(call);
        assert!(before.is_none(), "the slot of a stream has no other call");
        self.open += 1;
    }

    /// The call of a slot, which is about to be polled with this waker.
    pub(crate) fn poll(&mut self, slot: usize) -> Option<(&mut Call<F>, &Waker)> {
        let slot = self.slots.get_mut(slot)?;
        slot.signal.clear();
        Some((slot.call.as_mut()?, &slot.waker))
    }

    /// The call of a stream.
    pub(crate) fn get(&self, stream: StreamKey) -> Option<&Call<F>> {
        let call = self.slots.get(stream.slot)?.call.as_ref();
        call.filter(|call| call.stream == stream)
    }

    /// Drops the call of a stream, if there is one. The handler or the response is dropped first,
    /// so that it does not see the end of the request's body.
    pub(crate) fn end(&mut self, stream: StreamKey, why: RequestError) {
        let Some(slot) = self.slots.get_mut(stream.slot) else { return };
        let Some(Call { stage, inbound, .. }) = slot.call.take_if(|call| call.stream == stream)
        else {
            return;
        };
        // A handler may panic when it is dropped, too.
        caught("call", || drop(stage));
        if let Some(inbound) = inbound {
            inbound.fail(why);
        }
        self.open -= 1;
        if self.open == 0 && self.slots.len() > KEPT_SLOTS {
            self.slots.truncate(KEPT_SLOTS);
            self.slots.shrink_to_fit();
        }
    }
}

/// Ends all calls, because the connection is over.
impl<F> Drop for Calls<F> {
    fn drop(&mut self) {
        let streams: Vec<StreamKey> =
            self.slots.iter().filter_map(|slot| Some(slot.call.as_ref()?.stream)).collect();
        for stream in streams {
            self.end(stream, RequestError::Closed);
        }
    }
}
