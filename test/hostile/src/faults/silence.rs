//! Clients that send too little, too slowly.

use crate::attack::Attack;
use crate::http2::{PREFACE, RawConnection, frame, header_block, opening};
use anyhow::{Context, Result, ensure};
use net::limits::OPENING_TIME_MAX;
use rand::Rng as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tour::server::http_get;

/// The limit of open files of `idle-files`. The server reserves 150 for itself.
pub(super) const FILES: u64 = 500;
/// Idle connections on each port: more than the peer port and the metrics port serve, but together
/// fewer than the usual limit of open files of this process.
const IDLE: usize = 290;
/// Connections that are opened at once. They are so few that the server does not have to refuse
/// one.
const BURST: usize = 8;
/// Connections of the other faults.
const SLOW: usize = 200;

/// A probe without an answer for this long counts as unanswered.
const UNANSWERED: Duration = Duration::from_secs(5);

/// The bytes that an idle connection sends first.
const IDLE_KINDS: [&[u8]; 4] =
    [b"", b"GET /health HTTP/1.1\r\nHost:", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE];

/// Connects and sends these bytes. The server may close the connection to make room for another
/// one.
fn connect(address: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    drop(stream.write_all(bytes));
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Opens idle connections on every port and keeps them.
pub(super) fn idle(attack: &mut Attack<'_>) -> Result<u64> {
    let mut all = Vec::new();
    for port in attack.target.ports() {
        // The other ports close a connection that begins with the preface.
        let kinds = IDLE_KINDS.len() - usize::from(port != attack.target.clients);
        for opened in 0..IDLE {
            if opened % BURST == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            let kind = IDLE_KINDS[attack.rng.random_range(0..kinds)];
            all.push(connect(port, kind)?);
        }
    }
    std::thread::sleep(attack.time);
    // The endpoints must answer while all connections are still open.
    for (port, path) in attack.target.ports().into_iter().zip(["/health", "/version", "/health"]) {
        let answer = http_get(port, path, UNANSWERED);
        let answer = answer.with_context(|| format!("{path} beside idle connections"))?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path} beside idle connections: {answer:?}");
    }
    Ok(all.len() as u64)
}

/// Sends parts of the preface. In the long form the server must close the connections when their
/// time is over.
pub(super) fn half_preface(attack: &mut Attack<'_>) -> Result<u64> {
    let begun = Instant::now();
    let mut all = Vec::new();
    for _ in 0..SLOW {
        let len = attack.rng.random_range(0..PREFACE.len());
        all.push(connect(attack.target.clients, &PREFACE[..len])?);
    }
    std::thread::sleep(attack.time);
    if attack.long {
        let limit = OPENING_TIME_MAX + Duration::from_secs(10);
        while !all.iter_mut().all(is_closed) {
            ensure!(begun.elapsed() < limit, "a connection with half a preface is still open");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(SLOW as u64)
}

/// Sends heads of HTTP/1, and header blocks of HTTP/2 in frames of one byte.
pub(super) fn slow_heads(attack: &mut Attack<'_>) -> Result<u64> {
    let block = header_block("/etcdserverpb.KV/Range", &[]);
    let mut http2 = opening(&[]);
    for (at, byte) in block.iter().enumerate() {
        http2.extend(frame(if at == 0 { 1 } else { 9 }, 0, 1, &[*byte]));
    }
    let http1 = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut all = Vec::new();
    for at in 0..SLOW {
        let port = attack.target.ports()[at % 3];
        let bytes = if at % 3 == 0 && at % 2 == 0 { &http2[..] } else { &http1[..] };
        all.push((connect(port, b"")?, bytes));
    }
    let mut sent = 0;
    let (begun, mut at) = (Instant::now(), 0);
    while begun.elapsed() < attack.time {
        for (stream, bytes) in &mut all {
            if let Some(byte) = bytes.get(at)
                && stream.write_all(&[*byte]).is_ok()
            {
                sent += 1;
            }
        }
        at += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    // Calls on new connections are served all along.
    let mut other = RawConnection::open(attack.target.clients, &[])?;
    let range = proto::etcdserverpb::RangeRequest { key: "light".into(), ..Default::default() };
    let end = other.unary("/etcdserverpb.KV/Range", &range, Duration::from_secs(10));
    ensure!(end.answered && end.ended, "a call beside slow heads was not answered: {end:?}");
    Ok(sent)
}
