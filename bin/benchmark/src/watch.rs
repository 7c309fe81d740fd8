//! `watch`, `watch-get` and `watch-latency`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/{watch,watch_get,watch_latency}.go.

mod events;
mod latency;
mod with_gets;

pub(crate) use events::watch;
pub(crate) use latency::latency;
pub(crate) use with_gets::with_gets;

use crate::failure::CommandResult;
use client::{Client, WatchHub, Watcher};

/// So many streams, spread over the clients.
fn streams(clients: &[Client], count: usize) -> Vec<WatchHub> {
    clients.iter().cycle().take(count).map(Client::watch_hub).collect()
}

/// Waits until the server has a watch.
async fn created(watcher: &mut Watcher) -> CommandResult {
    if watcher.created().await {
        return Ok(());
    }
    let why = watcher.next().await.and_then(|update| update.error);
    let why = why.map_or_else(String::new, |error| error.to_string());
    Err(format!("could not open a watch: {why}").into())
}
