//! Single writes that show whether the cluster serves. Each has a key of its own below `probe/`.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use proto::etcdserverpb::PutRequest;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tonic::transport::Channel;

/// The first letters of the keys.
pub(super) const PREFIX: &[u8] = b"probe/";
/// How long one write may take.
const WRITE_TIME_MAX: Duration = Duration::from_secs(2);
/// The time between two writes until one is acknowledged.
const EVERY: Duration = Duration::from_millis(10);
/// How long to wait for an acknowledged write.
const PATIENCE: Duration = Duration::from_secs(40);

/// The writes.
#[derive(Debug)]
pub(super) struct Probes {
    channels: Vec<Channel>,
    began: Instant,
    next: AtomicU64,
    /// For each key, when its write began, in nanoseconds, and its revision if it was acknowledged.
    writes: Mutex<BTreeMap<Bytes, (u64, Option<i64>)>>,
}

impl Probes {
    /// Writes through these members.
    pub(super) fn new(channels: Vec<Channel>) -> Probes {
        let (next, writes) = (AtomicU64::new(0), Mutex::default());
        Probes { channels, began: Instant::now(), next, writes }
    }

    /// Nanoseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// All writes so far: when each began, and its revision if it was acknowledged.
    pub(super) fn writes(&self) -> MutexGuard<'_, BTreeMap<Bytes, (u64, Option<i64>)>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One write through a member. Returns its revision.
    pub(super) async fn write(&self, through: usize) -> Result<i64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = Bytes::from(format!("probe/{number:08}"));
        self.writes().insert(key.clone(), (self.now(), None));
        let mut kv = KvClient::new(self.channels[through].clone());
        let put = PutRequest { key: key.clone(), ..PutRequest::default() };
        let answer = timeout(WRITE_TIME_MAX, kv.put(put)).await.context("no answer")??;
        let revision = answer.into_inner().header.context("no header")?.revision;
        self.writes().entry(key).and_modify(|write| write.1 = Some(revision));
        Ok(revision)
    }

    /// Writes through these members until one of them acknowledges a write. Returns the time until
    /// then.
    pub(super) async fn next_acknowledged(
        self: &std::sync::Arc<Probes>,
        through: &[usize],
    ) -> Result<Duration> {
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        let mut ticks = interval(EVERY);
        for turn in 0.. {
            tokio::select! {
                _ = ticks.tick() => {
                    let (probes, at) = (std::sync::Arc::clone(self), through[turn % through.len()]);
                    under_way.spawn(async move { probes.write(at).await.is_ok() });
                }
                Some(Ok(true)) = under_way.join_next() => return Ok(began.elapsed()),
            }
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        anyhow::bail!("no write was acknowledged within {PATIENCE:?} through members {through:?}")
    }
}
