//! `check perf` and `check datascale`: many clients write keys, and the command deletes them
//! afterwards.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/{check,util}.go.

use crate::failure::{Code, CommandResult};
use crate::output;
use crate::pairs::Pairs;
use crate::session::{Session, connect};
use crate::verdict::{errors, verdict};
use cli::{Flags, go};
use client::{Client, Config, prefix_end};
use load::{Pace, Statistics};
use proto::etcdserverpb as pb;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The time limit of the requests that clean up.
const CLEANUP_TIME: Duration = Duration::from_secs(30);
/// How long `check perf` writes.
const PERF_TIME: Duration = Duration::from_secs(60);
/// The metric that `check datascale` reads.
const MEMORY: &str = "process_resident_memory_bytes";
const MIB: f64 = 1024.0 * 1024.0;
/// The exit code after a second SIGINT.
const KILLED_BY_INTERRUPT: i32 = 130;

/// A workload of `check perf`.
struct Rate {
    per_second: u32,
    clients: usize,
}

/// A workload of `check datascale`.
struct Scale {
    keys: u64,
    clients: usize,
}

/// The workload that `--load` selects.
fn workload<T>(flags: &Flags, [small, medium, large, extra]: [T; 4]) -> CommandResult<T> {
    let load = flags.text("load");
    match load.as_str() {
        "s" | "small" => Ok(small),
        "m" | "medium" => Ok(medium),
        "l" | "large" => Ok(large),
        "xl" | "xLarge" => Ok(extra),
        _ => Err(Code::BadFeature.with(format!("unknown load option {load}"))),
    }
}

/// Writes at a fixed rate and judges throughput and latency.
pub(crate) async fn perf(mut session: Session) -> CommandResult {
    let of = |per_second, clients| Rate { per_second, clients };
    let workloads = [of(150, 50), of(1_000, 200), of(8_000, 500), of(15_000, 1_000)];
    let Rate { per_second, clients } = workload(&session.flags, workloads)?;
    let check = Check::begin(&mut session, clients).await?;
    check.refuse_keys(|prefix| format!("'etcdctl del --prefix {prefix}'")).await?;
    let pace = Pace { per_second: Some(per_second), time: Some(PERF_TIME), count: None };
    let statistics = check.write(pace, (256, 1024), &stop_on_interrupt()).await;
    match check.client().with_timeout(CLEANUP_TIME).delete_range(check.all_keys()).await {
        Ok(deleted) => check.compact(revision(deleted.header)).await?,
        Err(error) => {
            output::line(&format!("FAIL: Cleanup failed during key deletion: ERROR({error})"))
        }
    }
    check.defragment().await?;
    let (text, passed) = verdict(&statistics, per_second);
    output::out(text.as_bytes());
    if passed { Ok(()) } else { Err(Code::Error.silent()) }
}

/// Writes many keys and prints how much the memory of the server has grown.
pub(crate) async fn datascale(mut session: Session) -> CommandResult {
    let of = |keys, clients| Scale { keys, clients };
    let workloads = [of(10_000, 50), of(100_000, 200), of(1_000_000, 500), of(3_000_000, 1_000)];
    let Scale { keys, clients } = workload(&session.flags, workloads)?;
    let check = Check::begin(&mut session, clients).await?;
    check.refuse_keys(|prefix| format!("etcdctl del --prefix {prefix}")).await?;
    let Some(before) = check.memory().await else { return unreadable("before") };
    output::line(&format!(
        "Start data scale check for work load [{keys} key-value pairs, 1024 bytes per key-value, \
         {clients} concurrent clients]."
    ));
    let stop = stop_on_interrupt();
    let pace = Pace { count: Some(keys), ..Pace::default() };
    let statistics = check.write(pace, (512, 512), &stop).await;
    let after = check.memory().await;
    // Deleting many keys may take long. While there is no connection, the reason is printed.
    let client = Client::connect(check.config.clone()).await?;
    tokio::spawn(session.report_while_unconnected(client.clone()));
    let deleted = client.delete_range(check.all_keys()).await?;
    check.compact(revision(deleted.header)).await?;
    check.defragment().await?;
    let Some(after) = after else { return unreadable("after") };
    let errors = errors(&statistics);
    if !errors.is_empty() {
        output::out(errors.as_bytes());
        return Err(Code::Error.silent());
    }
    if *stop.borrow() {
        return Err(Code::Interrupted.with("interrupted; the keys that were written are deleted"));
    }
    let used = (after - before) / MIB;
    output::line(&format!("PASS: Approximate system memory used : {used:.2} MB."));
    Ok(())
}

fn unreadable(when: &str) -> CommandResult {
    output::line(&format!("FAIL: Could not read {MEMORY} {when} the put operations."));
    Err(Code::Error.silent())
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Becomes true with the first SIGINT. The second one ends the process.
fn stop_on_interrupt() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        // If no handler can be installed, SIGINT ends the process at once.
        if tokio::signal::ctrl_c().await.is_ok() && sender.send(true).is_ok() {
            _ = tokio::signal::ctrl_c().await;
            std::process::exit(KILLED_BY_INTERRUPT);
        }
        // Keeps the sender: without it, a wait for the signal would fail.
        std::future::pending::<()>().await;
    });
    receiver
}

/// The common part of both checks.
struct Check {
    config: Config,
    clients: Vec<Client>,
    prefix: String,
    compacts: bool,
    defragments: bool,
}

impl Check {
    /// Reads the flags and creates the clients, each with its own connection.
    async fn begin(session: &mut Session, clients: usize) -> CommandResult<Check> {
        let config = session.open()?;
        let timeout = session.flags.duration("command-timeout");
        let mut connected = Vec::with_capacity(clients);
        for _ in 0..clients {
            connected.push(connect(config.clone()).await?.with_timeout(timeout));
        }
        Ok(Check {
            config,
            clients: connected,
            prefix: session.flags.text("prefix"),
            compacts: session.flags.bool("auto-compact"),
            defragments: session.flags.bool("auto-defrag"),
        })
    }

    fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// Fails if there are keys with the prefix, since the check would delete them. `how` returns
    /// the command that the user can delete them with.
    async fn refuse_keys(&self, how: impl FnOnce(&str) -> String) -> CommandResult {
        let request = pb::RangeRequest {
            key: self.first_key().into(),
            range_end: prefix_end(self.prefix.as_bytes()).into(),
            limit: 1,
            ..pb::RangeRequest::default()
        };
        if self.client().range(request).await?.kvs.is_empty() {
            return Ok(());
        }
        let prefix = go::quote(self.prefix.as_bytes());
        let how = how(&self.prefix);
        Err(Code::InvalidInput.with(format!("prefix {prefix} has keys. Delete with {how} first")))
    }

    /// The first key of the range of the prefix.
    fn first_key(&self) -> Vec<u8> {
        match self.prefix.as_bytes() {
            [] => vec![0],
            prefix => prefix.to_vec(),
        }
    }

    fn all_keys(&self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.first_key().into(),
            range_end: prefix_end(self.prefix.as_bytes()).into(),
            prev_kv: false,
        }
    }

    /// Writes keys and values of these sizes.
    async fn write(
        &self,
        pace: Pace,
        (key_bytes, value_bytes): (usize, usize),
        stop: &watch::Receiver<bool>,
    ) -> Statistics {
        let prefix = self.prefix.clone().into_bytes();
        let pairs = Arc::new(Pairs { prefix, key_bytes, value_bytes });
        let numbers = RandomState::new();
        let put = move |client: Client, number| {
            let put = pairs.pair(numbers.hash_one(number));
            async move { client.put(put).await.map(drop).map_err(|error| error.to_string()) }
        };
        load::run(self.clients.clone(), pace, stop, put).await.statistics()
    }

    /// The resident memory of the first endpoint's server in bytes. If it cannot be read, prints
    /// the reason.
    async fn memory(&self) -> Option<f64> {
        let text = match self.client().metrics().await {
            Ok(text) => text,
            Err(why) => {
                output::line(&format!("fetch error: {why}"));
                return None;
            }
        };
        let found = text.lines().find_map(|line| line.strip_prefix(MEMORY));
        let Some(value) = found.map(str::trim).filter(|value| !value.is_empty()) else {
            output::line(&format!("could not find: {MEMORY}"));
            return None;
        };
        match value.parse::<f64>() {
            Ok(bytes) => Some(bytes).filter(|bytes| *bytes != 0.0),
            Err(error) => {
                output::line(&format!("parse error: {error}"));
                None
            }
        }
    }

    async fn compact(&self, revision: i64) -> CommandResult {
        if !self.compacts {
            return Ok(());
        }
        output::line(&format!("Compacting with revision {revision}"));
        let client = self.client().with_timeout(CLEANUP_TIME);
        client.compact(pb::CompactionRequest { revision, physical: true }).await?;
        output::line(&format!("Compacted with revision {revision}"));
        Ok(())
    }

    async fn defragment(&self) -> CommandResult {
        if !self.defragments {
            return Ok(());
        }
        for endpoint in &self.config.endpoints {
            let shown = go::quote(endpoint.as_bytes());
            output::line(&format!("Defragmenting {shown}"));
            let mut config = self.config.clone();
            config.endpoints = vec![endpoint.clone()];
            let client = connect(config).await?.with_timeout(CLEANUP_TIME);
            client.defragment(pb::DefragmentRequest {}).await?;
            output::line(&format!("Defragmented {shown}"));
        }
        Ok(())
    }
}
