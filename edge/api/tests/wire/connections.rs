//! The time limits of connections, and which connection is closed when there is no place for
//! another one.

use crate::fake::{Fake, serve_in_seats, serve_on_a_paused_clock};
use net::Seats;
use net::limits::{HEAD_TIME_MAX, OPENING_TIME_MAX};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends bytes and then nothing; the server closes the connection after `limit`.
fn closed_after(sent: &'static [u8], limit: Duration) {
    serve_on_a_paused_clock(&Fake::default(), |mut client| async move {
        let begun = Instant::now();
        client.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(A_DAY, client.read_to_end(&mut answer)).await;
        closed.unwrap_or_else(|_| panic!("{sent:?}: open for a day")).unwrap();
        let took = begun.elapsed();
        assert!(took >= limit && took < limit + Duration::from_secs(1), "{sent:?}: {took:?}");
    });
}

#[test]
fn a_connection_that_does_not_open_is_closed() {
    closed_after(b"", OPENING_TIME_MAX);
    closed_after(&PREFACE[..1], OPENING_TIME_MAX);
    closed_after(&PREFACE[..PREFACE.len() - 1], OPENING_TIME_MAX);
    closed_after(PREFACE, OPENING_TIME_MAX);
}

#[test]
fn a_head_of_http1_that_does_not_end_is_closed_and_so_is_an_idle_connection() {
    closed_after(b"GET /health HTTP/1.1\r\nHost:", HEAD_TIME_MAX);
    closed_after(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", HEAD_TIME_MAX);
}

#[test]
fn a_body_of_http1_that_does_not_end_is_closed_after_the_answer() {
    let post = b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123";
    closed_after(post, Duration::ZERO);
}

#[test]
fn an_idle_connection_gives_its_place_away_and_one_with_a_stream_does_not() {
    let seats = Seats::new(1);
    serve_in_seats(&Fake::default(), &seats, |io| async {
        let handshake = h2::client::Builder::new().handshake::<_, bytes::Bytes>(io);
        let (mut send, connection) = handshake.await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let watch = http::Request::post("http://x/etcdserverpb.Watch/Watch")
            .header("content-type", "application/grpc");
        let (response, requests) = send.send_request(watch.body(()).unwrap(), false).unwrap();
        let answers = response.await.unwrap();
        let within = timeout(Duration::from_secs(1), seats.take()).await;
        assert!(within.is_err(), "a stream is open");
        drop((answers, requests));
        let within = timeout(Duration::from_secs(1), seats.take()).await;
        assert!(within.is_ok(), "the connection is idle");
        let ended = timeout(Duration::from_secs(1), connection).await;
        drop(ended.expect("the idle connection is closed"));
    });
}
