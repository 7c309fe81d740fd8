//! A light client, and the probes of an orchestrator. The server must answer both whatever other
//! clients do.

use crate::target::Target;
use anyhow::{Context, Result, bail, ensure};
use client::{Client, Config};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tour::server::http_get;

/// A request without an answer for this long counts as unanswered.
const UNANSWERED: Duration = Duration::from_secs(10);
/// The pauses between two requests and between two rounds of probes.
const PAUSE: Duration = Duration::from_millis(10);
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// The result of the light client or of the probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct LightResult {
    /// Requests that were answered.
    pub answered: u64,
    /// The longest time for one of them.
    pub slowest: Duration,
}

impl LightResult {
    fn count(&mut self, begun: Instant) {
        self.answered += 1;
        self.slowest = self.slowest.max(begun.elapsed());
    }
}

/// The light client and the probes, each in a thread.
#[derive(Debug)]
pub struct LightClient {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Result<LightResult>>,
    probes: JoinHandle<Result<LightResult>>,
}

impl LightClient {
    /// Starts both.
    ///
    /// # Errors
    /// When the client has no runtime.
    pub fn start(target: &Target) -> Result<LightClient> {
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (clients, end) = (target.clients, Arc::clone(&stop));
        let calls = std::thread::spawn(move || runtime.block_on(call(clients, &end)));
        let (ports, end) = (target.ports(), Arc::clone(&stop));
        let probes = std::thread::spawn(move || probe(ports, &end));
        Ok(LightClient { stop, calls, probes })
    }

    /// Stops both and returns the results of the client and of the probes.
    ///
    /// # Errors
    /// When one of their requests was not answered, or got a wrong answer.
    pub fn end(self) -> Result<(LightResult, LightResult)> {
        self.stop.store(true, Ordering::Relaxed);
        let (Ok(calls), Ok(probes)) = (self.calls.join(), self.probes.join()) else {
            bail!("a thread of the light client panicked");
        };
        Ok((calls.context("the light client")?, probes.context("a probe")?))
    }
}

async fn call(address: SocketAddr, stop: &AtomicBool) -> Result<LightResult> {
    let client = Client::connect(Config::new(vec![address.to_string()])).await?;
    let client = client.with_timeout(UNANSWERED);
    let mut result = LightResult::default();
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{round}");
        let begun = Instant::now();
        let (key, bytes) = ("light", value.clone().into());
        let put = PutRequest { key: key.into(), value: bytes, ..PutRequest::default() };
        client.put(put).await.with_context(|| format!("put {round}"))?;
        result.count(begun);
        let begun = Instant::now();
        let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
        let answer = client.range(range).await.with_context(|| format!("get {round}"))?;
        result.count(begun);
        let stored = answer.kvs.first().map(|kv| kv.value.clone()).unwrap_or_default();
        ensure!(stored == value, "{value} was put, {stored:?} is stored");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(result)
}

/// Sends probes. Each has a connection of its own, like those of an orchestrator.
fn probe([clients, peers, metrics]: [SocketAddr; 3], stop: &AtomicBool) -> Result<LightResult> {
    let probes = [
        (clients, "/health"),
        (clients, "/livez"),
        (peers, "/version"),
        (metrics, "/health"),
        (metrics, "/readyz"),
    ];
    let mut result = LightResult::default();
    while !stop.load(Ordering::Relaxed) {
        for (address, path) in probes {
            let begun = Instant::now();
            let answer = http_get(address, path, UNANSWERED);
            let answer = answer.with_context(|| format!("{path} of {address}"))?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{path} of {address}: {answer:?}");
            result.count(begun);
        }
        std::thread::sleep(PROBE_PAUSE);
    }
    Ok(result)
}
