//! One HTTP/2 connection to one endpoint, as a service for tonic.

use crate::endpoint::{Address, Endpoint};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// The settings of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    /// How long to wait for the connection.
    pub(crate) timeout: Duration,
    /// A ping is sent after this long without traffic.
    pub(crate) keep_alive_time: Duration,
    /// The connection is given up when a ping is not answered for this long.
    pub(crate) keep_alive_timeout: Duration,
}

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    /// How grpc-go describes the other side.
    pub(crate) peer: String,
    /// The start of every request's URI.
    pub(crate) origin: http::Uri,
}

impl Connection {
    /// # Errors
    /// grpc-go's message.
    pub(crate) async fn open(endpoint: &Endpoint, dial: Dial) -> Result<Connection, String> {
        let origin = format!("http://{}", endpoint.authority)
            .parse()
            .map_err(|_| dial_error(&format!("dial tcp: address {}: bad", endpoint.authority)))?;
        match &endpoint.address {
            Address::Tcp(host) => {
                let name = format!("dial tcp {host}");
                let stream = within(dial, &name, TcpStream::connect(host)).await?;
                // Without it, a small request waits for the acknowledgement of the previous one.
                stream.set_nodelay(true).map_err(|error| io_error(&name, &error))?;
                let shown = |address: std::io::Result<std::net::SocketAddr>| {
                    address.map_or_else(|_| "<nil>".into(), |address| format!("'{address}'"))
                };
                let (remote, local) = (shown(stream.peer_addr()), shown(stream.local_addr()));
                let peer =
                    format!("Peer{{Addr: {remote}, LocalAddr: {local}, AuthInfo: 'insecure'}}");
                Connection::over(stream, dial, peer, origin).await
            }
            Address::Unix(path) => {
                let name = format!("dial unix {}", path.display());
                let stream = within(dial, &name, UnixStream::connect(path)).await?;
                let peer = format!(
                    "Peer{{Addr: '{}', LocalAddr: '@', AuthInfo: 'insecure'}}",
                    path.display()
                );
                Connection::over(stream, dial, peer, origin).await
            }
        }
    }

    async fn over<S>(
        stream: S,
        dial: Dial,
        peer: String,
        origin: http::Uri,
    ) -> Result<Connection, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // 4 MiB for a stream, so that a large range is not sent in small steps.
        const STREAM_WINDOW: u32 = 4 << 20;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(dial.keep_alive_time))
            .keep_alive_timeout(dial.keep_alive_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(2 * STREAM_WINDOW)
            .handshake(TokioIo::new(stream));
        let (sender, connection) =
            handshake.await.map_err(|error| dial_error(&error.to_string()))?;
        tokio::spawn(connection);
        Ok(Connection { sender, peer, origin })
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// grpc-go's text for a peer that there is no connection to.
pub(crate) const NO_PEER: &str = "Peer{Addr: <nil>, LocalAddr: <nil>, AuthInfo: <nil>}";

async fn within<T>(
    dial: Dial,
    name: &str,
    connecting: impl Future<Output = std::io::Result<T>>,
) -> Result<T, String> {
    match tokio::time::timeout(dial.timeout, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(io_error(name, &error)),
        Err(_) => Err(dial_error(&format!("{name}: i/o timeout"))),
    }
}

fn io_error(name: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    let step = if error.raw_os_error().is_some() { "connect: " } else { "" };
    dial_error(&format!("{name}: {step}{text}"))
}

fn dial_error(what: &str) -> String {
    format!("connection error: desc = \"transport: Error while dialing: {what}\"")
}

type Answer = http::Response<Body>;

impl Service<http::Request<Body>> for Connection {
    type Response = Answer;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.sender.poll_ready(context).map_err(|error| broken(&error))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.send_request(request);
        Box::pin(async move {
            let (parts, body) = answer.await.map_err(|error| broken(&error))?.into_parts();
            let body = body.map_err(|error| broken(&error));
            Ok(http::Response::from_parts(parts, Body::new(body)))
        })
    }
}

/// A broken connection is Unavailable, so that the request may be tried on another endpoint.
fn broken(error: &hyper::Error) -> Status {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    let text = if text.contains("connection closed") || text.contains("broken pipe") {
        "EOF".to_string()
    } else {
        text
    };
    Status::unavailable(format!("error reading from server: {text}"))
}
