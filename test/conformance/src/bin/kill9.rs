//! Kills our server repeatedly under load. Checks after each start that all acknowledged writes are
//! stored, that watchers received every change once and in order, and that no write is partly done.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use conformance::server::Server;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use proto::etcdserverpb::{WatchRequest, watch_request::RequestUnion};
use proto::mvccpb::Event;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use rpc::stubs::etcdserverpb::watch_client::WatchClient;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;

/// The number of writers.
const WRITERS: usize = 16;

/// Kills our server with -9 repeatedly under load, and checks the acknowledged writes.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// The number of kills.
    #[arg(long, default_value_t = 200)]
    cycles: u64,
    /// The seed of the times between kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The acknowledged writes and the received events. Each writer has its own key and increments its
/// value, so the stored value is the last acknowledged number, or the next one if its put was in
/// flight.
#[derive(Debug, Default)]
struct Ledger {
    /// The last acknowledged number of each writer, with its revision.
    acknowledged: BTreeMap<usize, (u64, i64)>,
    writes: u64,
    /// All events of all watches; each watch starts where the one before ended.
    events: Vec<Event>,
}

type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Shared) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(writer: usize) -> Bytes {
    format!("writer/{writer:02}").into()
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut rng = StdRng::seed_from_u64(args.seed);
    let flags = ["--snapshot-count", "500"];
    let mut server = Server::start(&args.ours, &flags).await?;
    let ledger = Shared::default();
    for cycle in 1..=args.cycles {
        let channel = server.connect().await?;
        let watch = tokio::spawn(watch(channel.clone(), Arc::clone(&ledger)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(channel.clone(), writer, Arc::clone(&ledger))))
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..300))).await;
        server.kill()?;
        for writer in writers {
            writer.await?;
        }
        watch.await?;
        server.start_again().await.with_context(|| format!("after kill {cycle}"))?;
        check(&server, &ledger).await.with_context(|| format!("after kill {cycle}"))?;
    }
    check_events(&server, &ledger).await?;
    let ledger = lock(&ledger);
    println!(
        "{} kills, {} acknowledged writes and {} events: nothing lost, nothing doubled",
        args.cycles,
        ledger.writes,
        ledger.events.len()
    );
    Ok(())
}

/// Increments the value until the server is gone.
async fn write(channel: Channel, writer: usize, ledger: Shared) {
    let mut kv = KvClient::new(channel);
    loop {
        let next = lock(&ledger).acknowledged.get(&writer).map_or(0, |last| last.0) + 1;
        // A put that was in flight when the server was killed may be stored; its number is then
        // written again.
        let value = next.to_string().into();
        let request = PutRequest { key: key(writer), value, ..PutRequest::default() };
        let Ok(answer) = kv.put(request).await else { return };
        let revision = answer.into_inner().header.map_or(0, |header| header.revision);
        let mut ledger = lock(&ledger);
        ledger.acknowledged.insert(writer, (next, revision));
        ledger.writes += 1;
    }
}

/// Watches all keys from the revision after the last event.
async fn watch(channel: Channel, ledger: Shared) {
    let start = lock(&ledger).events.last().map_or(1, |event| mod_revision(event) + 1);
    let create = WatchCreateRequest {
        key: "writer/".into(),
        range_end: "writer0".into(),
        start_revision: start,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream stays open as long as its request sender lives.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    if sender.send(request).await.is_err() {
        return;
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let Ok(answers) = WatchClient::new(channel).watch(requests).await else { return };
    let mut answers = answers.into_inner();
    while let Ok(Some(response)) = answers.message().await {
        lock(&ledger).events.extend(response.events);
    }
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Checks that each stored value is the last acknowledged one, or the one that was in flight.
async fn check(server: &Server, ledger: &Shared) -> Result<()> {
    let channel = server.connect().await?;
    let mut kv = KvClient::new(channel.clone());
    let acknowledged = lock(ledger).acknowledged.clone();
    for (writer, (number, revision)) in acknowledged {
        let request = RangeRequest { key: key(writer), ..RangeRequest::default() };
        let answer = kv.range(request).await?.into_inner();
        let stored = answer.kvs.first().context("an acknowledged key is gone")?;
        let value: u64 = std::str::from_utf8(&stored.value)?.parse()?;
        ensure!(
            value == number || value == number + 1,
            "writer {writer}: {number} was acknowledged, {value} is stored"
        );
        ensure!(
            stored.mod_revision >= revision,
            "writer {writer}: revision {revision} was acknowledged, {} is stored",
            stored.mod_revision
        );
    }
    let mut maintenance = MaintenanceClient::new(channel);
    maintenance.hash_kv(proto::etcdserverpb::HashKvRequest::default()).await?;
    Ok(())
}

/// Checks that the events contain every revision once, in order, without a gap.
async fn check_events(server: &Server, ledger: &Shared) -> Result<()> {
    let mut kv = KvClient::new(server.connect().await?);
    let answer = kv.range(RangeRequest { key: key(0), ..RangeRequest::default() }).await?;
    let last = answer.into_inner().header.map_or(0, |header| header.revision);
    let watching = tokio::spawn(watch(server.connect().await?, Arc::clone(ledger)));
    for _ in 0..1_000 {
        if lock(ledger).events.last().map_or(0, mod_revision) >= last {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watching.abort();
    let ledger = lock(ledger);
    for (expected, event) in (2..).zip(&ledger.events) {
        ensure!(
            mod_revision(event) == expected,
            "the event of revision {expected} is missing or doubled: {event:?}"
        );
    }
    let told = ledger.events.last().map_or(0, mod_revision);
    ensure!(told == last, "watchers were told up to {told}, the store is at {last}");
    for (writer, (_, revision)) in &ledger.acknowledged {
        let told = ledger
            .events
            .iter()
            .rev()
            .find(|event| event.kv.as_ref().is_some_and(|kv| kv.key == key(*writer)));
        let told = told.map_or(0, mod_revision);
        ensure!(told >= *revision, "writer {writer}: no event of revision {revision}");
    }
    Ok(())
}
