//! The cluster serves clients while faults happen, one after the other.

use super::checks;
use super::group::{Group, MEMBERS, Plan};
use super::load::Load;
use super::nemesis::Nemesis;
use super::watchers::Watchers;
use anyhow::{Context as _, Result, ensure};
use sim::kv::calls::{KvCall, KvHistory};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The number of clients from which on nobody else's calls are counted.
const LAST_READER: u32 = 1_000;

/// What is done.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The members.
    pub plan: Plan,
    /// The seed of clients and faults.
    pub seed: u64,
    /// How long faults happen.
    pub lasts: Duration,
    /// The time from the beginning of a fault to that of the next.
    pub every: Duration,
}

/// Smallest, middle and largest, in milliseconds.
pub(super) fn spread(times: &[Duration]) -> String {
    let mut times: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    times.sort_unstable();
    match times[..] {
        [] => "none".to_owned(),
        [first, ..] => {
            let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
            format!("{first} / {middle} / {last} ms (smallest, median, largest of {})", times.len())
        }
    }
}

impl Faults {
    /// Does it. Returns a report.
    ///
    /// # Errors
    /// What is wrong. The members' directories are then kept, and named.
    pub async fn run(&self) -> Result<String> {
        let mut group = Group::start(&self.plan).await?;
        let mut history = KvHistory::default();
        match self.run_with(&mut group, &mut history).await {
            Ok(report) => Ok(report),
            Err(error) => {
                let calls: Vec<String> =
                    history.calls.iter().map(|timed| format!("{timed:?}")).collect();
                let kept: Vec<PathBuf> = group.keep().into_iter().map(PathBuf::from).collect();
                std::fs::write(kept[0].join("history"), calls.join("\n"))?;
                Err(error.context(format!("data, logs and the clients' history are in {kept:?}")))
            }
        }
    }

    async fn run_with(&self, group: &mut Group, history: &mut KvHistory) -> Result<String> {
        let first_term = group.nodes[0].status().await?.raft_term;
        let watchers = Watchers::start(group)?;
        let mut load = Load::start(group, self.seed)?;
        let mut nemesis = Nemesis::new(self.seed, self.every);
        let struck = self.strike(group, &mut nemesis).await;
        load.end().await?;
        history.calls = load.record.take();
        struck?;
        for (at, node) in group.nodes.iter().enumerate() {
            let client = LAST_READER + u32::try_from(at)?;
            let call = KvCall::one(checks::everything());
            let answer = load.record.call(client, &node.channel()?, call).await;
            answer.with_context(|| format!("m{at} does not answer the last read"))?;
        }
        history.calls.extend(load.record.take());
        let last = group.probes.write(0).await?;
        let told = watchers.end(last).await?;
        checks::complete(&told, last)?;
        let writes = checks::nothing_lost(group, history, &told[0].events)?;
        let hash = checks::equal(group, &told, last).await?;
        group.check_logs()?;
        history.others = checks::others(group, &told[0].events);
        let open = history.calls.iter().filter(|timed| timed.ended.is_none()).count();
        checks::settle(history, &told[0].events);
        let unsettled = history.calls.iter().filter(|it| it.call.answer.is_none()).count();
        let search = Instant::now();
        let undecided = checks::linearizable(history)?;
        let searched = search.elapsed();
        let mut report = String::new();
        for (kind, (count, leaders)) in &nemesis.done {
            writeln!(report, "{kind:20} {count:4}, of these the leader {leaders}")?;
        }
        let resumed: Vec<u64> = told.iter().map(|told| told.begun).collect();
        let elections = group.nodes[0].status().await?.raft_term - first_term;
        writeln!(report, "terms of leaders: {elections} since the first")?;
        writeln!(report, "calls: {}, of these without an answer {open}", history.calls.len())?;
        writeln!(report, "acknowledged writes: {writes}, none lost")?;
        let verdict = if undecided == 0 {
            "linearizable".to_owned()
        } else {
            format!("NOT DECIDED: {undecided} searches for an order were given up; revisions fit")
        };
        writeln!(
            report,
            "history: {verdict}; {unsettled} calls not settled by events; searched for {:.1} s",
            searched.as_secs_f64()
        )?;
        writeln!(
            report,
            "watchers: {} events each, complete and in order; begun {resumed:?} times",
            told[0].events.len()
        )?;
        writeln!(report, "HashKV at revision {last}: {hash:08x} at all {MEMBERS} members")?;
        writeln!(report, "each member serves after a fault: {}", spread(&nemesis.recoveries))?;
        write!(report, "leader killed to next write: {}", spread(&nemesis.failovers))?;
        ensure!(undecided == 0, "it is not known whether the history is linearizable:\n{report}");
        Ok(report)
    }

    async fn strike(&self, group: &mut Group, nemesis: &mut Nemesis) -> Result<()> {
        let began = Instant::now();
        for turn in 1.. {
            let strike = nemesis.choose(group).await;
            let what = || format!("fault {turn}, {strike:?}");
            nemesis.strike(group, strike).await.with_context(what)?;
            let next = began + self.every * turn;
            if next > began + self.lasts {
                break;
            }
            tokio::time::sleep_until(next.into()).await;
        }
        Ok(())
    }
}
