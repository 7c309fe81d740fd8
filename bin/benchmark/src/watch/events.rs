//! `watch`: creates many watchers, then writes their keys and counts the events.

use super::{created, streams};
use crate::bench::{Bench, never};
use crate::failure::CommandResult;
use crate::keys::{Keys, Random};
use crate::output;
use bytes::Bytes;
use client::{Client, WatchHub, Watcher};
use load::{Pace, Results, Start};
use proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terminal::{Bar, Unit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// gRPC's limit of streams on a connection.
const STREAMS_PER_CONNECTION: usize = 100;

pub(crate) async fn watch(bench: &mut Bench) -> CommandResult {
    let clients = bench.clients().await?;
    let count = bench.size("streams");
    let connections = bench.flags.uint("clients").min(bench.flags.uint("conns"));
    let wanted = 1 + count / STREAMS_PER_CONNECTION;
    if connections < wanted as u64 {
        output::error_line(&format!(
            "warning: grpc limits 100 streams per client connection, have {connections} but need \
             {wanted}"
        ));
    }
    let keys = watched(bench)?;
    let per_stream = bench.size("watch-per-stream");
    let (results, watchers) = create(streams(&clients, count), per_stream, &keys).await?;
    let text = bench.report("watch-make", results)?;
    output::text(&format!("Watch creation summary:\n{text}"));

    let puts = bench.at_least("put-total", 0)?;
    let events = expected(puts, watchers.len(), &keys);
    let receiving = tokio::spawn(receive(watchers, events));
    let pace = Pace { count: Some(puts), per_second: bench.rate("put-rate"), time: None };
    write(clients, pace, keys).await?;
    let results = receiving.await.map_err(|error| error.to_string())??;
    let text = bench.report("watch-put", results)?;
    output::text(&format!("Watch events received summary:\n{text}"));
    Ok(())
}

/// The keys that are watched; the same key may occur several times.
fn watched(bench: &Bench) -> CommandResult<Vec<Bytes>> {
    let keys = Keys::new(bench.size("key-size"), bench.at_least("key-space-size", 1)?)?;
    let is_sequential = bench.flags.bool("sequential-keys");
    let random = Random::new();
    let number = |index| if is_sequential { index } else { random.below(index, keys.space()) };
    Ok((0..bench.at_least("watched-key-total", 1)?).map(|index| keys.key(number(index))).collect())
}

/// Creates the watchers of all streams, those of each stream one after the other.
async fn create(
    hubs: Vec<WatchHub>,
    per_stream: usize,
    keys: &[Bytes],
) -> CommandResult<(Results, Vec<Watcher>)> {
    let start = Start::now();
    let bar = Arc::new(Bar::start((hubs.len() * per_stream) as u64, Unit::Steps));
    let mut tasks = JoinSet::new();
    for (stream, mut hub) in hubs.into_iter().enumerate() {
        let (bar, keys) = (Arc::clone(&bar), keys.to_vec());
        tasks.spawn(async move {
            let (mut results, mut watchers) = (Results::since(start), Vec::new());
            for number in stream * per_stream..(stream + 1) * per_stream {
                let key = keys[number % keys.len()].clone();
                let sent = Instant::now();
                let mut watcher =
                    hub.watch(pb::WatchCreateRequest { key, ..Default::default() }).await;
                created(&mut watcher).await?;
                results.add(sent, Ok(sent.elapsed()));
                watchers.push(watcher);
                bar.add();
            }
            CommandResult::Ok((results, watchers))
        });
    }
    let (mut results, mut watchers) = (Results::since(start), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (more, these) = done.map_err(|error| error.to_string())??;
        results.join(more);
        watchers.extend(these);
    }
    Ok((results, watchers))
}

/// How many events all watchers get together, if watcher number i watches key number i, and put
/// number i writes key number i, both in a circle. The same key may occur several times.
fn expected(puts: u64, watchers: usize, keys: &[Bytes]) -> u64 {
    let mut watchers_of: BTreeMap<&Bytes, u64> = BTreeMap::new();
    for key in keys.iter().cycle().take(watchers) {
        *watchers_of.entry(key).or_default() += 1;
    }
    let count = keys.len() as u64;
    let puts_of = |place: u64| puts / count + u64::from(place < puts % count);
    let watchers = keys.iter().map(|key| watchers_of.get(key).copied().unwrap_or_default());
    (0..).zip(watchers).map(|(place, watchers)| puts_of(place) * watchers).sum()
}

/// Receives all events. As in etcd, the time of an event is that from its response on.
async fn receive(watchers: Vec<Watcher>, total: u64) -> CommandResult<Results> {
    let start = Start::now();
    let bar = Arc::new(Bar::start(total, Unit::Steps));
    let missing = Arc::new(AtomicU64::new(total));
    let stop = Arc::new(watch::Sender::new(total == 0));
    let mut tasks = JoinSet::new();
    for mut watcher in watchers {
        let (bar, missing, stop) = (Arc::clone(&bar), Arc::clone(&missing), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut stopped = stop.subscribe();
            let mut results = Results::since(start);
            while !*stopped.borrow() {
                let update = tokio::select! {
                    // The sender lives as long as this task.
                    _ = stopped.changed() => break,
                    update = watcher.next() => update,
                };
                let received = Instant::now();
                let events = update.map_or_else(
                    || Err("EOF".to_string()),
                    |update| {
                        update
                            .error
                            .map_or(Ok(update.response.events), |error| Err(error.to_string()))
                    },
                );
                match events {
                    Ok(events) => {
                        for _ in events {
                            results.add(received, Ok(received.elapsed()));
                            bar.add();
                            if missing.fetch_sub(1, Ordering::AcqRel) <= 1 {
                                stop.send_replace(true);
                            }
                        }
                    }
                    Err(error) => {
                        results.fail(error);
                        stop.send_replace(true);
                    }
                }
            }
            results
        });
    }
    let mut results = Results::since(start);
    while let Some(done) = tasks.join_next().await {
        results.join(done.map_err(|error| error.to_string())?);
    }
    Ok(results)
}

/// Writes the keys in turn.
async fn write(clients: Vec<Client>, pace: Pace, keys: Vec<Bytes>) -> CommandResult {
    let keys = Arc::new(keys);
    let put = move |client: Client, number: u64| {
        let place = usize::try_from(number % keys.len() as u64).unwrap_or_default();
        let key = keys[place].clone();
        async move {
            let put = pb::PutRequest { key, value: "data".into(), ..pb::PutRequest::default() };
            client.put(put).await.map(drop).map_err(|error| error.to_string())
        }
    };
    let results = load::run_quietly(clients, pace, &never(), put).await;
    match results.first_error() {
        Some(error) => Err(error.to_string().into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watcher_gets_the_puts_of_its_key() {
        let keys = |names: &[&'static str]| -> Vec<Bytes> {
            names.iter().map(|name| Bytes::from_static(name.as_bytes())).collect()
        };
        // a and b are written twice, c once; two of the four watchers watch a.
        assert_eq!(expected(5, 4, &keys(&["a", "b", "c"])), 2 * 2 + 2 + 1);
        assert_eq!(expected(3, 4, &keys(&["a", "a"])), 3 * 4);
        assert_eq!(expected(0, 2, &keys(&["a"])), 0);
    }
}
