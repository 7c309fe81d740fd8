//! The cluster serves clients while faults happen, one after the other.

use super::ended::Ended;
use super::group::{Group, Plan};
use super::load::Load;
use super::nemesis::Nemesis;
use super::watchers::Watchers;
use anyhow::{Context as _, Result};
use sim::kv::calls::KvHistory;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A run of this mode.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The members.
    pub plan: Plan,
    /// The seed of clients and faults.
    pub seed: u64,
    /// How long faults happen.
    pub lasts: Duration,
    /// The time from the beginning of a fault to the beginning of the next.
    pub every: Duration,
}

/// Minimum, median and maximum, in milliseconds.
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
    /// Runs it. Returns a report.
    ///
    /// # Errors
    /// When a check fails. The members' directories are then kept, and named in the error.
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
        let load = Load::start(group, self.seed)?;
        let mut nemesis = Nemesis::new(self.seed, self.every);
        let struck = self.strike(group, &mut nemesis).await;
        let ended = Ended { group, load, watchers, first_term };
        if let Err(error) = struck {
            ended.stop(history).await?;
            return Err(error);
        }
        let mut report = String::new();
        for (kind, (count, leaders)) in &nemesis.done {
            writeln!(report, "{kind:20} {count:4}, of these the leader {leaders}")?;
        }
        let [theirs, ours] = nemesis.leaders;
        if ours > 0 {
            writeln!(report, "leaders struck: {theirs} of m0's program, {ours} of the other one")?;
        }
        write!(report, "{}", ended.check(history).await?)?;
        writeln!(report, "each member serves after a fault: {}", spread(&nemesis.recoveries))?;
        write!(report, "leader killed to next write: {}", spread(&nemesis.failovers))?;
        Ok(report)
    }

    async fn strike(&self, group: &mut Group, nemesis: &mut Nemesis) -> Result<()> {
        let began = Instant::now();
        for turn in 1_u32.. {
            let kinds = group.kinds();
            let wanted = turn.is_multiple_of(2);
            // In a cluster of two programs, each kind leads in turn.
            if let Some(at) = kinds.iter().position(|kind| *kind == wanted)
                && kinds.contains(&true)
            {
                group.lead(at).await?;
            }
            let strike = nemesis.choose(group).await;
            nemesis.leaders[usize::from(kinds[strike.member])] += u64::from(strike.is_leader);
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
