//! A write buffer for a connection's socket. HTTP/2 writes frame by frame, and a system call for
//! each watch event would cost several times the rest of the event. The buffer collects the writes
//! of one poll of the connection and sends them in one system call.

use bytes::{Buf as _, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The buffer is sent in the middle of a poll when it would exceed this many bytes.
const GATHERED_MAX: usize = 64 * 1024;
/// A write of at least this many bytes is not copied: it is sent together with the buffer before it.
const DIRECT: usize = 8 * 1024;

/// A connection's socket with its write buffer. The task that polls the connection keeps a clone
/// and calls [`Gather::send`] after each poll.
#[derive(Debug)]
pub(crate) struct Gather<I>(Rc<RefCell<Inner<I>>>);

#[derive(Debug)]
struct Inner<I> {
    io: I,
    gathered: BytesMut,
}

impl<I> Clone for Gather<I> {
    fn clone(&self) -> Gather<I> {
        Gather(Rc::clone(&self.0))
    }
}

impl<I: AsyncWrite + Unpin> Gather<I> {
    pub(crate) fn new(io: I) -> Gather<I> {
        Gather(Rc::new(RefCell::new(Inner { io, gathered: BytesMut::new() })))
    }

    /// Sends the buffer, as far as the socket accepts it.
    pub(crate) fn send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().send(cx)
    }
}

impl<I: AsyncWrite + Unpin> Inner<I> {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered))?;
            self.sent(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, sent: usize) -> io::Result<()> {
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.gathered.advance(sent);
        if self.gathered.is_empty() {
            // An idle connection keeps no buffer.
            self.gathered = BytesMut::new();
        }
        Ok(())
    }

    /// Sends the buffer and then `parts` in one system call; returns how many bytes of `parts` were
    /// sent.
    fn send_with(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let gathered = self.gathered.len();
            let mut all = Vec::with_capacity(1 + parts.len());
            all.push(IoSlice::new(&self.gathered));
            all.extend_from_slice(parts);
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all))?;
            if gathered > 0 {
                self.sent(sent.min(gathered))?;
            }
            if sent > gathered || gathered == 0 {
                return Poll::Ready(Ok(sent - gathered));
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gather<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gather<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let len = parts.iter().map(|part| part.len()).sum();
        if len >= DIRECT {
            return inner.send_with(cx, parts);
        }
        if inner.gathered.len() + len > GATHERED_MAX {
            ready!(inner.send(cx))?;
        }
        for part in parts {
            inner.gathered.extend_from_slice(part);
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the task that polls the connection calls [`Gather::send`] after the poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.send(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Runs on a pipe that holds 100 bytes.
    fn on_a_narrow_pipe<F: Future<Output = ()>>(
        test: impl FnOnce(Gather<tokio::io::DuplexStream>, tokio::io::DuplexStream) -> F,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (near, far) = tokio::io::duplex(100);
        runtime.block_on(test(Gather::new(near), far));
    }

    #[test]
    fn writes_are_sent_in_order_and_not_before_send() {
        on_a_narrow_pipe(|mut gather, mut far| async move {
            for part in 0..250_u8 {
                gather.write_all(&[part; 3]).await.unwrap();
            }
            gather.flush().await.unwrap();
            let mut first = [0; 1];
            assert!(
                tokio::select! {
                    biased;
                    _ = far.read(&mut first) => false,
                    () = std::future::ready(()) => true,
                },
                "nothing is sent before it is asked for"
            );
            let sender = gather.clone();
            let mut got = vec![0; 750];
            let (sent, read) =
                tokio::join!(poll_fn(|cx| sender.send(cx)), far.read_exact(&mut got));
            sent.unwrap();
            read.unwrap();
            let expected: Vec<u8> = (0..250_u8).flat_map(|part| [part; 3]).collect();
            assert_eq!(got, expected);
        });
    }

    #[test]
    fn long_writes_follow_the_buffered_ones() {
        on_a_narrow_pipe(|mut gather, mut far| async move {
            let write = async {
                gather.write_all(b"head").await.unwrap();
                gather.write_all(&vec![7; 20_000]).await.unwrap();
                gather.write_all(b"tail").await.unwrap();
                gather.shutdown().await.unwrap();
                drop(gather);
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(write, far.read_to_end(&mut got));
            read.unwrap();
            let expected = [&b"head"[..], &vec![7; 20_000], b"tail"].concat();
            assert_eq!(got, expected);
        });
    }
}
