//! A collector of traces in this process: it takes the messages of the exporter.

use super::otlp::{AnyKind, ExportRequest, ExportResponse, OtlpSpan, PartialSuccess};
use super::*;
use api::{SpanEvent, SpanKind};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::UNIX_EPOCH;

fn options(address: SocketAddr) -> Tracing {
    Tracing {
        address: address.to_string(),
        service: "etcd".to_owned(),
        instance: Some("one".to_owned()),
        per_million: 1_000_000,
    }
}

fn span(name: &'static str, kind: SpanKind) -> Span {
    let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
    Span {
        trace: [7; 16],
        id: [8; 8],
        parent: Some([9; 8]),
        trace_state: "a=b".to_owned(),
        kind,
        name: name.into(),
        time: (at(5), at(9)),
        attributes: vec![("key", "k".into()), ("rev", 3.into()), ("count_only", true.into())],
        events: vec![SpanEvent { name: "begun", at: at(6), attributes: Vec::new() }],
        error: Some("why".to_owned()),
    }
}

/// Accepts one connection and answers each message with this number of refused spans.
fn collector(rejected: i64) -> (SocketAddr, mpsc::Receiver<ExportRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (to, received) = mpsc::channel();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond, (rejected, to.clone())));
            }
        });
    });
    (address, received)
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    (rejected, to): (i64, mpsc::Sender<ExportRequest>),
) {
    assert_eq!(request.uri().path(), EXPORT);
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        message.put(piece);
    }
    to.send(ExportRequest::decode(&message[5..]).unwrap()).unwrap();
    let partial_success = Some(PartialSuccess { rejected_spans: rejected });
    let answer = ExportResponse { partial_success }.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(answer.len()).unwrap());
    framed.put_slice(&answer);
    let head = http::Response::builder().header("content-type", "application/grpc").body(());
    let mut stream = respond.send_response(head.unwrap(), false).unwrap();
    stream.send_data(framed.freeze(), false).unwrap();
    let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
    stream.send_trailers(trailers.into_iter().collect()).unwrap();
}

/// Passes a span to the exporter as a call does that has ended.
fn record(export: &TraceExport, span: Span) {
    export.queue.try_send(ToExporter::Span(Box::new(span))).unwrap();
}

#[test]
fn spans_reach_the_collector_with_their_scope_parent_times_and_attributes() {
    let (address, received) = collector(1);
    let metrics = Arc::new(Metrics::new(false));
    let export = TraceExport::start(&options(address), &metrics).unwrap();
    record(&export, span("put", SpanKind::Request));
    record(&export, span("etcdserverpb.KV/Put", SpanKind::Call { is_continued: true }));
    export.flush();
    let [spans] = &received.recv().unwrap().resource_spans[..] else { panic!("one resource") };
    let resource = spans.resource.clone().unwrap();
    let text = |key: &str| {
        let found = resource.attributes.iter().find(|attribute| attribute.key == key)?;
        found.value.clone()?.value
    };
    assert_eq!(text("service.name"), Some(AnyKind::Text("etcd".to_owned())));
    assert_eq!(text("service.instance.id"), Some(AnyKind::Text("one".to_owned())));
    let [calls, requests] = &spans.scope_spans[..] else { panic!("two scopes") };
    assert!(calls.scope.as_ref().unwrap().name.ends_with("/otelgrpc"));
    assert_eq!(requests.scope.as_ref().unwrap().name, "go.etcd.io/etcd");
    let ([call], [request]) = (&calls.spans[..], &requests.spans[..]) else { panic!("one each") };
    assert_eq!((&*call.name, call.kind, call.flags), ("etcdserverpb.KV/Put", 2, 0x301));
    assert_eq!((&*request.name, request.kind, request.flags), ("put", 1, 0x101));
    let OtlpSpan { trace_id, span_id, parent_span_id, .. } = request;
    assert_eq!((&trace_id[..], &span_id[..]), (&[7; 16][..], &[8; 8][..]));
    assert_eq!((&parent_span_id[..], &*request.trace_state), (&[9; 8][..], "a=b"));
    assert_eq!((request.start_time_unix_nano, request.end_time_unix_nano), (5, 9));
    let values: Vec<_> = request
        .attributes
        .iter()
        .map(|attribute| attribute.value.clone().unwrap().value.unwrap())
        .collect();
    let expected = [AnyKind::Text("k".to_owned()), AnyKind::Number(3), AnyKind::Flag(true)];
    assert_eq!(values, expected);
    assert_eq!((&*request.events[0].name, request.events[0].time_unix_nano), ("begun", 6));
    let status = request.status.clone().unwrap();
    assert_eq!((status.code, &*status.message), (2, "why"));
    assert_eq!((metrics.requests.traces.sent.get(), metrics.requests.traces.dropped.get()), (1, 1));
}

#[test]
fn without_a_collector_spans_are_dropped_and_counted() {
    // The port is free again when the listener is dropped.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let metrics = Arc::new(Metrics::new(false));
    let export = TraceExport::start(&options(address), &metrics).unwrap();
    record(&export, span("put", SpanKind::Request));
    export.flush();
    assert_eq!((metrics.requests.traces.sent.get(), metrics.requests.traces.dropped.get()), (0, 1));
}

/// A collector that accepts the connection and says nothing holds the exporter up, and nobody else.
#[test]
fn spans_beyond_the_queue_are_dropped_while_the_collector_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = Arc::new(Metrics::new(false));
    let export = TraceExport::start(&options(silent.local_addr().unwrap()), &metrics).unwrap();
    let tracer = export.tracer();
    let end = SPANS_MAX + 2 * BATCH_MAX;
    for _ in 0..end {
        tracer.pass_on(span("put", SpanKind::Request));
    }
    let dropped = metrics.requests.traces.dropped.get();
    assert!(dropped >= (end - SPANS_MAX - BATCH_MAX - 1) as u64, "{dropped}");
    assert_eq!(metrics.requests.traces.sent.get(), 0);
}
