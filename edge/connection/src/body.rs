//! The body of a request: filled by the connection, read by a handler, both on one thread.
//!
//! Unread data are one buffer, bounded by the windows of the stream and of the connection. A
//! handler may read in the call or in another task. In the first case the connection sees what was
//! read after it has polled the call; in the second case the reader wakes it.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http2::Reason;
use hyper::body::Incoming;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Http1(Incoming),
    Http2(Reader),
}

/// Why a body ended before its client has ended it.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The client has reset the stream, or broke a rule on it.
    Reset(Reason),
    /// The call or its connection is over.
    Closed,
    /// HTTP/1.1 failed.
    Http1(hyper::Error),
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RequestError::Reset(reason) => write!(f, "the stream was reset: {}", reason.name()),
            RequestError::Closed => f.write_str("the call or its connection is over"),
            RequestError::Http1(error) => write!(f, "HTTP/1.1: {error}"),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RequestError::Reset(_) | RequestError::Closed => None,
            RequestError::Http1(error) => Some(error),
        }
    }
}

impl RequestBody {
    /// An empty body.
    #[must_use]
    pub fn empty() -> RequestBody {
        RequestBody(Kind::Empty)
    }

    pub(crate) fn of_http1(body: Incoming) -> RequestBody {
        RequestBody(Kind::Http1(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Http1(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(RequestError::Http1)))
            }
            Kind::Http2(reader) => {
                reader.0.poll(cx).map(|data| data.map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Http1(body) => body.is_end_stream(),
            Kind::Http2(reader) => {
                let state = reader.0.0.borrow();
                state.data.is_empty() && matches!(state.end, Some(Ok(())))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Http1(body) => body.size_hint(),
            Kind::Http2(_) => SizeHint::default(),
        }
    }
}

/// The connection's end of a body.
#[derive(Debug)]
pub(crate) struct Inbound(RefCell<InboundState>);

#[derive(Debug)]
struct InboundState {
    /// Data that was received and not read yet.
    data: BytesMut,
    /// How the body ends after the data, once it is known.
    end: Option<Result<(), RequestError>>,
    read: BytesRead,
    is_wanted: bool,
    /// True while the connection polls the call. It looks at `read` afterwards.
    is_polled: bool,
    /// The task that waits for data.
    reader: Option<Waker>,
    /// Wakes the call.
    call: Waker,
}

/// Bytes that were read or dropped since the connection last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BytesRead {
    /// Read by the handler.
    pub(crate) taken: usize,
    /// Dropped, because the handler has dropped the body.
    pub(crate) unwanted: usize,
}

impl Inbound {
    /// A body. `call` wakes its call, which is needed when another task reads the body.
    pub(crate) fn new(call: Waker) -> Rc<Inbound> {
        Rc::new(Inbound(RefCell::new(InboundState {
            data: BytesMut::new(),
            end: None,
            read: BytesRead::default(),
            is_wanted: true,
            is_polled: false,
            reader: None,
            call,
        })))
    }

    /// The handler's end. There is only one.
    pub(crate) fn reader(self: &Rc<Inbound>) -> RequestBody {
        RequestBody(Kind::Http2(Reader(Rc::clone(self))))
    }

    /// Appends data from the client.
    pub(crate) fn receive(&self, data: &[u8], ended: bool) {
        let mut state = self.0.borrow_mut();
        if !state.is_wanted {
            state.read.unwanted += data.len();
        } else if state.data.is_empty() {
            // Allocates exactly this length, since a handler may keep the data for long.
            state.data = BytesMut::from(data);
        } else {
            state.data.extend_from_slice(data);
        }
        if ended {
            state.end.get_or_insert(Ok(()));
        }
        wake_reader(state);
    }

    /// Ends the body with an error, unless it has ended already.
    pub(crate) fn fail(&self, why: RequestError) {
        let mut state = self.0.borrow_mut();
        if state.end.is_some() {
            return;
        }
        state.end = Some(Err(why));
        state.data = BytesMut::new();
        wake_reader(state);
    }

    /// Called by the connection before and after it polls the call.
    pub(crate) fn set_polled(&self, is_polled: bool) {
        self.0.borrow_mut().is_polled = is_polled;
    }

    /// The bytes that were read or dropped since the last call.
    pub(crate) fn take_read(&self) -> BytesRead {
        std::mem::take(&mut self.0.borrow_mut().read)
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, RequestError>>> {
        let mut state = self.0.borrow_mut();
        if !state.data.is_empty() {
            let data = std::mem::take(&mut state.data).freeze();
            state.read.taken += data.len();
            tell_call(state);
            return Poll::Ready(Some(Ok(data)));
        }
        match state.end.take() {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(end) => {
                state.end = Some(Ok(()));
                Poll::Ready(end.err().map(Err))
            }
        }
    }
}

// A waker may call this module again, so nothing is borrowed while it runs.

fn wake_reader(mut state: std::cell::RefMut<'_, InboundState>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

fn tell_call(state: std::cell::RefMut<'_, InboundState>) {
    if state.is_polled {
        return;
    }
    let call = state.call.clone();
    drop(state);
    call.wake();
}

/// The handler's end of a body.
#[derive(Debug)]
struct Reader(Rc<Inbound>);

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        state.is_wanted = false;
        state.reader = None;
        if !state.data.is_empty() {
            state.read.unwanted += state.data.len();
            state.data = BytesMut::new();
            tell_call(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wakes::Wakes;
    use std::sync::Arc;

    fn poll(body: &mut RequestBody) -> Poll<Option<Result<Bytes, String>>> {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| {
            let data = frame?.map(|frame| frame.into_data().unwrap());
            Some(data.map_err(|error| error.to_string()))
        })
    }

    #[test]
    fn pieces_are_joined_and_the_call_is_told_only_of_what_is_read_elsewhere() {
        let count = Arc::new(Wakes::default());
        let inbound = Inbound::new(Waker::from(Arc::clone(&count)));
        let mut body = inbound.reader();
        assert_eq!(poll(&mut body), Poll::Pending);
        inbound.receive(b"ab", false);
        inbound.receive(b"cd", false);
        inbound.set_polled(true);
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok("abcd".into()))));
        inbound.set_polled(false);
        assert_eq!(count.get(), 0);
        assert_eq!(inbound.take_read().taken, 4);
        inbound.receive(b"e", true);
        assert!(!body.is_end_stream());
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok("e".into()))));
        assert_eq!(count.get(), 1);
        assert!(body.is_end_stream());
        inbound.fail(RequestError::Closed);
        assert_eq!(poll(&mut body), Poll::Ready(None), "it had ended before");
    }

    #[test]
    fn what_nobody_reads_is_counted_apart() {
        let inbound = Inbound::new(Waker::noop().clone());
        let body = inbound.reader();
        inbound.receive(b"abc", false);
        drop(body);
        inbound.receive(b"de", false);
        let read = inbound.take_read();
        assert_eq!((read.taken, read.unwanted), (0, 5));
    }

    #[test]
    fn a_failure_is_told_once_and_takes_the_place_of_what_was_not_read() {
        let inbound = Inbound::new(Waker::noop().clone());
        let mut body = inbound.reader();
        inbound.receive(b"abc", false);
        inbound.fail(RequestError::Reset(Reason::CANCEL));
        let told = poll(&mut body);
        assert_eq!(told, Poll::Ready(Some(Err("the stream was reset: CANCEL".to_owned()))));
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }
}
