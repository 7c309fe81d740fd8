//! The light client: it puts one key after the other, with a pause. Each put has a key of its own.

use super::report::Times;
use anyhow::{Context, Result, anyhow, ensure};
use client::{Client, Config, prefix_end};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause between two puts.
const PAUSE: Duration = Duration::from_millis(5);
/// The deadline of a put.
const DEADLINE: Duration = Duration::from_secs(10);
const PREFIX: &str = "light/";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// The thread of the light client.
#[derive(Debug)]
pub(super) struct LightPuts {
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Times>>,
    thread: JoinHandle<Result<u64>>,
}

impl LightPuts {
    pub(super) fn start(clients: SocketAddr) -> Result<LightPuts> {
        let stop = Arc::new(AtomicBool::new(false));
        let times = Arc::new(Mutex::new(Times::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, noted) = (Arc::clone(&stop), Arc::clone(&times));
        let thread = std::thread::spawn(move || runtime.block_on(put_all(clients, &end, &noted)));
        Ok(LightPuts { stop, times, thread })
    }

    /// The times since the last call.
    pub(super) fn take_times(&self) -> Times {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops it, and checks that every acknowledged put is stored. Returns their number.
    pub(super) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the light client panicked"))?
    }
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:09}")
}

async fn put_all(clients: SocketAddr, stop: &AtomicBool, times: &Mutex<Times>) -> Result<u64> {
    let client = Client::connect(Config::new(vec![clients.to_string()])).await?;
    let client = client.with_timeout(DEADLINE);
    let mut acknowledged = BTreeSet::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let put = PutRequest { key: key(number).into(), value: "x".into(), ..Default::default() };
        let begun = Instant::now();
        let answer = client.put(put).await;
        let took = begun.elapsed();
        {
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(_) => {
                    times.acknowledged.push(took);
                    acknowledged.insert(key(number));
                }
                Err(error) if error.to_string().contains(NO_SPACE) => times.refused += 1,
                Err(error) => {
                    times.failed += 1;
                    times.failure = format!("put {number} after {took:?}: {error}");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let count = acknowledged.len() as u64;
    missing(&client, acknowledged).await?;
    Ok(count)
}

/// Fails if one of these keys is not stored.
async fn missing(client: &Client, mut keys: BTreeSet<String>) -> Result<()> {
    let range = RangeRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX.as_bytes()).into(),
        keys_only: true,
        ..RangeRequest::default()
    };
    let stored = client.range(range).await.context("the keys of the light client")?;
    for kv in stored.kvs {
        keys.remove(String::from_utf8_lossy(&kv.key).as_ref());
    }
    ensure!(keys.is_empty(), "{} acknowledged puts are lost: {:?} …", keys.len(), keys.first());
    Ok(())
}
