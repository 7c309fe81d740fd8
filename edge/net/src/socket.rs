//! An accepted connection: of TCP, or of a socket in the file system.

use rustix::net::{RecvFlags, recv};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream as StdTcp};
use std::os::unix::net::UnixStream as StdUnix;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection as the acceptor passes it on, in non-blocking mode. No runtime serves it yet.
#[derive(Debug)]
pub enum AcceptedSocket {
    /// Of TCP.
    Tcp(StdTcp),
    /// Of a socket in the file system.
    Unix(StdUnix),
}

impl AcceptedSocket {
    /// The connection on the runtime of this thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn into_stream(self) -> io::Result<SocketStream> {
        Ok(match self {
            AcceptedSocket::Tcp(tcp) => SocketStream::Tcp(TcpStream::from_std(tcp)?),
            AcceptedSocket::Unix(unix) => SocketStream::Unix(UnixStream::from_std(unix)?),
        })
    }
}

/// The name of a connection's other side in the log: an address, or `@` for a process on this
/// machine, as in Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteName {
    /// The address of a connection of TCP.
    Address(SocketAddr),
    /// A socket without a name.
    Local,
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A client of IPv4 at a listener for both kinds has its address of IPv4.
            RemoteName::Address(address) => {
                SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f)
            }
            RemoteName::Local => f.write_str("@"),
        }
    }
}

/// A connection on a runtime.
#[derive(Debug)]
pub enum SocketStream {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of a socket in the file system.
    Unix(UnixStream),
}

impl From<TcpStream> for SocketStream {
    fn from(tcp: TcpStream) -> SocketStream {
        SocketStream::Tcp(tcp)
    }
}

impl SocketStream {
    /// The other side's name; `None` if the connection has ended.
    #[must_use]
    pub fn remote(&self) -> Option<RemoteName> {
        match self {
            SocketStream::Tcp(tcp) => tcp.peer_addr().ok().map(RemoteName::Address),
            SocketStream::Unix(_) => Some(RemoteName::Local),
        }
    }

    /// Waits for the first byte and leaves it in the socket; `None` at the end of the input.
    pub(crate) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let len = match self {
            SocketStream::Tcp(tcp) => tcp.peek(&mut first).await?,
            SocketStream::Unix(unix) => {
                let peek = || Ok(recv(unix, &mut first[..], RecvFlags::PEEK)?.0);
                unix.async_io(Interest::READABLE, peek).await?
            }
        };
        Ok(first.first().copied().filter(|_| len > 0))
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            SocketStream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            SocketStream::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            SocketStream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            SocketStream::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            SocketStream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            SocketStream::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            SocketStream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            SocketStream::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            SocketStream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            SocketStream::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn peeking_at_a_local_socket_leaves_the_byte() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = SocketStream::Unix(near);
        far.write_all(b"ab").await.unwrap();
        drop(far);
        assert_eq!(near.peek().await.unwrap(), Some(b'a'));
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "ab");
        assert_eq!(near.peek().await.unwrap(), None);
        assert_eq!(near.remote().unwrap().to_string(), "@");
    }
}
