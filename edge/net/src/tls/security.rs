//! Whether a listener's connections have TLS: plain text, TLS, or both at one address.

use super::{HandshakeError, ServerTls, Stream};
use crate::limits::OPENING_TIME_MAX;
use crate::seats::Seat;
use crate::socket::{RemoteName, SocketStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static REJECTED: AtomicU64 = AtomicU64::new(0);

/// The first byte of a TLS connection: the type of a record of the handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What a listener expects of its connections.
#[derive(Clone, Debug)]
pub enum Security {
    /// Plain text.
    Plain,
    /// TLS.
    Tls(Arc<ServerTls>),
    /// Either. The first byte of a connection decides.
    Either(Arc<ServerTls>),
}

impl Security {
    /// Makes the handshake of an accepted connection, unless its place is needed for another one
    /// before that is done.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed then.
    pub async fn open(&self, socket: SocketStream, seat: &Seat) -> Result<Stream, HandshakeError> {
        tokio::select! {
            opened = self.handshake(socket) => opened,
            () = seat.closing() => Err(HandshakeError::Displaced),
        }
    }

    async fn handshake(&self, socket: SocketStream) -> Result<Stream, HandshakeError> {
        let tls = match self {
            Security::Plain => return Ok(Stream::Plain(socket)),
            Security::Tls(tls) => tls,
            Security::Either(tls) => {
                let peeked = tokio::time::timeout(OPENING_TIME_MAX, socket.peek()).await;
                let first = peeked.map_err(|_| HandshakeError::Timeout)?;
                if first.map_err(HandshakeError::Io)? != Some(HANDSHAKE_RECORD) {
                    return Ok(Stream::Plain(socket));
                }
                tls
            }
        };
        tls.accept(socket).await
    }
}

/// The number of connections whose handshake has failed since the process started. A connection
/// that its client closed without an alert does not count.
#[must_use]
pub fn rejected_connections() -> u64 {
    REJECTED.load(Ordering::Relaxed)
}

/// Logs and counts a connection that was not opened; `endpoint` is `client`, `peer` or `metrics`.
pub fn log_rejected(endpoint: &str, remote: Option<RemoteName>, error: &HandshakeError) {
    let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
    if error.is_eof() || matches!(error, HandshakeError::Displaced) {
        tracing::debug!("remote-addr" = remote, %error, "rejected connection on {endpoint} endpoint");
        return;
    }
    REJECTED.fetch_add(1, Ordering::Relaxed);
    tracing::warn!("remote-addr" = remote, %error, "rejected connection on {endpoint} endpoint");
}
