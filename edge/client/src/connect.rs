//! One HTTP/2 connection to one endpoint, as a service for tonic.

use crate::endpoint::Endpoint;
use crate::transport::{FirstFrame, MonitoredStream, Network, SilenceTimer, Transport, step};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

/// The settings of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    /// How long to wait for the connection, up to the server's SETTINGS.
    pub(crate) timeout: Duration,
    /// A ping is sent after this long without traffic; `None` for no pings.
    pub(crate) keep_alive_time: Option<Duration>,
    /// Whether pings are also sent while there is no call.
    pub(crate) pings_without_calls: bool,
    /// The connection is closed when a ping is not answered for this long.
    pub(crate) keep_alive_timeout: Duration,
}

/// A connection whose server has sent its SETTINGS; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    silence_timer: Arc<SilenceTimer>,
    /// The server, as grpc-go prints a peer.
    pub(crate) peer: String,
    /// The start of every request's URI.
    pub(crate) origin: http::Uri,
}

/// Ends a connection's task unless the connection is established.
struct Unfinished(Option<JoinHandle<hyper::Result<()>>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Connection {
    /// Connects, and waits for the server's SETTINGS: a server that accepts the connection and
    /// sends nothing does not count as connected.
    ///
    /// # Errors
    /// grpc-go's message.
    pub(crate) async fn open(
        network: &dyn Network,
        endpoint: &Endpoint,
        dial: Dial,
    ) -> Result<Connection, String> {
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", endpoint.authority)
            .parse()
            .map_err(|_| dial_error(&format!("dial tcp: address {}: bad", endpoint.authority)))?;
        let end = tokio::time::Instant::now() + dial.timeout;
        let mut transport = match tokio::time::timeout_at(end, network.open(endpoint)).await {
            Ok(opened) => opened.map_err(|why| dial_error(&why))?,
            Err(_) => return Err(dial_error(&format!("{}: i/o timeout", step(endpoint)))),
        };
        if let Some(tls) = &endpoint.tls {
            let secured =
                tokio::time::timeout_at(end, tls.connect(transport.stream, endpoint.host()));
            let secured =
                secured.await.map_err(|_| handshake_error("context deadline exceeded"))?;
            let stream = secured.map_err(|error| handshake_error(&error.to_string()))?;
            let peer = transport.peer.replace("'insecure'", "'tls'");
            transport = Transport { stream: Box::new(stream), peer };
        }
        let greeting = Connection::over(transport, dial, origin);
        match tokio::time::timeout_at(end, greeting).await {
            Ok(connected) => connected,
            Err(_) => Err(preface_error("context deadline exceeded")),
        }
    }

    async fn over(
        transport: Transport,
        dial: Dial,
        origin: http::Uri,
    ) -> Result<Connection, String> {
        // 4 MiB for a stream, so that a large range is not sent in small steps.
        const STREAM_WINDOW: u32 = 4 << 20;
        let silence_timer = Arc::new(SilenceTimer::default());
        let (stream, first) = MonitoredStream::new(transport.stream, Arc::clone(&silence_timer));
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(dial.keep_alive_time)
            .keep_alive_while_idle(dial.pings_without_calls)
            .keep_alive_timeout(dial.keep_alive_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(2 * STREAM_WINDOW)
            .handshake(TokioIo::new(stream));
        let (sender, connection) =
            handshake.await.map_err(|error| dial_error(&error.to_string()))?;
        // The task ends with the connection; calls in flight then get an error from hyper.
        let mut task = Unfinished(Some(tokio::spawn(connection)));
        match first.await {
            Ok(FirstFrame::SETTINGS) => {}
            Ok(_) => {
                let text = "initial http2 frame from server is not a settings frame";
                return Err(format!("connection error: desc = \"{text}\""));
            }
            // The task has ended, and the stream with it.
            Err(_) => return Err(preface_error("EOF")),
        }
        task.0 = None;
        Ok(Connection { sender, silence_timer, peer: transport.peer, origin })
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// The timer that measures how long the server has been silent.
    pub(crate) fn silence_timer(&self) -> &SilenceTimer {
        &self.silence_timer
    }

    /// Whether both are the same connection.
    pub(crate) fn is(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.silence_timer, &other.silence_timer)
    }
}

/// grpc-go's text for an unknown peer.
pub(crate) const NO_PEER: &str = "Peer{Addr: <nil>, LocalAddr: <nil>, AuthInfo: <nil>}";

fn dial_error(what: &str) -> String {
    format!("connection error: desc = \"transport: Error while dialing: {what}\"")
}

fn handshake_error(why: &str) -> String {
    format!("connection error: desc = \"transport: authentication handshake failed: {why}\"")
}

fn preface_error(why: &str) -> String {
    format!("connection error: desc = \"error reading server preface: {why}\"")
}

type Answer = http::Response<Body>;

impl Service<http::Request<Body>> for Connection {
    type Response = Answer;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.sender.poll_ready(context).map_err(|error| unprocessed(broken(&error)))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.silence_timer.asked();
        let answer = self.sender.try_send_request(request);
        Box::pin(async move {
            let (parts, body) = match answer.await {
                Ok(answer) => answer.into_parts(),
                Err(mut failed) => {
                    let is_unprocessed =
                        failed.take_message().is_some() || was_refused(failed.error());
                    let status = broken(&failed.into_error());
                    return Err(if is_unprocessed { unprocessed(status) } else { status });
                }
            };
            let body = body.map_err(|error| broken(&error));
            Ok(http::Response::from_parts(parts, Body::new(body)))
        })
    }
}

/// Marks the status of a request that no server has processed.
#[derive(Debug)]
struct Unprocessed;

impl fmt::Display for Unprocessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not processed")
    }
}

impl Error for Unprocessed {}

fn unprocessed(mut status: Status) -> Status {
    status.set_source(Arc::new(Unprocessed));
    status
}

/// Whether it is certain that no server has processed the request: it was not sent, or the server
/// has refused its stream. Then even a write may be sent again.
pub(crate) fn is_unprocessed(status: &Status) -> bool {
    status.source().is_some_and(<dyn Error>::is::<Unprocessed>)
}

/// Whether the server has refused the stream (RFC 9113 §8.7), or said with GOAWAY that it ignores
/// it: h2 gives the server's GOAWAY as the error of exactly those streams that are above its last
/// id.
fn was_refused(error: &hyper::Error) -> bool {
    error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()).is_some_and(|cause| {
        let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        cause.is_remote() && (refused || cause.is_go_away())
    })
}

/// The status of a broken stream or connection. A stream that the server has reset has the status
/// of the reason; anything else is Unavailable, so that the request may be retried elsewhere.
fn broken(error: &hyper::Error) -> Status {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if let Some(reason) = cause.downcast_ref::<h2::Error>().and_then(reset_reason) {
        let text = format!("stream terminated by RST_STREAM with error code: {reason:?}");
        return Status::new(code_of(reason), text);
    }
    let text = cause.to_string();
    let text = if text.contains("connection closed") || text.contains("broken pipe") {
        "EOF".to_string()
    } else {
        text
    };
    Status::unavailable(format!("error reading from server: {text}"))
}

/// The reason with which the server has reset the stream.
fn reset_reason(error: &h2::Error) -> Option<h2::Reason> {
    error.reason().filter(|_| error.is_reset() && error.is_remote())
}

/// The code of a reset stream. Source: grpc-go internal/transport/http_util.go @ v1.82
/// `http2ErrConvTab`.
fn code_of(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM | h2::Reason::FLOW_CONTROL_ERROR => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}
