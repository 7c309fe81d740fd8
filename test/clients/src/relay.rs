//! A relay of bytes between clients and a server, on a TCP port and on a unix socket. It can be cut:
//! every connection ends, and new ones are closed at once.

use anyhow::Result;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running relay. Its connections end when this is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    socket: PathBuf,
    is_open: watch::Sender<bool>,
    accepting: [JoinHandle<()>; 2],
    _dir: TempDir,
}

impl Relay {
    /// Starts a relay to `server`.
    ///
    /// # Errors
    /// When no port or socket can be bound.
    pub async fn start(server: SocketAddr) -> Result<Relay> {
        let dir = TempDir::new()?;
        let socket = dir.path().join("etcd.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let unix = UnixListener::bind(&socket)?;
        let address = tcp.local_addr()?;
        let (is_open, watched) = watch::channel(true);
        let also_watched = watched.clone();
        let over_tcp = tokio::spawn(async move {
            while let Ok((client, _)) = tcp.accept().await {
                tokio::spawn(carry(client, server, watched.clone()));
            }
        });
        let over_unix = tokio::spawn(async move {
            while let Ok((client, _)) = unix.accept().await {
                tokio::spawn(carry(client, server, also_watched.clone()));
            }
        });
        let accepting = [over_tcp, over_unix];
        Ok(Relay { address, socket, is_open, accepting, _dir: dir })
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends every connection, and closes new ones until [`Relay::join`].
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn join(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
        self.cut();
    }
}

/// Carries one connection until either side closes it or the relay is cut.
async fn carry(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    server: SocketAddr,
    mut is_open: watch::Receiver<bool>,
) {
    if !*is_open.borrow_and_update() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Either fails only if the relay is gone or a side has closed, which also ends the connection.
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = is_open.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn said_back(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
        let mut back = [0; 2];
        stream.write_all(b"hi").await.is_ok() && stream.read_exact(&mut back).await.is_ok()
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_over() {
        let relay = Relay::start(echo().await).await.unwrap();
        let mut tcp = TcpStream::connect(relay.address()).await.unwrap();
        let mut unix = tokio::net::UnixStream::connect(relay.socket()).await.unwrap();
        assert!(said_back(&mut tcp).await && said_back(&mut unix).await);

        relay.cut();
        assert!(!said_back(&mut tcp).await && !said_back(&mut unix).await);
        assert!(!said_back(&mut TcpStream::connect(relay.address()).await.unwrap()).await);

        relay.join();
        assert!(said_back(&mut TcpStream::connect(relay.address()).await.unwrap()).await);
    }
}
