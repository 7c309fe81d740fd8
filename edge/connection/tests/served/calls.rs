//! Calls: unary, streams, resets, unread bodies, windows.

use crate::world::{
    collect, frame, h2_client, head, opening, post, read_frame, read_until, request, run, serve,
    serve_on, settings, settle, write,
};
use bytes::Bytes;
use h2::Reason;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[test]
fn a_unary_call_gets_head_message_and_trailers() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        for text in ["abc", "", "defg"] {
            let (response, mut body) = send.send_request(post("/unary"), false).unwrap();
            body.send_data(text.into(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let (data, trailers) = collect(response).await.unwrap();
            let len = u8::try_from(text.len()).unwrap();
            assert_eq!(data, [&[0, 0, 0, 0, len], text.as_bytes()].concat());
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
    });
}

#[test]
fn a_call_that_fails_gets_its_status_in_head_or_trailers() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let (response, _) = send.send_request(post("/refuse"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "3");
        assert!(response.body().is_end_stream());
        let (response, _) = send.send_request(post("/fail"), true).unwrap();
        let (data, trailers) = collect(response.await.unwrap()).await.unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((data.len(), &trailers["grpc-status"]), (0, &"5".parse().unwrap()));
        assert_eq!(trailers["grpc-message"], "it is not there");
    });
}

/// A pipe that counts the writes of the server.
struct CountedWrites(DuplexStream, Rc<Cell<usize>>);

impl AsyncRead for CountedWrites {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedWrites {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn all_answers_that_are_ready_go_out_in_one_write() {
    run(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let writes = Rc::new(Cell::new(0));
        let served = serve_on(CountedWrites(server, Rc::clone(&writes)), settings()).await;
        write(&mut client, &opening()).await;
        settle().await;
        writes.set(0);
        let calls: Vec<u8> = (0..50).flat_map(|at| request(2 * at + 1, "/unary", b"abc")).collect();
        write(&mut client, &calls).await;
        for _ in 0..50 {
            let trailers = loop {
                let frame = read_until(&mut client, 1).await;
                if frame.1 & 1 != 0 {
                    break frame;
                }
            };
            assert_eq!(trailers.0, 1);
        }
        assert_eq!(writes.get(), 1, "50 unary calls");

        // Events for many streams at once.
        let streams: Vec<u8> = (0..50).flat_map(|at| request(2 * at + 101, "/fed", b"")).collect();
        write(&mut client, &streams).await;
        settle().await;
        writes.set(0);
        for feeder in &*served.seen.feeders.borrow() {
            feeder.pieces([Bytes::from_static(b"event")]);
        }
        for _ in 0..50 {
            assert_eq!(read_until(&mut client, 0).await.3, b"event");
        }
        assert_eq!(writes.get(), 1, "an event for 50 streams");
    });
}

#[test]
fn a_stream_goes_both_ways_and_ends_with_its_client() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let (response, mut body) = send.send_request(post("/echo"), false).unwrap();
        let mut answers = response.await.unwrap().into_body();
        for text in ["one", "two", "three"] {
            body.send_data(text.into(), false).unwrap();
            assert_eq!(answers.data().await.unwrap().unwrap(), text);
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-end", "1".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert!(answers.data().await.is_none());
        assert_eq!(answers.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

/// More than the window of the stream and that of the connection.
#[test]
fn data_that_is_read_gives_its_window_back() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        for path in ["/unary", "/echo"] {
            let (response, mut body) = send.send_request(post(path), false).unwrap();
            let len = 9 << 20;
            let upload = async {
                body.send_data(vec![7; len].into(), true).unwrap();
            };
            let read = async { collect(response.await.unwrap()).await.unwrap().0.len() };
            let ((), read) = tokio::join!(upload, read);
            assert!(read >= len, "{path}: {read}");
        }
    });
}

#[test]
fn a_reset_drops_the_handler_and_the_connection_goes_on() {
    run(async {
        let (io, served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let (response, body) = send.send_request(post("/wait"), false).unwrap();
        settle().await;
        assert_eq!(served.seen.log(), [""; 0]);
        drop((response, body));
        settle().await;
        assert_eq!(served.seen.log(), ["handler dropped"]);
        let (response, _) = send.send_request(post("/unary"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_reset_ends_the_body_and_the_response_that_a_task_holds() {
    run(async {
        let (io, served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let (response, mut body) = send.send_request(post("/echo"), false).unwrap();
        let _answers = response.await.unwrap();
        let (fed, fed_body) = send.send_request(post("/fed"), false).unwrap();
        let fed = fed.await.unwrap();
        body.send_reset(Reason::CANCEL);
        drop((fed, fed_body));
        settle().await;
        assert_eq!(served.seen.log(), ["the stream was reset: CANCEL"]);
        assert!(served.seen.feeders.borrow()[0].is_over());
    });
}

#[test]
fn the_end_of_the_connection_ends_its_calls() {
    run(async {
        let (io, served) = serve(settings()).await;
        let (mut send, connection) = h2_client(io).await;
        let (_waiting, _body) = send.send_request(post("/wait"), false).unwrap();
        let (response, _echo) = send.send_request(post("/echo"), false).unwrap();
        let _answers = response.await.unwrap();
        connection.abort();
        settle().await;
        let mut log = served.seen.log();
        log.sort();
        assert_eq!(log, ["handler dropped", "the call or its connection is over"]);
        assert!(served.ended.await.unwrap().is_err());
    });
}

#[test]
fn a_client_that_is_answered_before_it_has_sent_all_is_told_to_stop_without_error() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let (response, mut body) = send.send_request(post("/refuse"), false).unwrap();
        body.send_data("abc".into(), false).unwrap();
        assert_eq!(response.await.unwrap().headers()["grpc-status"], "3");
        let reason = poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR);
    });
}

/// The streams hold 5 MiB of unread data, and the window of the connection is 4 MiB.
#[test]
fn bodies_that_nobody_reads_leave_the_connections_window_to_others() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            let (response, mut body) = send.send_request(post("/fed"), false).unwrap();
            let response = response.await.unwrap();
            body.send_data(vec![0; 3 << 20].into(), false).unwrap();
            settle().await;
            streams.push((response, body));
        }
        let (response, mut body) = send.send_request(post("/unary"), false).unwrap();
        body.send_data(vec![1; 1 << 20].into(), true).unwrap();
        let (data, _) = collect(response.await.unwrap()).await.unwrap();
        assert_eq!(data.len(), (1 << 20) + 5);
    });
}

#[test]
fn a_panic_ends_its_stream_only() {
    run(async {
        let (io, served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let panics = net::tasks::panics();
        let (response, _) = send.send_request(post("/panic"), true).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
        assert!(net::tasks::panics() > panics);
        let (response, _) = send.send_request(post("/unary"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        assert!(!served.ended.is_finished());
    });
}

#[test]
fn a_window_of_0_holds_data_back_and_neither_head_nor_end() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
        write(&mut io, &[http2::PREFACE, &no_window].concat()).await;
        write(&mut io, &request(1, "/fail", b"")).await;
        let (.., payload) = read_until(&mut io, 1).await;
        assert!(payload.ends_with(b"application/grpc"));
        let (_, flags, stream, _) = read_frame(&mut io).await;
        assert_eq!((flags, stream), (5, 1), "the trailers");

        write(&mut io, &request(3, "/unary", b"abcd")).await;
        let (_, flags, stream, _) = read_frame(&mut io).await;
        assert_eq!((flags, stream), (4, 3), "the head");
        write(&mut io, &frame(8, 0, 3, &[0, 0, 0, 4])).await;
        assert_eq!(read_frame(&mut io).await, (0, 0, 3, vec![0, 0, 0, 0]));
        write(&mut io, &frame(8, 0, 3, &[0, 0, 0, 5])).await;
        assert_eq!(read_frame(&mut io).await, (0, 0, 3, b"\x04abcd".to_vec()));
        let (_, flags, stream, _) = read_frame(&mut io).await;
        assert_eq!((flags, stream), (5, 3), "the trailers need no window");
    });
}

#[test]
fn thousands_of_streams_are_served_at_once() {
    run(async {
        let (io, served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        let mut responses = Vec::new();
        for _ in 0..3_000 {
            let (response, body) = send.send_request(post("/echo"), false).unwrap();
            responses.push((response, body));
        }
        settle().await;
        assert_eq!(served.seats.taken(), 1);
        for (at, (response, mut body)) in responses.into_iter().enumerate() {
            let text = at.to_string();
            body.send_data(text.clone().into(), true).unwrap();
            let (data, trailers) = collect(response.await.unwrap()).await.unwrap();
            assert_eq!(data, text.as_bytes());
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
        assert!(!served.ended.is_finished());
    });
}

#[test]
fn an_answer_to_head_has_the_length_and_no_content() {
    run(async {
        let (io, _served) = serve(settings()).await;
        let (mut send, _) = h2_client(io).await;
        for (method, content) in [("GET", &b"GET /plain 0"[..]), ("HEAD", b"")] {
            let request = http::Request::builder().method(method).uri("http://x/plain");
            let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            let len = format!("{method} /plain 0").len();
            assert_eq!(response.headers()["content-length"], len.to_string());
            assert_eq!(collect(response).await.unwrap().0, content);
        }
    });
}

/// Old clients of etcd send such authorities; h2 would refuse them.
#[test]
fn any_authority_is_accepted_and_becomes_the_host() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        write(&mut io, &opening()).await;
        for (at, authority) in [
            &b"127.0.0.1:2379"[..],
            b"http://127.0.0.1:2379",
            b"#initially=[127.0.0.1:2379;127.0.0.1:22379]",
            b"/tmp/etcd.sock:0",
            b"%2Ftmp%2Fetcd.sock",
            b"\xff\xfe a\tb",
            b"none",
        ]
        .into_iter()
        .enumerate()
        {
            let stream = 2 * u32::try_from(at).unwrap() + 1;
            write(&mut io, &head(stream, "/host", authority)).await;
            write(&mut io, &frame(0, 1, stream, &[])).await;
            assert_eq!(read_until(&mut io, 0).await.3, authority);
            assert_eq!(read_frame(&mut io).await, (0, 1, stream, vec![]), "the end");
        }
        write(&mut io, &head(101, "/host", b"")).await;
        assert_eq!(read_until(&mut io, 0).await.3, b"none", "an empty one is none");
    });
}

#[test]
fn a_path_that_is_none_ends_its_stream_only() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        write(&mut io, &opening()).await;
        write(&mut io, &request(1, "unary", b"")).await;
        assert_eq!(read_until(&mut io, 3).await, (3, 0, 1, vec![0, 0, 0, 1]));
        write(&mut io, &request(3, "/unary", b"")).await;
        assert_eq!(read_until(&mut io, 1).await.2, 3);
    });
}
