//! More load than two processors can carry, of many kinds: idle connections with watchers, large
//! ranges, puts beyond the quota, a disk that other processes keep busy, and all of it together. A
//! light client puts all the time. Its acknowledged puts must be stored at the end, its latencies
//! must stay near those without load, and the server must keep its memory within [`bound`] and give
//! it back afterwards.
//!
//! The threads that make the load run at the lowest priority, since in production they are on other
//! machines.

mod disk;
mod idle;
mod light;
mod puts;
mod ranges;
mod report;
mod scale;

pub use report::{Report, Row};
pub use scale::Scale;

use crate::attack::MIB;
use crate::memory::{PeakMemory, anonymous};
use crate::target::Target;
use anyhow::{Context, Result, anyhow, ensure};
use client::{Client, Config};
use light::LightPuts;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The quota of the database.
const QUOTA: u64 = 256 * MIB;
/// The light client's 99th percentile under load may be this many times the one without load.
const SLOWER_MAX: f64 = 5.0;
/// The memory after the run may be this many times the memory before it.
const KEPT_MAX: f64 = 1.5;

/// The memory in bytes that the server may use in addition to its idle memory, from the limits in
/// `ARCHITECTURE.md`: 64 MiB of requests in progress, the same again as entries of the log, 64 MiB
/// of waiting requests; the overlay; the events for two workers, in their mailboxes and in their
/// streams. A connection counts 32 KiB and a watcher 1 KiB.
#[must_use]
pub fn bound(scale: &Scale) -> u64 {
    let watchers = scale.connections * scale.watchers;
    let queues = (3 * 64 + 8 + 4 * 8) * MIB;
    queues + (scale.connections as u64) * 32 * 1024 + (watchers as u64) * 1024
}

/// Makes load until it is stopped.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<String>>,
}

impl Load {
    /// Runs `work` in a thread of the lowest priority. Waits until it drops the sender, which it
    /// does when the load has begun.
    fn start(
        work: impl FnOnce(&AtomicBool, mpsc::Sender<()>) -> Result<String> + Send + 'static,
    ) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let (begun, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            rustix::process::setpriority_process(None, 19).context("the priority of a thread")?;
            work(&end, begun)
        });
        // The sender is dropped when the load has begun, or has failed. In the second case, joining
        // the thread returns the error.
        wait.recv().unwrap_or_default();
        Ok(Load { stop, thread })
    }

    /// Stops it and returns a description of the work that it has done.
    fn end(self) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a load panicked"))?
    }
}

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Idle,
    Ranges,
    Puts,
}

const ALL: &[Kind] = &[Kind::Disk, Kind::Idle, Kind::Ranges, Kind::Puts];

/// The rows of the table: a name, and the loads that run.
const ROWS: &[(&str, &[Kind])] = &[
    ("alone", &[]),
    ("busy disk", &[Kind::Disk]),
    ("idle connections with watchers", &[Kind::Idle]),
    ("large ranges", &[Kind::Ranges]),
    ("puts over the quota", &[Kind::Puts]),
    ("all of it", ALL),
];

impl Kind {
    fn start(self, target: &Target, scale: &Scale, seed: u64) -> Result<Load> {
        let (clients, scale) = (target.clients, *scale);
        match self {
            Kind::Disk => {
                let dir = target.dir()?;
                Load::start(move |stop, begun| disk::keep_busy(&dir, stop, begun))
            }
            Kind::Idle => Load::start(move |stop, begun| idle::hold(clients, &scale, stop, begun)),
            Kind::Ranges => Load::start(move |stop, begun| ranges::ask(clients, stop, begun)),
            Kind::Puts => Load::start(move |stop, begun| puts::flood(clients, seed, stop, begun)),
        }
    }
}

/// Runs all rows against a new server.
///
/// # Errors
/// When the server or a load cannot be started, or an acknowledged put is lost.
pub async fn run(program: &Path, scale: &Scale, seed: u64) -> Result<Report> {
    let quota = QUOTA.to_string();
    let target = Target::start_with(program, None, &["--quota-backend-bytes", &quota]).await?;
    let config = Config::new(vec![target.clients.to_string()]);
    let client = Client::connect(config).await?;
    prepare(&client).await?;
    let report = tokio::task::block_in_place(|| rows(&target, scale, seed))?;
    Ok(report)
}

/// Writes the keys of the large ranges and of the flood, and reads them once. After that, bounded
/// structures of the server such as the page cache and the window of the log are full, and the
/// server has as many keys as at the end. So its memory at the end must be near the memory now.
async fn prepare(client: &Client) -> Result<()> {
    let flood = (0..puts::KEYS).map(|key| (format!("flood/{key}"), vec![7; puts::VALUE]));
    let large = (0..ranges::KEYS).map(|key| (ranges::key(key), vec![7; ranges::VALUE]));
    for (key, value) in flood.chain(large) {
        let (key, value) = (key.into(), value.into());
        client.put(PutRequest { key, value, ..PutRequest::default() }).await?;
    }
    for key in 0..puts::KEYS {
        let key = format!("flood/{key}").into();
        client.range(RangeRequest { key, ..RangeRequest::default() }).await?;
    }
    client.range(ranges::all()).await?;
    Ok(())
}

fn rows(target: &Target, scale: &Scale, seed: u64) -> Result<Report> {
    let pid = target.pid();
    let mut report = Report::default();
    let light = LightPuts::start(target.clients)?;
    for (name, kinds) in ROWS {
        let mut loads = Vec::new();
        let peak = PeakMemory::watch_anonymous(pid);
        for kind in *kinds {
            loads.push(kind.start(target, scale, seed)?);
        }
        light.take_times();
        let begun = Instant::now();
        std::thread::sleep(if *kinds == ALL { scale.together } else { scale.single });
        let (times, lasted) = (light.take_times(), begun.elapsed());
        let did: Result<Vec<String>> = loads.into_iter().map(Load::end).collect();
        report.rows.push(Row {
            name,
            times,
            lasted,
            peak: peak.end(),
            did: did.with_context(|| (*name).to_owned())?.join("; "),
        });
        if kinds.is_empty() {
            report.idle = anonymous(pid)?;
        }
    }
    report.after = settle(pid, report.idle, scale.give_back)?;
    report.acknowledged = light.end()?;
    Ok(report)
}

/// Waits until the process has given its memory back, or the time for it is over. Returns its
/// memory.
fn settle(pid: u32, idle: u64, limit: Duration) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let bytes = anonymous(pid)?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of memory")]
        let is_back = bytes as f64 <= idle as f64 * KEPT_MAX;
        if is_back || begun.elapsed() > limit {
            return Ok(bytes);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Fails if a figure is out of its bounds. Latencies are checked in the long form only: a short row
/// has few puts, and other work of the machine determines the slowest ones.
///
/// # Errors
/// Names the row and the figure.
pub fn check(report: &Report, scale: &Scale) -> Result<()> {
    for (row, slower) in report.rows.iter().zip(report.ratios()) {
        ensure!(row.times.failed == 0, "{}: {}", row.name, row.times.failure);
        ensure!(
            !scale.checks_times || slower <= SLOWER_MAX,
            "{}: the p99 is {slower:.1} times that alone",
            row.name
        );
        let taken = row.peak.saturating_sub(report.idle);
        let bound = bound(scale);
        ensure!(
            taken <= bound,
            "{}: the server took {} MiB, the bound is {} MiB",
            row.name,
            taken / MIB,
            bound / MIB
        );
    }
    let kept = report.kept();
    ensure!(kept <= KEPT_MAX, "the server keeps {kept:.2} times its idle memory");
    Ok(())
}
