//! Many connections that only watch. Half of them read nothing, so their windows fill up.

use super::scale::Scale;
use crate::http2::{RawConnection, message};
use anyhow::{Context, Result, ensure};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Connections that are opened before their answers are waited for.
const CHUNK: usize = 100;
/// The number of watched keys, and the length of the values that one client puts.
const KEYS: usize = 1_000;
const VALUE: usize = 256;
/// The puts of a round, and the pause between two rounds.
const PUTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);
const UNANSWERED: Duration = Duration::from_secs(30);

fn watched(number: usize) -> String {
    format!("watched/{:04}", number % KEYS)
}

/// Opens the connections and keeps them, while one client puts watched keys.
pub(super) fn hold(
    clients: SocketAddr,
    scale: &Scale,
    stop: &AtomicBool,
    begun: Sender<()>,
) -> Result<String> {
    let mut all = Vec::with_capacity(scale.connections);
    while all.len() < scale.connections {
        let from = all.len();
        for number in from..(from + CHUNK).min(scale.connections) {
            all.push(open(clients, number, scale.watchers).context("a connection that watches")?);
        }
        for (connection, stream) in &mut all[from..] {
            let stream = *stream;
            let answered = connection.wait(UNANSWERED, |it| it.stream(stream).answered);
            ensure!(answered, "connection {from} and further were not answered");
        }
    }
    drop(begun);
    let mut writer = RawConnection::open(clients, &[])?;
    writer.gives_back();
    let mut puts = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..PUTS {
            let (key, value) = (watched(puts).into(), vec![7; VALUE].into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            let stream = writer.call(PUT, &[]);
            writer.data(stream, &message(&put), true);
            puts += 1;
        }
        writer.pump();
        writer.forget_ended();
        for (connection, _) in all.iter_mut().step_by(2) {
            connection.pump();
        }
        std::thread::sleep(PAUSE);
    }
    all.iter_mut().for_each(|(connection, _)| connection.pump());
    let closed = all.iter().filter(|(connection, _)| connection.is_closed()).count();
    let watchers = scale.connections * scale.watchers;
    Ok(format!("{} connections, {closed} closed, {watchers} watchers, {puts} events", all.len()))
}

/// A connection with a stream of watchers, and the number of the stream.
fn open(clients: SocketAddr, number: usize, watchers: usize) -> Result<(RawConnection, u32)> {
    let mut connection = RawConnection::open(clients, &[])?;
    if number.is_multiple_of(2) {
        connection.gives_back();
    }
    let stream = connection.call(WATCH, &[]);
    let create = |nth| {
        let key = watched(number * watchers + nth).into();
        let create = WatchCreateRequest { key, ..WatchCreateRequest::default() };
        message(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    };
    let requests: Vec<u8> = (0..watchers).flat_map(create).collect();
    ensure!(connection.data(stream, &requests, false), "no window for the requests");
    Ok((connection, stream))
}
