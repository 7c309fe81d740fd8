//! Clients that request large ranges again and again. Half of them do not read the responses.

use crate::http2::{INITIAL_WINDOW_SIZE, RawConnection, message};
use anyhow::Result;
use proto::etcdserverpb::RangeRequest;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

const RANGE: &str = "/etcdserverpb.KV/Range";
/// The number of keys of the range, and the length of each value.
pub(super) const KEYS: usize = 64;
pub(super) const VALUE: usize = 128 * 1024;
const CONNECTIONS: usize = 32;
/// Ranges in flight on each connection.
const STREAMS: usize = 4;
const WINDOW: u32 = 256 * 1024;
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn key(number: usize) -> String {
    format!("large/{number:04}")
}

pub(super) fn all() -> RangeRequest {
    RangeRequest { key: "large/".into(), range_end: "large0".into(), ..RangeRequest::default() }
}

/// Keeps [`STREAMS`] ranges in flight on each connection.
pub(super) fn ask(clients: SocketAddr, stop: &AtomicBool, begun: Sender<()>) -> Result<String> {
    let mut all_connections = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = RawConnection::open(clients, &[(INITIAL_WINDOW_SIZE, WINDOW)])?;
        if number % 2 == 0 {
            connection.gives_back();
        }
        all_connections.push((connection, Vec::new()));
    }
    drop(begun);
    let request = message(&all());
    let (mut read, mut cut) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for (connection, streams) in &mut all_connections {
            connection.pump();
            streams.retain(|stream| {
                let end = connection.stream(*stream);
                if end.ended {
                    *(if end.reset.is_none() { &mut read } else { &mut cut }) += 1;
                }
                !end.ended
            });
            connection.forget_ended();
            while streams.len() < STREAMS && !connection.is_closed() {
                let stream = connection.call(RANGE, &[]);
                connection.data(stream, &request, true);
                streams.push(stream);
            }
        }
        std::thread::sleep(PAUSE);
    }
    let mib = (read * KEYS * VALUE) >> 20;
    Ok(format!("{read} ranges with {mib} MiB read, {cut} cut off"))
}
