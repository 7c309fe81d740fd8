//! `watch-latency`: the time from the response to a write until its event arrives.

use super::{created, streams};
use crate::bench::Bench;
use crate::failure::CommandResult;
use crate::keys::Random;
use crate::output;
use bytes::Bytes;
use client::{Client, Watcher};
use load::{Pace, Results, Schedule, Start};
use proto::etcdserverpb as pb;
use std::sync::Arc;
use std::time::Duration;
use terminal::{Bar, Unit};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) async fn latency(bench: &mut Bench) -> CommandResult {
    let random = Random::new();
    let (key, value) = (random.bytes(bench.size("key-size")), random.bytes(bench.size("val-size")));
    let watchers = watchers(bench, &key).await?;
    let client = bench.connect().await?;
    let puts = bench.at_least("put-total", 0)?;
    let bar = Arc::new(Bar::start(puts * watchers.len() as u64, Unit::Steps));
    let mut tasks = JoinSet::new();
    for watcher in watchers {
        tasks.spawn(receive(watcher, puts, Arc::clone(&bar)));
    }
    let pace = Pace { count: Some(puts), per_second: bench.rate("put-rate"), time: None };
    let start = Start::now();
    let (results, written) = write(&client, (key, value), (pace, start)).await?;
    let mut arrivals = Vec::new();
    while let Some(done) = tasks.join_next().await {
        arrivals.push(done.map_err(|error| error.to_string())??);
    }
    drop(bar);
    let text = bench.report("watch-latency-put", results)?;
    output::text(&format!("\nPut summary:\n{text}"));
    let text = bench.report("watch-latency-watch", delays(start, &written, &arrivals))?;
    output::text(&format!("\nWatch events summary:\n{text}"));
    Ok(())
}

/// Creates all watchers.
async fn watchers(bench: &Bench, key: &Bytes) -> CommandResult<Vec<Watcher>> {
    let (count, per_stream) = (bench.size("streams"), bench.size("watchers-per-stream"));
    let prev_kv = bench.flags.bool("prevkv");
    let mut watchers = Vec::new();
    for mut hub in streams(&bench.clients().await?, count) {
        for _ in 0..per_stream {
            let key = key.clone();
            let request = pb::WatchCreateRequest { key, prev_kv, ..Default::default() };
            let mut watcher = hub.watch(request).await;
            created(&mut watcher).await?;
            watchers.push(watcher);
        }
    }
    Ok(watchers)
}

/// The moments at which the events of so many writes arrive.
async fn receive(mut watcher: Watcher, puts: u64, bar: Arc<Bar>) -> CommandResult<Vec<Instant>> {
    let mut arrivals = Vec::new();
    while (arrivals.len() as u64) < puts {
        let Some(update) = watcher.next().await else { break };
        if let Some(error) = update.error {
            return Err(error.into());
        }
        for _ in update.response.events {
            arrivals.push(Instant::now());
            bar.add();
        }
    }
    Ok(arrivals)
}

/// Writes the key again and again. Returns the times of the writes, and the moments at which they
/// were confirmed.
async fn write(
    client: &Client,
    (key, value): (Bytes, Bytes),
    (pace, start): (Pace, Start),
) -> CommandResult<(Results, Vec<Instant>)> {
    let (mut results, mut confirmed) = (Results::since(start), Vec::new());
    let mut schedule = Schedule::new(pace, Instant::now());
    while let Some((_, at)) = schedule.take(Instant::now()) {
        tokio::time::sleep_until(at).await;
        let (key, value) = (key.clone(), value.clone());
        let sent = Instant::now();
        let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
        client
            .put(put)
            .await
            .map_err(|error| format!("Failed to Put for watch latency benchmark: {error}"))?;
        results.add(sent, Ok(sent.elapsed()));
        confirmed.push(Instant::now());
    }
    Ok((results, confirmed))
}

/// How much later than the confirmation of its write each event has arrived. An event that arrives
/// earlier has no delay.
fn delays(start: Start, written: &[Instant], arrivals: &[Vec<Instant>]) -> Results {
    let mut results = Results::since(start);
    for (written, arrived) in arrivals.iter().flat_map(|arrivals| written.iter().zip(arrivals)) {
        let delay = arrived.checked_duration_since(*written).unwrap_or(Duration::ZERO);
        results.add(*written, Ok(delay));
    }
    results
}
