//! Under load, each member is replaced in place by another program, and later by the first one
//! again.

use super::ended::Ended;
use super::group::{Group, MEMBERS, Plan};
use super::leases::Leases;
use super::load::Load;
use super::watchers::Watchers;
use anyhow::{Context as _, Result, ensure};
use conformance::cluster::until_done;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use sim::kv::calls::KvHistory;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many calls must be answered between two replacements.
const CALLS: u64 = 300;
/// How long these calls may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The errors that clients may get while a member ends or the leader changes.
const EXPECTED: [&str; 9] = [
    "no answer in time",
    "Unavailable: the connection",
    "Unknown: the connection",
    "Cancelled: the connection",
    "Unavailable: etcdserver: leader changed",
    "Unavailable: etcdserver: request timed out",
    "Unavailable: etcdserver: request timed out, possibly due to previous leader failure",
    "Unavailable: etcdserver: server stopped",
    "Unavailable: etcdserver: no leader",
];

/// A run of this mode.
#[derive(Clone, Debug)]
pub struct Replace {
    /// The members at the beginning and at the end.
    pub plan: Plan,
    /// The program of all members in the middle.
    pub by: PathBuf,
    /// The seed of clients and of the order of members.
    pub seed: u64,
}

impl Replace {
    /// Runs it. Returns a report.
    ///
    /// # Errors
    /// When a check fails. The members' directories are then kept, and named in the error.
    pub async fn run(&self) -> Result<String> {
        let mut group = Group::start(&self.plan).await?;
        let ended = self.run_with(&mut group).await;
        group.kept_if_failed(ended)
    }

    async fn run_with(&self, group: &mut Group) -> Result<String> {
        let first_term = group.nodes[0].status().await?.raft_term;
        let version = decided_version(group).await?;
        let watchers = Watchers::start(group)?;
        let load = Load::start(group, self.seed)?;
        let leases = Leases::start(group).await?;
        let mut order: Vec<usize> = (0..MEMBERS).collect();
        order.shuffle(&mut StdRng::seed_from_u64(self.seed));
        let mut report = String::new();
        let mut steps: Vec<(usize, &Path)> = order.iter().map(|at| (*at, &*self.by)).collect();
        steps.extend(order.iter().map(|at| (*at, &*self.plan.programs[*at])));
        for (number, (at, program)) in steps.into_iter().enumerate() {
            // Kills the leader of a mixed cluster at the second step and at the last but one.
            let is_killed = number == 1 || number == 4;
            if is_killed {
                group.lead(at).await?;
            }
            let was_leader = group.agreed_leader().await? == at;
            let how = if is_killed { "kill -9" } else { "SIGTERM" };
            group.replace(at, program, is_killed).await?;
            let what = || format!("m{at} becomes {}", program.display());
            let served = group.served().await.with_context(what)?;
            let leader = if was_leader { ", the leader," } else { "" };
            writeln!(
                report,
                "m{at}{leader} ended by {how} and became {}; all serve after {} ms",
                if program == self.by { "ours" } else { "theirs" },
                served.as_millis()
            )?;
            let now = group.nodes[at].cluster_version().await?;
            ensure!(now == version, "the cluster's version {version} became {now}");
            more_calls(&load).await?;
        }
        let renewals = leases.end(group).await?;
        writeln!(
            report,
            "leases: {renewals} renewals, none lost, and the one not renewed is gone"
        )?;
        let mut history = KvHistory::default();
        let errors = load.record.errors();
        let unexpected = errors.keys().find(|error| !EXPECTED.contains(&error.as_str()));
        ensure!(unexpected.is_none(), "clients were told: {errors:#?}");
        let ended = Ended { group, load, watchers, first_term };
        write!(report, "{}", ended.check(&mut history).await?)?;
        write!(report, "the cluster's version is still {version}")?;
        Ok(report)
    }
}

/// The version of the cluster, once the leader knows all members.
async fn decided_version(group: &Group) -> Result<String> {
    let look = || async {
        let version = group.nodes[0].cluster_version().await?;
        let is_decided = !["not_decided", "3.0.0"].contains(&version.as_str());
        ensure!(is_decided, "not decided: {version}");
        Ok(version)
    };
    until_done("not decided", look).await
}

/// Waits until [`CALLS`] more calls are answered.
async fn more_calls(load: &Load) -> Result<()> {
    let (wanted, deadline) = (load.record.answered() + CALLS, Instant::now() + PATIENCE);
    while load.record.answered() < wanted {
        ensure!(Instant::now() < deadline, "clients are not answered");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
