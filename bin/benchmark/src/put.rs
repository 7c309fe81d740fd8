//! `put`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/put.go.

use crate::bench::{Bench, never};
use crate::failure::CommandResult;
use crate::keys::{Keys, Random};
use crate::output;
use cli::duration::GoDuration;
use cli::go;
use client::Client;
use proto::etcdserverpb as pb;
use std::time::{Duration, Instant};

/// The time limit of the requests of a compaction.
const COMPACTION_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn put(bench: &mut Bench) -> CommandResult {
    let keys = Keys::new(bench.size("key-size"), bench.at_least("key-space-size", 1)?)?;
    let (pace, clients) = (bench.pace()?, bench.clients().await?);
    let is_sequential = bench.flags.bool("sequential-keys");
    let random = Random::new();
    let value = random.bytes(bench.size("val-size"));
    let request = move |client: Client, number| {
        let number = if is_sequential { number } else { random.below(number, keys.space()) };
        let (key, value) = (keys.key(number), value.clone());
        async move {
            let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
            client.put(put).await.map(drop).map_err(|error| error.to_string())
        }
    };
    let interval = bench.flags.duration("compact-interval");
    if !interval.is_zero() {
        let delta = bench.flags.int("compact-index-delta");
        tokio::spawn(compact_for_ever(clients[0].clone(), interval, delta));
    }
    let results = load::run(clients, pace, &never(), request).await;
    output::line(&bench.report("put", results)?);
    if bench.flags.bool("check-hashkv") {
        hash_kv(bench).await?;
    }
    Ok(())
}

async fn compact_for_ever(client: Client, interval: Duration, delta: i64) {
    let client = client.with_timeout(COMPACTION_TIME);
    loop {
        tokio::time::sleep(interval).await;
        if let Err(error) = compact(&client, delta).await {
            output::error_line(&format!("failed to compact: {error}"));
        }
    }
}

async fn compact(client: &Client, delta: i64) -> Result<(), client::Error> {
    let read = pb::RangeRequest { key: "foo".into(), ..pb::RangeRequest::default() };
    let latest = client.range(read).await?.header.map_or(0, |header| header.revision);
    let revision = latest.saturating_sub(delta).max(0);
    client.compact(pb::CompactionRequest { revision, physical: false }).await.map(drop)
}

async fn hash_kv(bench: &Bench) -> CommandResult {
    let (client, endpoint) = bench.connect_to_first().await?;
    let start = Instant::now();
    let hash = client.hash_kv(pb::HashKvRequest { revision: 0 }).await?.hash;
    let status = client.status(pb::StatusRequest {}).await?;
    let took = GoDuration::from(start.elapsed());
    let size = go::bytes(u64::try_from(status.db_size).unwrap_or_default());
    output::line(&format!(
        "HashKV Summary:\n\tHashKV: {hash}\n\tEndpoint: {endpoint}\n\tTime taken to get hashkv: \
         {took}\n\tDB size: {size}"
    ));
    Ok(())
}
