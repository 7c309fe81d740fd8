//! Clients that request much data and read little.

use crate::attack::{Attack, MIB};
use crate::http2::{INITIAL_WINDOW_SIZE, RawConnection, header_block, headers, message};
use anyhow::{Context, Result, ensure};
use client::{Client, Config};
use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use std::time::Duration;

const RANGE: &str = "/etcdserverpb.KV/Range";
/// The number of keys of the large range, and the length of each value.
const KEYS: usize = 20;
const VALUE: usize = 1_000_000;
/// How often all keys are overwritten and compacted: while the range is not read, and again after
/// the server must have dropped it.
const ROUNDS: usize = 4;
/// How much the database may grow in [`ROUNDS`] rounds: by the size of two rounds.
const GROWTH_MAX: u64 = 2 * (KEYS * VALUE) as u64;
/// The deadline of the range, and how long the test waits for it.
const DEADLINE: (&str, Duration) = ("1S", Duration::from_secs(2));
/// How long the server keeps a range whose client reads nothing.
const STALLED: Duration = Duration::from_secs(65);
const UNANSWERED: Duration = Duration::from_secs(10);

/// Requests all keys and reads nothing, while the keys are overwritten and compacted. After the
/// deadline of the range, or in the long form after the server's limit, the database must not grow
/// any more.
pub(super) fn range(attack: &mut Attack<'_>) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = Config::new(vec![attack.target.clients.to_string()]);
    let client = runtime.block_on(Client::connect(config))?;
    runtime.block_on(rewrite(&client))?;
    let mut requests = 0;
    for deadline in [true, false].into_iter().take(if attack.long { 2 } else { 1 }) {
        let more: &[(&str, &str)] = if deadline { &[("grpc-timeout", DEADLINE.0)] } else { &[] };
        let mut reader =
            RawConnection::open(attack.target.clients, &[(INITIAL_WINDOW_SIZE, 1_000)])?;
        let stream = reader.call(RANGE, more);
        let all =
            RangeRequest { key: "large".into(), range_end: "largf".into(), ..Default::default() };
        let sent = reader.wait(UNANSWERED, |reader| reader.data(stream, &message(&all), true));
        ensure!(sent, "the request of the range was not taken");
        let begun = reader.wait(UNANSWERED, |reader| reader.stream(stream).answered);
        ensure!(begun, "the range was not answered");
        for _ in 0..ROUNDS {
            runtime.block_on(rewrite(&client))?;
        }
        std::thread::sleep(if deadline { DEADLINE.1 } else { STALLED });
        runtime.block_on(rewrite(&client))?;
        let before = attack.target.db_bytes()?;
        for _ in 0..ROUNDS {
            runtime.block_on(rewrite(&client))?;
        }
        let growth = attack.target.db_bytes()?.saturating_sub(before);
        ensure!(
            growth <= GROWTH_MAX,
            "the range is over, but the database has grown by {} MiB in {ROUNDS} rounds",
            growth / MIB
        );
        requests += 1;
    }
    Ok(requests)
}

/// Overwrites all keys and compacts.
async fn rewrite(client: &Client) -> Result<()> {
    let mut revision = 0;
    for key in 0..KEYS {
        let key = format!("large/{key:02}").into();
        let put = PutRequest { key, value: vec![7; VALUE].into(), ..PutRequest::default() };
        let answer = client.put(put).await.context("put of a large value")?;
        revision = answer.header.map_or(0, |header| header.revision);
    }
    let compact = CompactionRequest { revision, physical: true };
    client.compact(compact).await.context("compact")?;
    Ok(())
}

/// Sends calls with 60 kB of headers. Only these calls may fail; a stream that was open before must
/// continue.
pub(super) fn heads(attack: &mut Attack<'_>) -> Result<u64> {
    let long = "x".repeat(60_000);
    let block = header_block(RANGE, &[("x-long", &long)]);
    attack.repeat(|attack| {
        let mut connection = RawConnection::open(attack.target.clients, &[])?;
        let before = connection.call(RANGE, &[]);
        let large = connection.next_stream();
        connection.send(&headers(large, &block, true));
        connection.wait(UNANSWERED, |connection| connection.stream(large).ended);
        ensure!(connection.stream(large).ended, "the call with 60 kB of headers has no end");
        let range = RangeRequest { key: "light".into(), ..RangeRequest::default() };
        connection.wait(UNANSWERED, |it| it.data(before, &message(&range), true));
        connection.wait(UNANSWERED, |connection| connection.stream(before).ended);
        let end = connection.stream(before);
        ensure!(
            end.ended && end.reset.is_none() && !connection.is_closed(),
            "60 kB of headers have ended another call: {end:?}"
        );
        Ok(1)
    })
}
