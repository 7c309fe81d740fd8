//! The messages of OTLP, as far as they are used, and their content from spans.
//!
//! Source: opentelemetry/proto/{collector/trace/v1,trace/v1,common/v1,resource/v1} of
//! github.com/open-telemetry/opentelemetry-proto @ v1.9.0.

use api::{AttributeValue, Span, SpanAttributes, SpanKind};
use prost::{Message, Oneof};
use std::time::{SystemTime, UNIX_EPOCH};

/// The scopes under which etcd's libraries record spans of calls and of requests.
const SCOPE_OF_CALLS: &str =
    "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc";
const SCOPE_OF_REQUESTS: &str = "go.etcd.io/etcd";

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_SERVER`.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
/// The trace is recorded; the third number is set.
const IS_RECORDED: u32 = 0x001;
/// Whether the parent is in another process is known.
const KNOWS_PARENT: u32 = 0x100;
/// The parent is in another process.
const PARENT_IS_REMOTE: u32 = 0x200;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<OtlpResource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpResource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<OtlpAttribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<OtlpScope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpScope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<OtlpAttribute>,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<OtlpEvent>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<OtlpStatus>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpEvent {
    #[prost(fixed64, tag = "1")]
    pub(super) time_unix_nano: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) attributes: Vec<OtlpAttribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpStatus {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OtlpAttribute {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "AnyKind", tags = "1, 2, 3")]
    pub(super) value: Option<AnyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum AnyKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(name: &str, value: AttributeValue) -> OtlpAttribute {
    let kind = match value {
        AttributeValue::Text(text) => AnyKind::Text(text),
        AttributeValue::Flag(flag) => AnyKind::Flag(flag),
        AttributeValue::Number(number) => AnyKind::Number(number),
    };
    OtlpAttribute { key: name.to_owned(), value: Some(AnyValue { value: Some(kind) }) }
}

fn attributes(attributes: &SpanAttributes) -> Vec<OtlpAttribute> {
    attributes.iter().map(|(name, value)| attribute(name, value.clone())).collect()
}

/// What records the spans.
pub(super) fn resource(service: &str, instance: Option<&str>) -> OtlpResource {
    let service = attribute("service.name", service.into());
    let instance = instance.map(|id| attribute("service.instance.id", id.into()));
    OtlpResource { attributes: [Some(service), instance].into_iter().flatten().collect() }
}

/// The message with these spans.
pub(super) fn request(resource: &OtlpResource, spans: &[Span]) -> ExportRequest {
    let of_scope = |name: &str, is_of: fn(&SpanKind) -> bool| {
        let spans: Vec<OtlpSpan> =
            spans.iter().filter(|span| is_of(&span.kind)).map(encoded).collect();
        let scope = Some(OtlpScope { name: name.to_owned() });
        (!spans.is_empty()).then_some(ScopeSpans { scope, spans })
    };
    let calls = of_scope(SCOPE_OF_CALLS, |kind| matches!(kind, SpanKind::Call { .. }));
    let requests = of_scope(SCOPE_OF_REQUESTS, |kind| matches!(kind, SpanKind::Request));
    let scope_spans = [calls, requests].into_iter().flatten().collect();
    let resource = Some(resource.clone());
    ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
}

fn encoded(span: &Span) -> OtlpSpan {
    let (kind, parent) = match span.kind {
        SpanKind::Call { is_continued: true } => (SERVER, PARENT_IS_REMOTE),
        SpanKind::Call { is_continued: false } => (SERVER, 0),
        SpanKind::Request => (INTERNAL, 0),
    };
    let events = span.events.iter().map(|event| OtlpEvent {
        time_unix_nano: nanos(event.at),
        name: event.name.to_owned(),
        attributes: attributes(&event.attributes),
    });
    OtlpSpan {
        trace_id: span.trace.to_vec(),
        span_id: span.id.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: span.name.to_string(),
        kind,
        start_time_unix_nano: nanos(span.time.0),
        end_time_unix_nano: nanos(span.time.1),
        attributes: attributes(&span.attributes),
        events: events.collect(),
        status: span.error.clone().map(|message| OtlpStatus { message, code: ERROR }),
        flags: IS_RECORDED | KNOWS_PARENT | parent,
    }
}
