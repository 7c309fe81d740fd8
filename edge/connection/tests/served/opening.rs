//! The first bytes, and HTTP/1.1.

use crate::world::{opening, read_until, request, run, serve, settings, settle, write};
use connection::Error;
use net::limits::{HEAD_TIME_MAX, OPENING_TIME_MAX};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

#[test]
fn a_preface_and_a_call_may_come_byte_by_byte() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        for byte in [opening(), request(1, "/unary", b"abc")].concat() {
            write(&mut io, &[byte]).await;
            settle().await;
        }
        assert_eq!(read_until(&mut io, 0).await.3, b"\0\0\0\0\x03abc");
    });
}

#[test]
fn what_is_not_opened_in_time_is_closed() {
    let opening = opening();
    for sent in [0, 10, http2::PREFACE.len(), opening.len() - 1] {
        run(async {
            let (mut io, served) = serve(settings()).await;
            let begun = Instant::now();
            write(&mut io, &opening[..sent]).await;
            let Err(Error::Io(error)) = served.ended.await.unwrap() else { panic!("no timeout") };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent}");
            assert_eq!(begun.elapsed(), OPENING_TIME_MAX, "{sent}");
        });
    }
}

#[test]
fn a_client_that_says_nothing_and_closes_is_no_error() {
    run(async {
        let (io, served) = serve(settings()).await;
        drop(io);
        assert!(served.ended.await.unwrap().is_ok());
        let (mut io, served) = serve(settings()).await;
        write(&mut io, &opening()).await;
        settle().await;
        drop(io);
        assert!(served.ended.await.unwrap().is_ok());
    });
}

#[test]
fn http1_is_served_by_the_same_handlers() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        for (sent, expected) in [
            ("GET /a HTTP/1.1\r\nhost: x\r\n\r\n", "GET /a 0"),
            ("P", ""),
            ("OST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", "POST /b 3"),
            ("POST /host HTTP/1.1\r\nhost: http://y\r\nconnection: close\r\n\r\n", "http://y"),
        ] {
            write(&mut io, sent.as_bytes()).await;
            settle().await;
            if expected.is_empty() {
                continue;
            }
            let mut answer = vec![0; 1_000];
            let len = io.read(&mut answer).await.unwrap();
            let answer = String::from_utf8(answer[..len].to_vec()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        }
        assert!(served.ended.await.unwrap().is_ok());
    });
}

#[test]
fn v3_7_1_half_a_head_of_http1_is_closed_in_time() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        let begun = Instant::now();
        write(&mut io, b"GET / HTTP/1.1\r\nhost").await;
        assert!(matches!(served.ended.await.unwrap(), Err(Error::Http1(_))));
        assert_eq!(begun.elapsed(), HEAD_TIME_MAX);
    });
}

#[test]
fn what_is_neither_is_refused_as_http1() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        write(&mut io, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(served.ended.await.unwrap().is_err());
        io.shutdown().await.unwrap();
    });
}
