//! A connection's socket with two time limits: for the first bytes of the client, and for a client
//! that reads nothing. The limits are in [`crate::limits`].

use crate::limits::{OPENING_TIME_MAX, STALLED_TIME_MAX};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The start of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of the head of an HTTP/2 frame.
const FRAME_HEAD: usize = 9;

/// A socket that fails with [`io::ErrorKind::TimedOut`] when a limit has passed. Needs a tokio
/// runtime with timers.
#[derive(Debug)]
pub struct TimedStream<I> {
    io: I,
    opening: Option<Opening>,
    stalled: Option<Pin<Box<Sleep>>>,
    stall_limit: StallLimit,
}

/// The time within which the other side must read a byte, [`STALLED_TIME_MAX`] by default. A
/// response that needs a shorter one sets it for the rest of its connection.
#[derive(Clone, Debug)]
pub struct StallLimit(Arc<AtomicU64>);

impl Default for StallLimit {
    fn default() -> StallLimit {
        let limit = StallLimit(Arc::default());
        limit.set(STALLED_TIME_MAX);
        limit
    }
}

impl StallLimit {
    /// Sets the limit.
    pub fn set(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A connection that has sent a part of the HTTP/2 preface, or nothing yet.
#[derive(Debug)]
struct Opening {
    limit: Pin<Box<Sleep>>,
    received: usize,
}

impl Opening {
    /// Compares the next bytes with the preface; returns whether more are needed.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let expected = PREFACE.get(self.received..).unwrap_or_default();
        let is_http2 = bytes.iter().zip(expected).all(|(byte, expected)| byte == expected);
        self.received += bytes.len();
        is_http2 && self.received < PREFACE.len() + FRAME_HEAD
    }
}

impl<I> TimedStream<I> {
    /// Starts the time limit for the first bytes.
    pub fn new(io: I) -> TimedStream<I> {
        let opening = Opening { limit: Box::pin(sleep(OPENING_TIME_MAX)), received: 0 };
        let stall_limit = StallLimit::default();
        TimedStream { io, opening: Some(opening), stalled: None, stall_limit }
    }

    /// The limit of this socket, which can be changed while it is in use.
    pub fn stall_limit(&self) -> StallLimit {
        self.stall_limit.clone()
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.stall_limit.get();
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        if stalled.as_mut().poll(cx).is_ready() {
            let what = "the client has read nothing for too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        }
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for TimedStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        let Some(opening) = &mut this.opening else { return polled };
        let received = buf.filled().get(before..).unwrap_or_default();
        if !received.is_empty() && !opening.take(received) {
            this.opening = None;
            return polled;
        }
        if opening.limit.as_mut().poll(cx).is_ready() {
            let what = "the connection was not opened in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for TimedStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    /// Runs with a clock that jumps to the next timer while nothing else happens.
    fn run<F: Future<Output = ()>>(
        test: impl FnOnce(TimedStream<DuplexStream>, DuplexStream) -> F,
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(100);
            test(TimedStream::new(near), far).await;
        });
    }

    async fn read_all(stream: &mut TimedStream<DuplexStream>) -> io::Error {
        let mut buffer = [0; 64];
        loop {
            match stream.read(&mut buffer).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    #[test]
    fn a_connection_that_does_not_open_ends_at_the_limit() {
        let settings = [PREFACE, &[0; FRAME_HEAD]].concat();
        for sent in [&b""[..], &PREFACE[..12], PREFACE, &settings[..settings.len() - 1]] {
            run(|mut stream, mut client| async move {
                let started = Instant::now();
                client.write_all(sent).await.unwrap();
                let error = read_all(&mut stream).await;
                assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent:?}");
                assert_eq!(started.elapsed(), OPENING_TIME_MAX, "{sent:?}");
            });
        }
    }

    #[test]
    fn a_preface_byte_by_byte_does_not_extend_the_limit() {
        run(|mut stream, mut client| async move {
            let started = Instant::now();
            let drip = async {
                for byte in PREFACE {
                    client.write_all(&[*byte]).await.unwrap();
                    sleep(Duration::from_secs(10)).await;
                }
            };
            tokio::select! {
                () = drip => panic!("the connection goes on"),
                error = read_all(&mut stream) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                }
            }
            assert_eq!(started.elapsed(), OPENING_TIME_MAX);
        });
    }

    #[test]
    fn a_connection_that_is_open_has_no_limit_for_reading() {
        let settings = [PREFACE, &[0; FRAME_HEAD]].concat();
        for sent in [&settings[..], b"GET", b"PRI /"] {
            run(|mut stream, mut client| async move {
                client.write_all(sent).await.unwrap();
                let later = sleep(10 * OPENING_TIME_MAX);
                tokio::select! {
                    () = later => {}
                    error = read_all(&mut stream) => panic!("{sent:?}: {error}"),
                }
            });
        }
    }

    #[test]
    fn a_client_that_takes_nothing_ends_its_connection_and_one_that_is_slow_does_not() {
        run(|mut stream, mut client| async move {
            let answer = vec![7; 1_000];
            let slow = async {
                for _ in 0..9 {
                    sleep(STALLED_TIME_MAX - Duration::from_secs(1)).await;
                    client.read_exact(&mut [0; 100]).await.unwrap();
                }
            };
            let (written, ()) = tokio::join!(stream.write_all(&answer), slow);
            written.unwrap();
            let started = Instant::now();
            let error = stream.write_all(&answer).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(started.elapsed(), STALLED_TIME_MAX);
        });
    }
}
