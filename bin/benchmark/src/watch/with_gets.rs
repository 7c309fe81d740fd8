//! `watch-get`: reads, while many watchers read the same history.

use super::streams;
use crate::bench::Bench;
use crate::failure::CommandResult;
use crate::output;
use client::{Client, Watcher};
use load::{Results, Start};
use proto::etcdserverpb as pb;
use std::sync::Arc;
use terminal::{Bar, Unit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

const KEY: &str = "watchkey";

pub(crate) async fn with_gets(bench: &mut Bench) -> CommandResult {
    let (clients, reader) = (bench.clients().await?, bench.connect().await?);
    let (events, watchers) = (bench.size("events"), bench.size("watchers"));
    let start_revision = write(&clients[0], events).await?;
    let mut hubs = streams(&clients, usize::try_from(bench.at_least("streams", 1)?).unwrap_or(1));
    let bar = Arc::new(Bar::start((watchers * events) as u64, Unit::Steps));
    let (stop, stopped) = watch::channel(false);
    let reading = tokio::spawn(read(reader, stopped));
    let mut tasks = JoinSet::new();
    let count = hubs.len();
    for number in 0..watchers {
        let key = KEY.into();
        let request = pb::WatchCreateRequest { key, start_revision, ..Default::default() };
        let watcher = hubs[number % count].watch(request).await;
        tasks.spawn(receive(watcher, events, Arc::clone(&bar)));
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    stop.send_replace(true);
    let results = reading.await.map_err(|error| error.to_string())?;
    drop(bar);
    let text = bench.report("watch-get", results)?;
    output::text(&format!("Get during watch summary:\n{text}"));
    Ok(())
}

/// Writes the history. Returns the revision of the first write.
async fn write(client: &Client, events: usize) -> CommandResult<i64> {
    let mut first = 0;
    for number in 0..events {
        let value = number.to_string().into();
        let put = pb::PutRequest { key: KEY.into(), value, ..pb::PutRequest::default() };
        let revision = client.put(put).await?.header.map_or(0, |header| header.revision);
        if number == 0 {
            first = revision;
        }
    }
    Ok(first)
}

/// Reads one key after the other until all watchers have their events.
async fn read(client: Client, mut stopped: watch::Receiver<bool>) -> Results {
    let mut results = Results::since(Start::now());
    loop {
        let sent = Instant::now();
        let key = "abc".into();
        let request = pb::RangeRequest { key, serializable: true, ..pb::RangeRequest::default() };
        let done = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return results,
            done = client.range(request) => done,
        };
        results.add(sent, done.map(|_| sent.elapsed()).map_err(|error| error.to_string()));
    }
}

async fn receive(mut watcher: Watcher, events: usize, bar: Arc<Bar>) -> CommandResult {
    let mut received = 0;
    while received < events {
        let Some(update) = watcher.next().await else { break };
        if let Some(error) = update.error {
            return Err(error.into());
        }
        received += update.response.events.len();
        update.response.events.iter().for_each(|_| bar.add());
    }
    Ok(())
}
