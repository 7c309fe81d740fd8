//! HTTP/2 on a socket: reads, polls the calls that were woken, and writes what they have made.
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

/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;
/// Rounds of one poll; then other connections get their turn.
const ROUNDS_MAX: usize = 16;

/// One connection of HTTP/2.
pub(crate) struct Driver<'s, I, S, F> {
    io: I,
    /// What came and was not used: hardly more than a frame.
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

/// What the socket does with our bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// It has them all.
    Flushed,
    /// It took them, and may keep some in a buffer of its own, as TLS does.
    Unflushed,
    /// It takes no more for now.
    Blocked,
}

impl<'s, I, S, F> Driver<'s, I, S, F>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Fn(ClientRequest) -> F,
    F: Future<Output = Reply>,
{
    /// A connection whose preface was read, and `input` behind it.
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
        // The rounds have limits of their own. tokio's would make calls seem ready that are not.
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

    /// Reads, unless enough waits; returns how many bytes, `None` when the client has closed.
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

    /// The client has closed the connection.
    fn closed(&self) -> Result<(), Error> {
        if self.input.is_empty() && self.streams.http2.streams() == 0 {
            return Ok(());
        }
        let what = "the client closed the connection before its last call had ended";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into())
    }

    /// Writes what waits, as far as the socket takes it; returns how many bytes.
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
                // Nothing is read while too much waits, so a client that reads shows its life here.
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

    /// Asks a client that is silent whether it is there; whether a ping is to be written.
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

    /// The connection is not idle while it has streams.
    fn mark_use(&mut self) {
        let is_used = self.streams.http2.streams() > 0;
        if is_used != self.in_use.is_some() {
            self.in_use = is_used.then(|| self.seat.begin());
        }
    }

    /// Tells the client why, and closes; what the socket does not take at once is lost, since a
    /// client that is at fault is not waited for.
    fn close(&mut self, cx: &mut Context<'_>) {
        if self.write(cx, Instant::now()).is_ok() {
            drop(Pin::new(&mut self.io).poll_shutdown(cx));
        }
    }
}
