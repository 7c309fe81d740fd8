//! Spans of calls, for a collector of traces: one for each call, and inside it one for the request that
//! the member carries out. Not here: sending them (`embed`).
//!
//! A client's own trace (`traceparent`) is continued and decides whether its calls are recorded;
//! other calls are recorded at the rate of `--distributed-tracing-sampling-rate`.
//!
//! Source: etcd server/embed/config_tracing.go, server/etcdserver/v3_server.go @ v3.7.1 (names and
//! attributes of requests); otelgrpc v0.68.0 (those of calls); W3C Trace Context, Level 1.

mod attributes;
mod context;

pub use attributes::{AttributeValue, SpanAttributes};
pub(crate) use attributes::{Described, StreamedRange};
use context::RemoteContext;

use http::request::Parts;
use rpc::{Code, Status};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

/// The rate at which every trace is recorded.
const MILLION: u32 = 1_000_000;

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A call; whether its parent is a span of the client.
    Call {
        /// The client has a trace.
        is_continued: bool,
    },
    /// A request that the member carries out for a call.
    Request,
}

/// Something that happened at one time within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// The name.
    pub name: &'static str,
    /// When it happened.
    pub at: SystemTime,
    /// Its details.
    pub attributes: SpanAttributes,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// The span within the trace.
    pub id: [u8; 8],
    /// The span around it.
    pub parent: Option<[u8; 8]>,
    /// The client's header `tracestate`.
    pub trace_state: String,
    /// What it is about.
    pub kind: SpanKind,
    /// The method without its first slash, or the kind of the request.
    pub name: Cow<'static, str>,
    /// The time from its begin to its end.
    pub time: (SystemTime, SystemTime),
    /// Its details.
    pub attributes: SpanAttributes,
    /// In order.
    pub events: Vec<SpanEvent>,
    /// Why the call has failed, if that is the server's fault.
    pub error: Option<String>,
}

/// Begins spans, and passes them on when they have ended.
#[derive(Clone)]
pub struct Tracer {
    /// A trace is recorded if the second half of its id, without its last bit, is below this number.
    recorded_below: u64,
    take: Arc<dyn Fn(Span) + Send + Sync>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

impl Tracer {
    /// A tracer that records this many of a million traces that begin here, and calls `take`, which
    /// must not wait, for each span.
    pub fn new(per_million: u32, take: impl Fn(Span) + Send + Sync + 'static) -> Tracer {
        let share = u128::from(per_million.min(MILLION)) * (1 << 63) / u128::from(MILLION);
        let recorded_below = u64::try_from(share).unwrap_or(u64::MAX);
        Tracer { recorded_below, take: Arc::new(take) }
    }

    /// Passes a span on that has ended.
    pub fn pass_on(&self, span: Span) {
        (self.take)(span);
    }

    /// Whether a trace that begins here is recorded. All members decide alike.
    fn records(&self, trace: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.recorded_below
    }
}

/// A span that has begun. It ends when it is dropped.
pub(crate) struct OpenSpan {
    tracer: Tracer,
    span: RefCell<Option<Span>>,
    /// The result of a call, once it is known.
    code: Cell<Option<Code>>,
}

impl OpenSpan {
    fn begin(tracer: &Tracer, span: Span) -> OpenSpan {
        let (tracer, span) = (tracer.clone(), RefCell::new(Some(span)));
        OpenSpan { tracer, span, code: Cell::new(None) }
    }

    /// The span of a call; `None` if its trace is not recorded.
    pub(crate) fn of_call(tracer: &Tracer, head: &Parts) -> Option<Rc<OpenSpan>> {
        let remote = RemoteContext::of(&head.headers);
        let trace = remote.as_ref().map_or_else(context::random, |remote| remote.trace);
        let is_recorded =
            remote.as_ref().map_or_else(|| tracer.records(trace), |it| it.is_recorded);
        if !is_recorded {
            return None;
        }
        let path = head.uri.path();
        let name = path.strip_prefix('/').unwrap_or(path).to_owned();
        let attributes =
            vec![("rpc.method", name.as_str().into()), ("rpc.system.name", "grpc".into())];
        let span = Span {
            trace,
            id: context::random(),
            parent: remote.as_ref().map(|remote| remote.span),
            kind: SpanKind::Call { is_continued: remote.is_some() },
            trace_state: remote.map(|remote| remote.state).unwrap_or_default(),
            name: name.into(),
            time: (SystemTime::now(), SystemTime::UNIX_EPOCH),
            attributes,
            events: Vec::new(),
            error: None,
        };
        Some(Rc::new(OpenSpan::begin(tracer, span)))
    }

    /// A span inside this one.
    fn inside(&self, name: &'static str, attributes: SpanAttributes) -> Option<OpenSpan> {
        let outer = self.span.borrow();
        let outer = outer.as_ref()?;
        let span = Span {
            trace: outer.trace,
            id: context::random(),
            parent: Some(outer.id),
            trace_state: outer.trace_state.clone(),
            kind: SpanKind::Request,
            name: name.into(),
            time: (SystemTime::now(), SystemTime::UNIX_EPOCH),
            attributes,
            events: Vec::new(),
            error: None,
        };
        Some(OpenSpan::begin(&self.tracer, span))
    }

    fn change(&self, change: impl FnOnce(&mut Span)) {
        if let Some(span) = self.span.borrow_mut().as_mut() {
            change(span);
        }
    }

    /// Sets the result of the call.
    pub(crate) fn end(&self, code: Code, message: &str) {
        self.code.set(Some(code));
        let error = is_of_server(code).then(|| message.to_owned());
        self.change(|span| span.error = error);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        if matches!(span.kind, SpanKind::Call { .. }) {
            // A call without a result was given up by its client.
            let code = self.code.get().unwrap_or(Code::Cancelled);
            span.attributes.push(("rpc.response.status_code", code_name(code).into()));
        }
        span.time.1 = SystemTime::now();
        self.tracer.pass_on(span);
    }
}

/// The span of a request, if its call is recorded.
#[derive(Default)]
pub(crate) struct RequestSpan(Option<Box<OpenSpan>>);

impl RequestSpan {
    /// The span of a request inside the call.
    pub(crate) fn begin(call: Option<&OpenSpan>, request: &impl Described) -> RequestSpan {
        let inside = call.and_then(|call| {
            let (name, attributes) = request.described();
            call.inside(name, attributes)
        });
        RequestSpan(inside.map(Box::new))
    }

    fn event(&self, name: &'static str, attributes: impl FnOnce() -> SpanAttributes) {
        if let Some(open) = &self.0 {
            let event = SpanEvent { name, at: SystemTime::now(), attributes: attributes() };
            open.change(|span| span.events.push(event));
        }
    }

    /// Whether the span is recorded.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The request is proposed.
    pub(crate) fn proposed(&self) {
        self.event("Send raft proposal", Vec::new);
    }

    /// It was applied, or has failed.
    pub(crate) fn answered<T>(&self, result: &Result<T, Status>) {
        match result {
            Ok(_) => self.event("Receive raft result", Vec::new),
            Err(status) => self.event("exception", || {
                vec![("exception.message", AttributeValue::Text(status.message.to_string()))]
            }),
        }
    }
}

/// Whether a code means that the server has failed, and not the client.
fn is_of_server(code: Code) -> bool {
    [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ]
    .contains(&code)
}

/// The name of a code in traces.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::PutRequest;
    use std::sync::Mutex;

    const PARENT: &str = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01";

    fn head(traceparent: Option<&str>) -> Parts {
        let mut request = http::Request::post("/etcdserverpb.KV/Put");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent).header("tracestate", "a=b");
        }
        request.body(()).unwrap().into_parts().0
    }

    fn tracer(per_million: u32) -> (Tracer, Arc<Mutex<Vec<Span>>>) {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&spans);
        (Tracer::new(per_million, move |span| taken.lock().unwrap().push(span)), spans)
    }

    #[test]
    fn a_recorded_trace_of_a_client_is_continued_at_any_rate_and_an_unrecorded_one_is_not() {
        let (tracer, spans) = tracer(0);
        let call = OpenSpan::of_call(&tracer, &head(Some(PARENT))).unwrap();
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let request = RequestSpan::begin(Some(&call), &put);
        request.proposed();
        request.answered(&Ok(()));
        drop(request);
        call.end(Code::Ok, "");
        drop(call);
        let spans = spans.lock().unwrap();
        let [request, call] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(call.trace, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(call.parent, Some([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]));
        assert_eq!((&*call.name, &*call.trace_state), ("etcdserverpb.KV/Put", "a=b"));
        assert_eq!(call.kind, SpanKind::Call { is_continued: true });
        assert_eq!(call.attributes.last(), Some(&("rpc.response.status_code", "OK".into())));
        assert_eq!((request.trace, request.parent), (call.trace, Some(call.id)));
        assert_eq!((&*request.name, &request.attributes[..]), ("put", &[("key", "k".into())][..]));
        let events: Vec<_> = request.events.iter().map(|event| event.name).collect();
        assert_eq!(events, ["Send raft proposal", "Receive raft result"]);
        let unrecorded = PARENT.replace("-01", "-00");
        let (always, _) = self::tracer(MILLION);
        assert!(OpenSpan::of_call(&always, &head(Some(&unrecorded))).is_none());
        assert!(OpenSpan::of_call(&tracer, &head(None)).is_none());
        assert!(OpenSpan::of_call(&always, &head(None)).is_some());
    }

    #[test]
    fn the_rate_decides_by_the_second_half_of_the_id() {
        let (tracer, _) = tracer(500_000);
        let with = |first: u8| [9, 9, 9, 9, 9, 9, 9, 9, first, 0, 0, 0, 0, 0, 0, 0];
        assert!(tracer.records(with(0x7f)));
        assert!(!tracer.records(with(0x80)));
        assert!(self::tracer(MILLION).0.records(with(0xff)));
        assert!(!self::tracer(0).0.records(with(0)));
    }

    #[test]
    fn a_call_that_fails_by_the_server_has_an_error_and_one_without_a_result_is_cancelled() {
        let (tracer, spans) = tracer(MILLION);
        for (code, error) in [(Code::Unavailable, Some("why")), (Code::InvalidArgument, None)] {
            OpenSpan::of_call(&tracer, &head(None)).unwrap().end(code, "why");
            assert_eq!(spans.lock().unwrap().pop().unwrap().error.as_deref(), error);
        }
        drop(OpenSpan::of_call(&tracer, &head(None)));
        let cancelled = spans.lock().unwrap().pop().unwrap();
        let code = ("rpc.response.status_code", "CANCELLED".into());
        assert_eq!(cancelled.attributes.last(), Some(&code));
    }
}
