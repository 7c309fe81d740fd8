//! One thread of the server is stopped while clients put as much as they can. The server must keep
//! its memory within its limits, and answer requests or refuse them with etcd's errors. When the
//! thread continues, the server must serve again, and no acknowledged put may be lost.
//!
//! A thread is stopped with ptrace, as a debugger does it, because a signal would stop the whole
//! process.
//!
//! Source: ptrace(2), `PTRACE_SEIZE` and `PTRACE_INTERRUPT`.

use crate::attack::MIB;
use crate::faults::Outcome;
use crate::light::LightResult;
use crate::memory::{PeakMemory, anonymous};
use crate::target::Target;
use crate::upload::Uploader;
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use client::{Client, Config, prefix_end};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread is stopped in the short and in the long form.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(10);
/// The flood: 800 MiB at once, several times as much as the server may keep.
const CONNECTIONS: usize = 32;
const STREAMS: usize = 400;
const VALUE: usize = 64 * 1024;
const KEYS: u32 = 200;
/// The memory that the server may use during a stop, in bytes: 64 MiB of requests each at
/// admission, in the queue of consensus, in consensus and in the log; 16 MiB for the round that is
/// written and for the end of the log; the window of 4 MiB of each connection; 32 MiB of caches; 6
/// KiB for each stream. An eighth more for fragmentation in the allocator.
///
/// When a request times out, it frees its place at admission, but not its memory further on. So
/// this much memory is used only if a stop lasts longer than the timeout of 7 s.
const MEMORY_MAX: u64 = (MIB * (4 * 64 + 16 + CONNECTIONS as u64 * 4 + 32)
    + (CONNECTIONS * STREAMS) as u64 * 6 * 1024)
    / 8
    * 9;
/// The memory that it may keep: its caches, and memory that the allocator does not return.
const KEPT_MAX: u64 = 80 * MIB;
const GIVE_BACK: Duration = Duration::from_secs(10);
/// Clients that put one after the other, each call with a deadline.
const CALLERS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(2);
/// How long the server may take until it answers again.
const GO_ON: Duration = Duration::from_secs(20);
const PREFIX: &str = "stop/";
/// The quota of 16 GiB: the threads that are not stopped store several GiB.
const QUOTA: &str = "--quota-backend-bytes=17179869184";

/// A thread that is stopped.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// The name for `--only`.
    pub name: &'static str,
    thread: &'static str,
}

/// All of them.
pub const STOPS: &[Stop] = &[
    Stop { name: "stop-worker", thread: "worker-0" },
    Stop { name: "stop-consensus", thread: "consensus" },
    Stop { name: "stop-log", thread: "log" },
    Stop { name: "stop-apply", thread: "apply" },
    Stop { name: "stop-backend", thread: "backend" },
];

impl Stop {
    /// Starts a server and stops its thread.
    ///
    /// # Errors
    /// When the server fails a check. `outcome` has the measurements until then.
    pub async fn run(
        &self,
        program: &Path,
        seed: u64,
        long: bool,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let target = Target::start_with(program, None, &[QUOTA]).await?;
        let lasts = if long { LONG } else { SHORT };
        let (clients, pid) = (target.clients, target.pid());
        outcome.memory[0] = anonymous(pid)?;
        let peak = PeakMemory::watch_anonymous(pid);
        let end = AtomicBool::new(false);
        let result = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let flood = scope.spawn(|| flood(clients, seed, &end));
                let callers = scope.spawn(|| call_all(clients, &end));
                let stopped = hold(pid, self.thread, lasts);
                end.store(true, Ordering::Relaxed);
                let flood = flood.join().map_err(|_| anyhow!("the flood panicked"))?;
                let calls = callers.join().map_err(|_| anyhow!("a caller panicked"))?;
                stopped.with_context(|| format!("the thread {}", self.thread))?;
                Ok::<_, anyhow::Error>((flood?, calls?))
            })
        });
        outcome.memory[1] = peak.end();
        let (puts, calls) = result?;
        outcome.requests = puts + calls.count;
        outcome.calls = LightResult { answered: calls.count, slowest: calls.slowest };
        goes_on(clients, calls.acknowledged).await?;
        outcome.memory[2] = settle(pid, outcome.memory[0] + KEPT_MAX).await?;
        target.check_log()?;
        let [before, peak, after] = outcome.memory;
        let taken = peak.saturating_sub(before);
        let limits =
            [(taken, MEMORY_MAX, "took"), (after.saturating_sub(before), KEPT_MAX, "kept")];
        for (bytes, bound, verb) in limits {
            let (mib, bound_mib) = (bytes / MIB, bound / MIB);
            ensure!(bytes <= bound, "the server {verb} {mib} MiB, the bound is {bound_mib} MiB");
        }
        Ok(())
    }
}

/// Stops the thread of this name, waits, and lets it continue.
fn hold(pid: u32, thread: &str, lasts: Duration) -> Result<()> {
    let thread = find(pid, thread)?;
    // Only the thread that has seized another one may stop it.
    ptrace::seize(thread, ptrace::Options::empty()).context("seize")?;
    ptrace::interrupt(thread).context("interrupt")?;
    waitpid(thread, Some(WaitPidFlag::__WALL)).context("wait for its stop")?;
    std::thread::sleep(lasts);
    ptrace::detach(thread, None).context("detach")?;
    // The flood continues for as long, so that the waiting requests are answered under load.
    std::thread::sleep(lasts.min(SHORT));
    Ok(())
}

fn find(pid: u32, name: &str) -> Result<Pid> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let comm = std::fs::read_to_string(path.join("comm"))?;
        if comm.trim() == name {
            let number =
                path.file_name().and_then(|name| name.to_str()).context("a task's name")?;
            return Ok(Pid::from_raw(number.parse()?));
        }
    }
    bail!("the server has no such thread")
}

/// Puts as much as the server takes. Returns how many puts were answered.
fn flood(clients: SocketAddr, seed: u64, end: &AtomicBool) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let all: Result<Vec<Uploader>> = (0..CONNECTIONS).map(|_| Uploader::open(clients)).collect();
    let (mut all, value) = (all?, Bytes::from(vec![7; VALUE]));
    let mut answered = 0;
    while !end.load(Ordering::Relaxed) {
        for uploader in &mut all {
            let next = || (format!("flood/{}", rng.random_range(0..KEYS)), value.clone());
            answered += uploader.turn(STREAMS, next);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(answered)
}

/// The results of the callers.
#[derive(Debug, Default)]
struct Calls {
    count: u64,
    slowest: Duration,
    acknowledged: BTreeSet<String>,
}

impl Calls {
    fn add(&mut self, other: Calls) {
        self.count += other.count;
        self.slowest = self.slowest.max(other.slowest);
        self.acknowledged.extend(other.acknowledged);
    }
}

fn call_all(clients: SocketAddr, end: &AtomicBool) -> Result<Calls> {
    std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| scope.spawn(move || call(clients, caller, end))).collect();
        let mut all = Calls::default();
        for caller in callers {
            all.add(caller.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        Ok(all)
    })
}

/// Puts one key after the other, each on a worker that the server chooses.
fn call(clients: SocketAddr, caller: usize, end: &AtomicBool) -> Result<Calls> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(Config::new(vec![clients.to_string()])).await?;
        let client = client.with_timeout(DEADLINE);
        let mut calls = Calls::default();
        while !end.load(Ordering::Relaxed) {
            let key = format!("{PREFIX}{caller:02}/{:06}", calls.count);
            let begun = Instant::now();
            let put = PutRequest { key: key.clone().into(), ..PutRequest::default() };
            match client.put(put).await {
                Ok(_) => drop(calls.acknowledged.insert(key)),
                Err(error) => ensure!(is_expected(error.message()), "{key}: {error}"),
            }
            calls.count += 1;
            calls.slowest = calls.slowest.max(begun.elapsed());
        }
        Ok(calls)
    })
}

/// Whether this is an error that a client may get while a thread is stopped.
fn is_expected(message: &str) -> bool {
    let expected = [
        "etcdserver: too many requests",
        "etcdserver: request timed out",
        "context deadline exceeded",
    ];
    expected.contains(&message)
}

/// Checks that the server answers again, and has every acknowledged key.
async fn goes_on(clients: SocketAddr, mut acknowledged: BTreeSet<String>) -> Result<()> {
    let client = Client::connect(Config::new(vec![clients.to_string()])).await?;
    let begun = Instant::now();
    loop {
        let put = PutRequest { key: "goes-on".into(), ..PutRequest::default() };
        match client.with_timeout(DEADLINE).put(put).await {
            Ok(_) => break,
            Err(error) if begun.elapsed() > GO_ON => bail!("the server does not go on: {error}"),
            Err(_) => {}
        }
    }
    let (key, range_end) = (PREFIX.into(), prefix_end(PREFIX.as_bytes()).into());
    let range = RangeRequest { key, range_end, keys_only: true, ..RangeRequest::default() };
    for kv in client.range(range).await?.kvs {
        acknowledged.remove(String::from_utf8_lossy(&kv.key).as_ref());
    }
    ensure!(acknowledged.is_empty(), "acknowledged puts are lost: {:?} …", acknowledged.first());
    Ok(())
}

/// Waits until the process has at most `wanted` bytes of memory, or the time for it is over.
async fn settle(pid: u32, wanted: u64) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let bytes = anonymous(pid)?;
        if bytes <= wanted || begun.elapsed() > GIVE_BACK {
            return Ok(bytes);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
