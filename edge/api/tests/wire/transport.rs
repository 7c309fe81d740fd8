//! What no client of gRPC sends, over bare HTTP/2: malformed calls get grpc-go's answers, and the
//! server lives on.

use crate::fake::{Fake, Inner, PANIC, RawBody, bare, raw, serve};
use api::Limits;
use prost::Message as _;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use rpc::frame::prefix;
use server::metrics::Metrics;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const RANGE: &str = "/etcdserverpb.KV/Range";

fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(message.len())[..], message].concat()
}

fn request() -> Vec<u8> {
    RangeRequest { key: "a".into(), ..RangeRequest::default() }.encode_to_vec()
}

/// A path, further headers, a body, and the answer: HTTP status, gRPC code and message.
type Case = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>, u16, i32, &'static str);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn malformed_calls_are_answered_as_grpc_go_answers_them() {
    let limits = Limits { request_bytes_max: 1_000, ..Limits::default() };
    serve(&Fake::default(), limits, |address| async move {
        let mut send = bare(address).await;
        let good = framed(&request());
        let too_long = {
            let mut bytes = prefix(1_000 + 512 * 1024 + 1).to_vec();
            bytes.extend_from_slice(&[0; 100]);
            bytes
        };
        let cases: Vec<Case> = vec![
            (RANGE, vec![], good.clone(), 200, 0, ""),
            (
                "/etcdserverpb.KV/Nope",
                vec![],
                good.clone(),
                200,
                12,
                "unknown method Nope for service etcdserverpb.KV",
            ),
            ("/foo.Bar/Nope", vec![], good.clone(), 200, 12, "unknown service foo.Bar"),
            ("/nothing", vec![], good.clone(), 200, 12, "malformed method name: \"/nothing\""),
            (RANGE, vec![], vec![], 200, 2, "EOF"),
            (RANGE, vec![], good[..4].to_vec(), 200, 2, "unexpected EOF"),
            (RANGE, vec![], good[..6].to_vec(), 200, 2, "unexpected EOF"),
            (
                RANGE,
                vec![],
                too_long,
                200,
                8,
                "grpc: received message larger than max (525289 vs. 525288)",
            ),
            (
                RANGE,
                vec![],
                vec![1, 0, 0, 0, 0],
                200,
                13,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                RANGE,
                vec![("grpc-encoding", "snappy")],
                good.clone(),
                200,
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
            ),
            (
                RANGE,
                vec![],
                framed(&[0xff]),
                200,
                13,
                "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
            ),
            (
                RANGE,
                vec![(":method", "PUT")],
                good.clone(),
                405,
                13,
                "Received a HEADERS frame with :method \"PUT\" which should be POST",
            ),
            (
                RANGE,
                vec![("grpc-timeout", "x")],
                good.clone(),
                400,
                13,
                "malformed grpc-timeout: transport: timeout string is too short: \"x\"",
            ),
            (
                "/etcdserverpb.KV/RangeStream",
                vec![],
                vec![],
                200,
                13,
                "cardinality violation: received no request message from non-client-streaming RPC",
            ),
            (RANGE, vec![("client-api-version", "3.7")], good.clone(), 200, 0, ""),
            (RANGE, vec![("grpc-encoding", "gzip")], good.clone(), 200, 0, ""),
            (
                RANGE,
                vec![("grpc-encoding", "gzip")],
                vec![1, 0, 0, 0, 1, 7],
                200,
                13,
                "grpc: failed to decompress the received message: unexpected end of file",
            ),
        ];
        for (path, headers, body, http, code, words) in cases {
            let (status, grpc, message, _) = raw(&mut send, path, &headers, body).await;
            assert_eq!((status, grpc, &message[..]), (http, Some(code), words), "{path}");
        }
    });
}

#[test]
fn ada_etcd_22_metadata_that_is_not_utf8_is_refused() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut send = bare(address).await;
        let request = http::Request::post(format!("http://x{RANGE}"))
            .header("content-type", "application/grpc")
            .header("client-api-version", &b"3.\xff"[..])
            .body(RawBody::new(framed(&request()).into()))
            .unwrap();
        let response = send.send_request(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "3");
        assert_eq!(response.headers()["grpc-message"], "etcdserver: invalid client api version");
    });
}

#[test]
fn plain_http_reaches_its_handler_by_both_versions() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut send = bare(address).await;
        let headers = [("content-type", "text/plain")];
        let (status, grpc, _, body) = raw(&mut send, "/health", &headers, vec![]).await;
        assert_eq!((status, grpc, &body[..]), (200, None, &b"plain /health"[..]));

        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nplain /version"), "{answer}");
    });
}

/// Sends a request over HTTP/1.1, and returns the whole answer.
async fn answered(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Posts JSON to the gateway, and returns the whole answer.
async fn posted(address: std::net::SocketAddr, target: &str, headers: &str, json: &str) -> String {
    let request = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\
         connection: close\r\n\r\n{json}",
        json.len()
    );
    answered(address, &request).await
}

#[test]
fn a_path_adds_no_markup_to_the_page_of_its_redirection() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let request = "GET //v3/\"a'b?c&d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = answered(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 301 Moved Permanently"), "{answer}");
        let page = "<a href=\"/v3/&#34;a&#39;b?c&amp;d\">Moved Permanently</a>.\n\n";
        assert!(answer.ends_with(page), "{answer}");
    });
}

#[test]
fn a_stream_of_the_gateway_that_fails_at_once_answers_as_a_stream() {
    let fake = Fake::default();
    fake.0.learner.set(true);
    serve(&fake, Limits::default(), |address| async move {
        let text = "etcdserver: rpc not supported for learner";
        let stream = posted(address, "/v3/watch", "", "{}").await;
        let line = format!("{{\"error\":{{\"code\":9,\"message\":\"{text}\"}}}}");
        assert!(stream.starts_with("HTTP/1.1 400") && stream.contains(&line), "{stream}");
        let unary = posted(address, "/v3/kv/put", "", "{}").await;
        let object = format!("\r\n\r\n{{\"code\":9,\"message\":\"{text}\"}}");
        assert!(unary.contains(&object), "{unary}");
    });
}

#[test]
fn a_bad_timeout_of_the_gateway_is_named_as_it_came() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let answer = posted(address, "/v3/kv/range", "grpc-timeout: bad\r\n", "{}").await;
        let object = "{\"code\":3,\"message\":\"invalid grpc-timeout: bad\"}";
        assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with(object), "{answer}");
    });
}

#[test]
fn unclean_paths_are_redirected_and_an_escaped_slash_is_one() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        for (path, location) in [
            ("/v3", "/v3/"),
            ("//v3/kv/range", "/v3/kv/range"),
            ("/v3/kv/../kv/range?a=b", "/v3/kv/range?a=b"),
        ] {
            let answer = posted(address, path, "", "{}").await;
            assert!(answer.starts_with("HTTP/1.1 301 Moved Permanently"), "{answer}");
            assert!(answer.contains(&format!("\r\nlocation: {location}\r\n")), "{answer}");
        }
        let answer = posted(address, "/v3/kv%2Frange", "", "{\"key\":\"aw==\"}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    });
}

/// A client that never ends its side still gets the answer to its one message.
#[test]
fn an_answer_does_not_wait_for_the_client_to_half_close() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let head = http::Request::post(format!("http://x{RANGE}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (response, mut body) = send.send_request(head, false).unwrap();
        body.send_data(framed(&request()).into(), false).unwrap();
        let mut data = response.await.unwrap().into_body();
        while let Some(piece) = data.data().await {
            piece.unwrap();
        }
        let trailers = data.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    });
}

/// By hand, so that it is the server that notices.
#[test]
fn calls_and_streams_end_at_their_deadline() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut send = bare(address).await;
        let slow = RangeRequest { key: "slow".into(), ..RangeRequest::default() };
        let headers = [("grpc-timeout", "30m")];
        let (_, grpc, message, _) =
            raw(&mut send, RANGE, &headers, framed(&slow.encode_to_vec())).await;
        assert_eq!((grpc, &message[..]), (Some(4), "context deadline exceeded"));
        let (_, grpc, message, _) =
            raw(&mut send, "/etcdserverpb.Watch/Watch", &headers, vec![]).await;
        assert_eq!((grpc, &message[..]), (Some(4), "context deadline exceeded"));
    });
}

/// The number that a row of the metrics' text ends with.
fn row(metrics: &Metrics, name: &str) -> String {
    let text = String::from_utf8(metrics.text()).unwrap();
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    row.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[test]
fn calls_that_panic_or_are_cancelled_are_counted_as_ended() {
    let inner = Inner { metrics: Some(Metrics::new(false)), ..Inner::default() };
    let fake = Fake(Rc::new(inner));
    let member = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        const RANGE: &str =
            r#"grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        let metrics = member.0.metrics.as_ref().unwrap();
        let call = |key: &'static str| {
            let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
            http::Request::post("http://x/etcdserverpb.KV/Range")
                .header("content-type", "application/grpc")
                .body(RawBody::new(framed(&request.encode_to_vec()).into()))
                .unwrap()
        };
        let mut send = bare(address).await;
        assert!(send.send_request(call("panic")).await.is_err(), "the stream is reset");
        let handled = format!(r#"grpc_server_handled_total{{grpc_code="Internal",{RANGE}}}"#);
        assert_eq!(row(metrics, &handled), "1");

        let slow = send.send_request(call("slow"));
        assert!(tokio::time::timeout(Duration::from_millis(20), slow).await.is_err());
        let handled = format!(r#"grpc_server_handled_total{{grpc_code="Canceled",{RANGE}}}"#);
        while row(metrics, &handled) != "1" {
            tokio::task::yield_now().await;
        }
        assert_eq!(row(metrics, &format!("grpc_server_started_total{{{RANGE}}}")), "2");
        // The connection goes on.
        send.send_request(call("a")).await.unwrap();
    });
}

/// With h2's own default of 16 KiB, 60 kB of headers ended the connection.
#[test]
fn many_headers_are_read_and_too_many_end_their_stream_only() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut send = bare(address).await;
        let body = framed(&request());
        let ask = |value_len: usize| {
            let mut request = http::Request::post(format!("http://x{RANGE}"))
                .header("content-type", "application/grpc");
            for at in 0..60 {
                request = request.header(format!("h{at}"), "v".repeat(value_len));
            }
            request.body(RawBody::new(body.clone().into())).unwrap()
        };
        let response = send.send_request(ask(1_000)).await.unwrap();
        assert_eq!(response.status(), 200);
        let response = send.send_request(ask(6_000)).await;
        assert_eq!(response.unwrap().status(), 431);
        let (_, grpc, _, _) = raw(&mut send, RANGE, &[], framed(&request())).await;
        assert_eq!(grpc, Some(0), "the connection goes on");
    });
}

#[test]
fn a_stream_whose_handler_panics_is_counted_as_ended() {
    let inner = Inner { metrics: Some(Metrics::new(false)), ..Inner::default() };
    let fake = Fake(Rc::new(inner));
    let member = fake.clone();
    serve(&fake, Limits::default(), |address| async move {
        const CALL: &str = r#"grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream""#;
        let mut send = bare(address).await;
        let renew = proto::etcdserverpb::LeaseKeepAliveRequest { id: PANIC };
        let body = framed(&renew.encode_to_vec());
        let (_, code, _, _) = raw(&mut send, "/etcdserverpb.Lease/LeaseKeepAlive", &[], body).await;
        assert_eq!(code, Some(1), "the client is told that the stream has ended");
        let metrics = member.0.metrics.as_ref().unwrap();
        let handled = format!(r#"grpc_server_handled_total{{grpc_code="Internal",{CALL}}}"#);
        assert_eq!(row(metrics, &handled), "1");
        assert_eq!(row(metrics, &format!("grpc_server_started_total{{{CALL}}}")), "1");
    });
}

/// Requests with bytes changed, cut and doubled: every one gets an answer, and none is missing.
#[test]
fn mutated_requests_never_stop_the_server() {
    serve(&Fake::default(), Limits::default(), |address| async move {
        let mut send = bare(address).await;
        let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let mut txn = proto::etcdserverpb::TxnRequest::default();
        for _ in 0..5 {
            let op = proto::etcdserverpb::RequestOp {
                request: Some(proto::etcdserverpb::request_op::Request::RequestTxn(txn)),
            };
            txn = proto::etcdserverpb::TxnRequest { success: vec![op], ..Default::default() };
        }
        let seeds = [
            (RANGE, request()),
            ("/etcdserverpb.KV/Put", put.encode_to_vec()),
            ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
            ("/etcdserverpb.Lease/LeaseGrant", vec![0x08, 5, 0x10, 6]),
            ("/etcdserverpb.Watch/Watch", vec![0x12, 2, 0x08, 1]),
            ("/etcdserverpb.Lease/LeaseKeepAlive", vec![0x08, 7]),
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 1_000_003).unwrap() % limit.max(1)
        };
        for round in 0..2_000 {
            let (path, message) = &seeds[round % seeds.len()];
            let mut bytes = framed(message);
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, u8::try_from(below(256)).unwrap()),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let request = http::Request::post(format!("http://x{path}"))
                .header("content-type", "application/grpc")
                .header("grpc-timeout", "5m")
                .body(RawBody::new(bytes.into()))
                .unwrap();
            let response = send.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        }
        let (_, grpc, _, _) = raw(&mut send, RANGE, &[], framed(&request())).await;
        assert_eq!(grpc, Some(0));
    });
}

#[test]
fn streams_beyond_the_limit_wait_or_are_refused() {
    let limits = Limits { streams_max: 2, ..Limits::default() };
    serve(&Fake::default(), limits, |address| async move {
        let mut send = bare(address).await;
        let slow = RangeRequest { key: "slow".into(), ..RangeRequest::default() };
        let slow = framed(&slow.encode_to_vec());
        let call = |mut send: hyper::client::conn::http2::SendRequest<RawBody>| {
            let slow = slow.clone();
            async move { raw(&mut send, RANGE, &[("grpc-timeout", "150m")], slow).await }
        };
        raw(&mut send, RANGE, &[], framed(&request())).await;
        let begun = std::time::Instant::now();
        let (one, two, three) =
            tokio::join!(call(send.clone()), call(send.clone()), call(send.clone()));
        assert_eq!([one.1, two.1, three.1], [Some(4); 3]);
        assert!(begun.elapsed().as_millis() >= 300, "the third waited for a place");
    });
}
