//! etcd's alerts and Grafana dashboards, evaluated by a real Prometheus that scrapes three members under a
//! small load: every panel has data with the labels that it names, every alert has both sides of its
//! condition, and those about missing members fire when members are killed, and not before.

mod cluster;
mod mixin;
mod prometheus;

use anyhow::{Context as _, bail};
use clap::Parser;
use mixin::Row;
use prometheus::Prometheus;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long an expression may take to have its result. One of them looks at the value once a minute.
const TIME_MAX: Duration = Duration::from_secs(240);
/// The pause between two rounds of queries.
const PAUSE: Duration = Duration::from_millis(500);
/// The first one fires without one of three members, the others without two.
const MISSING_MEMBERS: [&str; 3] = ["etcdMembersDown", "etcdInsufficientMembers", "etcdNoLeader"];

/// Evaluates etcd's alerts and dashboards.
#[derive(Debug, Parser)]
struct Arguments {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Prometheus, 2.x or newer.
    #[arg(long)]
    prometheus: PathBuf,
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let mut members = cluster::start(&arguments.ours, folder.path())?;
    let addresses: Vec<String> = members.iter().map(|member| member.address.clone()).collect();
    let targets: Vec<&str> = addresses.iter().map(|address| &**address).collect();
    let mut prometheus = Prometheus::start(&arguments.prometheus, folder.path(), &targets)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = cluster::load(addresses.clone());
    std::thread::spawn(move || runtime.block_on(load));
    let rows = mixin::rows()?;
    wait("panels and alerts", || faults(&mut prometheus, &rows))?;
    // How many of the alerts about missing members fire with so many members.
    for (alive, firing) in [(3, 0), (2, 1), (1, 3)] {
        members.truncate(alive);
        wait("alerts about missing members", || {
            let mut faults = Vec::new();
            for (place, name) in MISSING_MEMBERS.iter().enumerate() {
                let fires = fires(&mut prometheus, &rows, name)?;
                if fires != (place < firing) {
                    faults.push(format!("with {alive} members {name}: {fires}"));
                }
            }
            Ok(faults)
        })?;
    }
    let alerts = rows.iter().filter(|row| row.condition.is_some()).count();
    println!("{} panels and {alerts} alerts have data with their labels", rows.len() - alerts);
    Ok(())
}

/// Waits until there are no faults.
fn wait(what: &str, mut faults: impl FnMut() -> anyhow::Result<Vec<String>>) -> anyhow::Result<()> {
    let end = Instant::now() + TIME_MAX;
    loop {
        let found = faults().unwrap_or_else(|error| vec![format!("{error:#}")]);
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("{what}:\n{}", found.join("\n"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether the condition of an alert holds.
fn fires(prometheus: &mut Prometheus, rows: &[Row], alert: &str) -> anyhow::Result<bool> {
    let row = rows.iter().find(|row| row.name == alert).context("no such alert")?;
    let condition = row.condition.as_ref().context("not an alert")?;
    Ok(!prometheus.query(condition)?.is_empty())
}

/// Expressions without data or with other labels.
fn faults(prometheus: &mut Prometheus, rows: &[Row]) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for row in rows {
        for expression in &row.shown {
            let mut samples = prometheus.query(expression)?;
            // What stands in for the time before the first scrape has no labels.
            let stands_in = expression.contains("absent(");
            samples.retain(|sample| !(stands_in && sample.labels.is_empty()));
            // A quantile of methods that were not called is not a number.
            if !samples.iter().any(|sample| sample.value.is_finite()) {
                faults.push(format!("{}: empty: {expression}", row.name));
            }
            for sample in samples {
                let labels: BTreeSet<String> = sample.labels.keys().cloned().collect();
                if labels != row.labels {
                    faults.push(format!("{}: labels {labels:?}: {expression}", row.name));
                }
            }
        }
        if let Some(condition) = &row.condition {
            prometheus.query(condition)?;
        }
    }
    Ok(faults)
}
