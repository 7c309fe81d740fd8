//! Profiles and traces of a running server.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use bytes::Bytes;
use client::{Client, Config};
use flate2::read::GzDecoder;
use proto::etcdserverpb as pb;
use server::Server;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

impl Server {
    /// The head and the body of the answer to a request with further headers and a body.
    fn request(&self, target: &str, headers: &str, body: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let body = answer.split_off(end);
        (String::from_utf8(answer).unwrap(), body)
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn a_profile_of_a_working_server_names_its_functions_and_shows_no_data() {
    let server = Server::start(&["--enable-pprof"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (head, body) = std::thread::scope(|scope| {
        let profile = scope.spawn(|| server.request("GET /debug/pprof/profile?seconds=1", "", ""));
        runtime.block_on(async {
            let client = Client::connect(Config::new(vec![server.address.clone()])).await.unwrap();
            let (key, value) = ("secret-key".into(), "secret-value".into());
            let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
            while !profile.is_finished() {
                client.put(put.clone()).await.unwrap();
            }
        });
        profile.join().unwrap()
    });
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("application/octet-stream"), "{head}");
    let mut profile = Vec::new();
    GzDecoder::new(&body[..]).read_to_end(&mut profile).unwrap();
    for name in ["nanoseconds", "server::threads::"] {
        assert!(contains(&profile, name.as_bytes()), "no {name}");
    }
    for data in ["secret-key", "secret-value"] {
        assert!(!contains(&profile, data.as_bytes()), "{data} is in the profile");
    }
}

#[test]
fn profiles_are_served_with_the_flag_or_the_log_level_debug_only() {
    for (flags, status) in
        [(&[][..], "404"), (&["--enable-pprof"], "200"), (&["--log-level", "debug"], "200")]
    {
        let server = Server::start(flags);
        let (head, body) = server.request("GET /debug/pprof/cmdline", "", "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{flags:?}: {head}");
        assert_eq!(contains(&body, b"\0--data-dir\0"), status == "200", "{flags:?}");
    }
}

/// A collector of traces: the bodies of the calls that it gets, on one connection.
fn collector() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, received) = mpsc::channel();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    let (mut body, mut bytes) = (request.into_body(), Vec::new());
                    while let Some(piece) = body.data().await {
                        let piece = piece.unwrap();
                        body.flow_control().release_capacity(piece.len()).unwrap();
                        bytes.extend(piece);
                    }
                    to.send(bytes).unwrap();
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    // An empty message.
                    stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
                    let ok = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
                    stream.send_trailers([ok].into_iter().collect()).unwrap();
                });
            }
        });
    });
    (address, received)
}

#[test]
fn the_spans_of_a_clients_trace_reach_the_collector_before_the_server_has_ended() {
    let (address, received) = collector();
    let mut server = Server::start(&[
        "--enable-distributed-tracing",
        "--distributed-tracing-address",
        &address,
        "--distributed-tracing-service-name",
        "the-service",
    ]);
    // {"key":"traced-key"} and {"key":"other-key"}
    let traced =
        "Grpc-Metadata-Traceparent: 00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01\r\n";
    for (key, header) in [("dHJhY2VkLWtleQ==", traced), ("b3RoZXIta2V5", "")] {
        let body = format!("{{\"key\":\"{key}\"}}");
        let (head, _) = server.request("POST /v3/kv/put", header, &body);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    server.child.wait().unwrap();
    let message = received.try_recv().unwrap();
    for part in [
        &b"the-service"[..],
        b"etcdserverpb.KV/Put",
        b"traced-key",
        b"Send raft proposal",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        &[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18],
    ] {
        assert!(contains(&message, part), "no {part:?}");
    }
    assert!(!contains(&message, b"other-key"), "a call without a trace is not recorded at rate 0");
}
