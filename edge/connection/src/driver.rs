//! HTTP/2 on a socket: reads, polls the calls that were woken, and writes their output.
//!
//! One poll of the connection does this in rounds until nothing moves. In each round all calls that
//! are ready write into the buffer of the machine, and the buffer is sent in one system call.

use crate::error::Error;
use crate::liveness::{Due, Liveness};
use crate::request::ClientRequest;
use crate::settings::Settings;
use crate::streams::Streams;
use bytes::BytesMut;
use http2::Limits;
use net::{Seat, SeatInUse};
use rpc::body::Reply;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::Instant;

/// How many bytes are read at once.
const READ: usize = 16 * 1024;
/// The maximum number of rounds in one poll. After it, other connections get their turn.
const ROUNDS_MAX: usize = 16;

/// One connection of HTTP/2.
pub(crate) struct Driver<'s, I, S, F> {
    io: I,
    /// Received bytes that are not processed yet: little more than a frame.
    input: BytesMut,
    input_max: usize,
    streams: Streams<S, F>,
    seat: &'s Rc<Seat>,
    /// Kept while there are streams.
    in_use: Option<SeatInUse>,
    liveness: Option<Liveness>,
    opened: Instant,
    output: Output,
}

/// The state of the socket's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The socket has all bytes.
    Flushed,
    /// The bytes are written, but some may be in a buffer of the stream, as with TLS.
    Unflushed,
    /// The socket takes no more bytes for now.
    Blocked,
}

impl<'s, I, S, F> Driver<'s, I, S, F>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Fn(ClientRequest) -> F,
    F: Future<Output = Reply>,
{
    /// A connection whose preface was read. `input` is the data after it.
    pub(crate) fn new(
        io: I,
        input: BytesMut,
        settings: &Settings,
        seat: &'s Rc<Seat>,
        service: S,
    ) -> Driver<'s, I, S, F> {
        let opened = Instant::now();
        let limits = Limits { streams_max: settings.streams_max, ..Limits::default() };
        Driver {
            io,
            input,
            input_max: READ + limits.frame_max as usize,
            streams: Streams::new(limits, Rc::clone(&settings.refused), service),
            seat,
            in_use: None,
            liveness: settings.pings.map(|pings| Liveness::new(pings, opened)),
            opened,
            output: Output::Flushed,
        }
    }

    /// Serves until the connection ends.
    pub(crate) async fn run(
        mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let mut is_stopping = false;
        let served = poll_fn(|cx| {
            if !is_stopping && stop.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                self.streams.http2.shut_down();
            }
            self.poll(cx)
        });
        // The rounds have limits of their own. When tokio's budget is used up, its resources return
        // Pending and wake the call at once, so calls would be polled in vain.
        let served = tokio::task::unconstrained(served).await;
        poll_fn(|cx| {
            self.close(cx);
            Poll::Ready(())
        })
        .await;
        served
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let now = Instant::now();
        self.streams.ready().wake_up();
        for _ in 0..ROUNDS_MAX {
            let Some(read) = self.read(cx, now)? else { return Poll::Ready(self.closed()) };
            let now_ms = now.duration_since(self.opened).as_millis();
            self.streams.receive(&mut self.input, u64::try_from(now_ms).unwrap_or(u64::MAX))?;
            self.mark_use();
            let called = self.streams.poll_calls();
            self.streams.give_turns();
            let written = self.write(cx, now)?;
            if self.output == Output::Flushed && self.streams.http2.is_done() {
                return Poll::Ready(Ok(()));
            }
            if read + called + written > 0 || self.asks(cx, now)? {
                continue;
            }
            self.mark_use();
            if self.streams.ready().sleep(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads, unless much input or output waits already. Returns the number of bytes, or `None`
    /// when the client has closed its side.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Option<usize>> {
        if self.streams.http2.is_full() || self.input.len() > self.input_max {
            return Ok(Some(0));
        }
        self.input.reserve(READ);
        let Poll::Ready(read) = pin!(self.io.read_buf(&mut self.input)).poll(cx) else {
            if self.input.is_empty() {
                // An idle connection keeps no buffer.
                self.input = BytesMut::new();
            }
            return Ok(Some(0));
        };
        let len = read?;
        self.sign_of_life(now);
        Ok((len > 0).then_some(len))
    }

    /// The result when the client has closed the connection: an error if calls or input are left.
    fn closed(&self) -> Result<(), Error> {
        if self.input.is_empty() && self.streams.http2.streams() == 0 {
            return Ok(());
        }
        let what = "the client closed the connection before its last call had ended";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into())
    }

    /// Writes the waiting output as far as the socket takes it. Returns the number of bytes.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<usize> {
        let mut written = 0;
        loop {
            let unsent = self.streams.http2.unsent();
            if unsent.is_empty() {
                break;
            }
            let Poll::Ready(len) = Pin::new(&mut self.io).poll_write(cx, unsent) else {
                self.output = Output::Blocked;
                return Ok(written);
            };
            let len = len?;
            if len == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.streams.http2.sent(len);
            written += len;
            if self.output == Output::Blocked {
                // While too much output waits, nothing is read. Then this write is the only sign
                // that the client is alive.
                self.sign_of_life(now);
            }
            self.output = Output::Unflushed;
        }
        if self.output != Output::Flushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.output = Output::Flushed;
        }
        Ok(written)
    }

    fn sign_of_life(&mut self, now: Instant) {
        if let Some(liveness) = &mut self.liveness {
            liveness.sign(now);
        }
    }

    /// Pings a client that is silent. Returns whether a ping must be written.
    fn asks(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Error> {
        let Some(liveness) = &mut self.liveness else { return Ok(false) };
        match liveness.poll(cx, now) {
            Poll::Pending => Ok(false),
            Poll::Ready(Due::Ask) => {
                self.streams.http2.ask_alive();
                Ok(true)
            }
            Poll::Ready(Due::Close) => Err(Error::Silent),
        }
    }

    /// Marks the seat as in use while the connection has streams, and as idle otherwise.
    fn mark_use(&mut self) {
        let is_used = self.streams.http2.streams() > 0;
        if is_used != self.in_use.is_some() {
            self.in_use = is_used.then(|| self.seat.begin());
        }
    }

    /// Writes the last frames, such as a GOAWAY with the reason, and closes. Output that the socket
    /// does not take at once is lost, since the server does not wait for a client at fault.
    fn close(&mut self, cx: &mut Context<'_>) {
        if self.write(cx, Instant::now()).is_ok() {
            drop(Pin::new(&mut self.io).poll_shutdown(cx));
        }
    }
}
