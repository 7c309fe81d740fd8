//! The byte stream below a connection: a socket, or a pipe in tests. It records when the server
//! sends bytes, which shows whether the server responds.

use crate::endpoint::{Address, Endpoint};
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A stream of bytes in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An open stream, and the server as grpc-go prints a peer.
pub(crate) struct Transport {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) peer: String,
}

/// The opening of a transport. The error has Go's message.
pub(crate) type TransportFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Transport, String>> + Send + 'a>>;

/// Opens transports.
pub(crate) trait Network: Debug + Send + Sync {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> TransportFuture<'a>;
}

/// The step that opens a transport, as Go's messages name it.
pub(crate) fn step(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        Address::Tcp(host) => format!("dial tcp {host}"),
        Address::Unix(path) => format!("dial unix {}", path.display()),
    }
}

/// The sockets of the operating system.
#[derive(Debug)]
pub(crate) struct Sockets;

impl Network for Sockets {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> TransportFuture<'a> {
        Box::pin(async {
            let failed = |error: io::Error| io_error(&step(endpoint), &error);
            match &endpoint.address {
                Address::Tcp(host) => {
                    let stream = TcpStream::connect(host).await.map_err(failed)?;
                    // With Nagle's algorithm a small request would wait for the previous one's ACK.
                    stream.set_nodelay(true).map_err(failed)?;
                    let shown = |address: io::Result<std::net::SocketAddr>| {
                        address.map_or_else(|_| "<nil>".into(), |address| format!("'{address}'"))
                    };
                    let (remote, local) = (shown(stream.peer_addr()), shown(stream.local_addr()));
                    let peer =
                        format!("Peer{{Addr: {remote}, LocalAddr: {local}, AuthInfo: 'insecure'}}");
                    Ok(Transport { stream: Box::new(stream), peer })
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(failed)?;
                    let peer = format!(
                        "Peer{{Addr: '{}', LocalAddr: '@', AuthInfo: 'insecure'}}",
                        path.display()
                    );
                    Ok(Transport { stream: Box::new(stream), peer })
                }
            }
        })
    }
}

fn io_error(step: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    let connect = if error.raw_os_error().is_some() { "connect: " } else { "" };
    format!("{step}: {connect}{text}")
}

/// The time of the first request since the last byte from the server.
#[derive(Debug, Default)]
pub(crate) struct SilenceTimer(Mutex<Option<Instant>>);

impl SilenceTimer {
    /// The server counts as silent when it sends no byte for this long after a request.
    pub(crate) const SILENCE: Duration = Duration::from_millis(500);

    fn set(&self, change: impl FnOnce(&mut Option<Instant>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Records that a request is sent.
    pub(crate) fn asked(&self) {
        self.set(|asked| _ = asked.get_or_insert_with(Instant::now));
    }

    /// When the server will count as silent; `None` while it owes no response.
    fn silent_at(&self) -> Option<Instant> {
        let asked = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.map(|asked| asked + SilenceTimer::SILENCE)
    }

    /// Whether no byte has come for [`SilenceTimer::SILENCE`] since a request.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent_at().is_some_and(|at| at <= Instant::now())
    }

    /// Waits until the server is silent.
    pub(crate) async fn silence(&self) {
        while !self.is_silent() {
            let next = self.silent_at().unwrap_or_else(|| Instant::now() + SilenceTimer::SILENCE);
            tokio::time::sleep_until(next).await;
        }
    }
}

/// A stream that records the arrival of bytes and of the server's first frame.
pub(crate) struct MonitoredStream {
    stream: Box<dyn Duplex>,
    silence_timer: Arc<SilenceTimer>,
    first: Option<FirstFrame>,
}

/// Reads the first frame of the server, which must be SETTINGS (RFC 9113 §3.4).
pub(crate) struct FirstFrame {
    header: Vec<u8>,
    /// The number of bytes of the payload that have arrived.
    payload: usize,
    /// Receives the type of the frame when the frame is complete or has another type.
    arrived: oneshot::Sender<u8>,
}

impl FirstFrame {
    const HEADER: usize = 9;
    /// The type of a SETTINGS frame.
    pub(crate) const SETTINGS: u8 = 4;

    /// The type of the frame, once the frame is complete or has another type.
    fn read(&mut self, bytes: &[u8]) -> Option<u8> {
        let wanted = FirstFrame::HEADER - self.header.len();
        let (header, payload) = bytes.split_at(wanted.min(bytes.len()));
        self.header.extend_from_slice(header);
        self.payload += payload.len();
        let &[high, middle, low, kind, ..] = &self.header[..] else { return None };
        let whole = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_whole = self.header.len() == FirstFrame::HEADER && self.payload >= whole;
        (is_whole || kind != FirstFrame::SETTINGS).then_some(kind)
    }
}

impl MonitoredStream {
    /// The stream, and a receiver of the type of the server's first frame.
    pub(crate) fn new(
        stream: Box<dyn Duplex>,
        silence_timer: Arc<SilenceTimer>,
    ) -> (MonitoredStream, oneshot::Receiver<u8>) {
        let (arrived, first) = oneshot::channel();
        let frame = FirstFrame { header: Vec::new(), payload: 0, arrived };
        (MonitoredStream { stream, silence_timer, first: Some(frame) }, first)
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.silence_timer.set(|asked| *asked = None);
        if let Some(kind) = self.first.as_mut().and_then(|first| first.read(bytes))
            && let Some(first) = self.first.take()
        {
            // The receiver may be gone, if the time limit of the connection attempt has passed.
            _ = first.arrived.send(kind);
        }
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(bytes) = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            self.hear(bytes);
        }
        read
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
