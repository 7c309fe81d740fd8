//! Metrics of calls: started, messages received and sent, handled.
//!
//! Source: go-grpc-prometheus (calls), etcd server/etcdserver/api/v3rpc/codec.go (bytes).

use crate::host::Host;
use crate::session::Session;
use http::HeaderValue;
use http::request::Parts;
use rpc::body::Reply;
use rpc::{Code, Status};
use server::metrics::grpc::{Kind, Method};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The metrics of a call that has begun. Dropping them counts the call as handled: with the code
/// given to [`CallMetrics::answered`], else as cancelled by its client, or as an internal error if
/// its handler panicked.
pub(crate) enum CallMetrics {
    /// One request, one response.
    Unary(UnaryMetrics),
    /// The requests or the responses are a stream.
    Streamed(Rc<StreamMetrics>),
}

/// The metrics of a unary call.
pub(crate) struct UnaryMetrics {
    method: Arc<Method>,
    begun: Instant,
    code: Cell<Code>,
}

impl Drop for UnaryMetrics {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { Code::Internal } else { self.code.get() };
        self.method.handled(code as u32, self.begun.elapsed().as_secs_f64());
    }
}

impl CallMetrics {
    pub(crate) fn begin<H: Host>(host: &H, path: &str) -> Option<CallMetrics> {
        let method = host.counters(path)?;
        method.started.inc();
        let begun = Instant::now();
        let code = Cell::new(Code::Cancelled);
        Some(match method.kind() {
            Kind::Unary => CallMetrics::Unary(UnaryMetrics { method, begun, code }),
            Kind::ServerStream | Kind::BidiStream => {
                CallMetrics::Streamed(Rc::new(StreamMetrics { method, begun, code }))
            }
        })
    }

    pub(crate) fn streamed(&self) -> Option<Rc<StreamMetrics>> {
        match self {
            CallMetrics::Unary(_) => None,
            CallMetrics::Streamed(streamed) => Some(Rc::clone(streamed)),
        }
    }

    /// Records the result of the handler. A stream that was not refused is counted later, at its
    /// end. A unary call that took longer than `slow` is logged.
    pub(crate) fn answered(&self, replied: &Result<Reply, Status>, slow: Duration) {
        let code = replied.as_ref().map_or_else(|status| status.code, |_| Code::Ok);
        match self {
            CallMetrics::Unary(call) => {
                call.method.received.inc();
                if code == Code::Ok {
                    call.method.sent.inc();
                }
                call.code.set(code);
                let took = call.begun.elapsed();
                if took > slow {
                    let path = call.method.path();
                    tracing::warn!("time spent" = ?took, "response type" = path, "request stats");
                }
            }
            CallMetrics::Streamed(streamed) => {
                if code != Code::Ok {
                    streamed.code.set(code);
                }
            }
        }
    }
}

/// Counts a call by its kind and the version that its client gives. Calls of methods that do not
/// exist, and versions that are refused since they are not UTF-8, are not counted.
///
/// Source: etcd v3.7 server/etcdserver/api/v3rpc/interceptor.go.
pub(crate) fn count_client<H: Host>(host: &H, head: &Parts, metrics: Option<&CallMetrics>) {
    let path = head.uri.path();
    let kind = match metrics {
        Some(CallMetrics::Unary(_)) => "unary",
        Some(CallMetrics::Streamed(_)) => "stream",
        // Locks and elections have no other metrics.
        None if path == "/v3electionpb.Election/Observe" => "stream",
        None if path.starts_with("/v3electionpb.Election/") => "unary",
        None if path.starts_with("/v3lockpb.Lock/") => "unary",
        None => return,
    };
    let version = head.headers.get("client-api-version");
    let version = version.map_or(&b"unknown"[..], HeaderValue::as_bytes);
    if std::str::from_utf8(version).is_ok() {
        host.count_client(kind, version);
    }
}

/// The metrics of a stream. When the last holder drops them, the stream is counted as handled: with
/// the code given to [`StreamCounters::end`], else as cancelled by its client, or as an internal
/// error if one of its tasks panicked.
pub(crate) struct StreamMetrics {
    method: Arc<Method>,
    begun: Instant,
    code: Cell<Code>,
}

impl Drop for StreamMetrics {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { Code::Internal } else { self.code.get() };
        self.method.handled(code as u32, self.begun.elapsed().as_secs_f64());
    }
}

/// The counters of a streaming call, for its handler.
pub(crate) struct StreamCounters<H> {
    pub(crate) service: Session<H>,
    streamed: Option<Rc<StreamMetrics>>,
}

impl<H: Clone> Clone for StreamCounters<H> {
    fn clone(&self) -> StreamCounters<H> {
        StreamCounters { service: self.service.clone(), streamed: self.streamed.clone() }
    }
}

impl<H: Host> StreamCounters<H> {
    pub(crate) fn new(
        service: Session<H>,
        streamed: Option<Rc<StreamMetrics>>,
    ) -> StreamCounters<H> {
        StreamCounters { service, streamed }
    }

    /// Counts a received message of this length.
    pub(crate) fn received(&self, bytes: usize) {
        self.service.host.count_received(bytes);
        if let Some(streamed) = &self.streamed {
            streamed.method.received.inc();
        }
    }

    /// Counts sent messages and their total length.
    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        self.service.host.count_sent(bytes);
        if let Some(streamed) = &self.streamed {
            streamed.method.sent.inc_by(messages as u64);
        }
    }

    /// Sets the code that is counted when the last holder drops the call.
    pub(crate) fn end(&self, code: Code) {
        if let Some(streamed) = &self.streamed {
            streamed.code.set(code);
        }
        if let Some(span) = self.service.span() {
            span.end(code, "");
        }
    }
}
