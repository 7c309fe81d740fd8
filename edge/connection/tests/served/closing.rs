//! How connections end: when the server stops, when their seat is needed, by silence, and by
//! faults.

use crate::world::{
    collect, frame, h2_client, head, opening, post, read_until, request, run, serve, settings,
    settle, write,
};
use bytes::Bytes;
use connection::{Error, Settings};
use http2::Reason;
use rpc::Status;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

#[test]
fn a_stop_lets_running_calls_end_and_then_closes() {
    run(async {
        let (io, mut served) = serve(settings()).await;
        let (mut send, connection) = h2_client(io).await;
        let (response, mut upload) = send.send_request(post("/unary"), false).unwrap();
        let (fed, _) = send.send_request(post("/fed"), true).unwrap();
        let fed = fed.await.unwrap();
        served.stop.take().unwrap().send(()).unwrap();
        settle().await;
        assert!(send.send_request(post("/unary"), true).is_err(), "no further calls");
        assert!(!served.ended.is_finished());
        upload.send_data("abc".into(), true).unwrap();
        let (data, _) = collect(response.await.unwrap()).await.unwrap();
        assert_eq!(data, b"\0\0\0\0\x03abc");
        settle().await;
        assert!(!served.ended.is_finished(), "a stream runs until it ends");
        let feeder = served.seen.feeders.borrow_mut().pop_front().unwrap();
        feeder.pieces([Bytes::from_static(b"last")]);
        feeder.end(Status::OK);
        let (data, trailers) = collect(fed).await.unwrap();
        assert_eq!((&data[..], trailers.is_some()), (&b"last"[..], true));
        assert!(served.ended.await.unwrap().is_ok());
        assert!(connection.await.unwrap().is_ok());
    });
}

#[test]
fn a_stop_closes_idle_connections_of_every_kind() {
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", &http2::PREFACE[..9]] {
        run(async {
            let (mut io, mut served) = serve(settings()).await;
            write(&mut io, sent).await;
            settle().await;
            served.stop.take().unwrap().send(()).unwrap();
            assert!(served.ended.await.unwrap().is_ok(), "{sent:?}");
        });
    }
}

#[test]
fn an_idle_connection_gives_its_place_away_and_one_with_a_call_does_not() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        write(&mut io, &opening()).await;
        write(&mut io, &request(1, "/fed", b"")).await;
        read_until(&mut io, 1).await;
        let seats = std::sync::Arc::clone(&served.seats);
        let next = tokio::task::spawn_local(async move { seats.take().await });
        settle().await;
        assert!(!next.is_finished(), "a stream is open");
        served.seen.feeders.borrow()[0].end(Status::OK);
        assert!(next.await.unwrap().is_some());
        assert!(served.ended.await.unwrap().is_ok());
    });
}

const PINGS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    run(async {
        let settings = Settings { pings: Some(PINGS), ..settings() };
        let (mut io, served) = serve(settings).await;
        write(&mut io, &[opening(), request(1, "/wait", b"")].concat()).await;
        settle().await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        // A sign of life puts the ping off.
        write(&mut io, &frame(8, 0, 0, &[0, 1, 0, 0])).await;
        let begun = Instant::now();
        let (_, flags, ..) = read_until(&mut io, 6).await;
        assert_eq!((flags, begun.elapsed()), (0, PINGS.0));
        assert!(matches!(served.ended.await.unwrap(), Err(Error::Silent)));
        assert_eq!(begun.elapsed(), PINGS.0 + PINGS.1);
        assert_eq!(served.seen.log(), ["handler dropped"]);
    });
}

#[test]
fn a_client_that_answers_pings_stays() {
    run(async {
        let (io, served) = serve(Settings { pings: Some(PINGS), ..settings() }).await;
        let (mut send, _) = h2_client(io).await;
        let (response, _) = send.send_request(post("/fed"), true).unwrap();
        let _fed = response.await.unwrap();
        tokio::time::sleep(100 * PINGS.0).await;
        assert!(!served.ended.is_finished());
    });
}

#[test]
fn a_fault_ends_the_connection_and_the_client_is_told() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        write(&mut io, &[opening(), head(1, "/wait", b"x")].concat()).await;
        settle().await;
        write(&mut io, &frame(0, 0, 0, b"DATA for stream 0")).await;
        let (.., payload) = read_until(&mut io, 7).await;
        assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(&payload[8..], b"a frame of a stream for stream 0");
        assert_eq!(io.read(&mut [0; 10]).await.unwrap(), 0);
        assert_eq!(served.seen.log(), ["handler dropped"]);
        let Err(error) = served.ended.await.unwrap() else { panic!("no error") };
        let words = "the client broke a rule of HTTP/2: PROTOCOL_ERROR: a frame of a stream for \
                     stream 0";
        assert_eq!(error.to_string(), words);
        let Error::Client(fault) = error else { panic!("{error}") };
        assert_eq!(fault.reason, Reason::PROTOCOL_ERROR);
    });
}
