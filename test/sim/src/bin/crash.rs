//! Crashes one member at the points of its simulated disk (its calls to the disk), and checks its
//! data after each crash.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Result, bail};
use clap::Parser;
use sim::crash::try_all;
use sim::faults::try_faults;
use sim::plan::{Kind, Plan};
use sim::restarts::try_restarts;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs a workload on one member on a simulated disk, takes images of the disk as a crash could
/// leave it at each point, and checks that the member starts on each and has lost nothing.
#[derive(Debug, Parser)]
struct Args {
    /// The seed of requests, scheduler and images.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many requests.
    #[arg(long, default_value_t = 1000)]
    ops: u64,
    /// Images are taken of every n-th point.
    #[arg(long, default_value_t = 50)]
    every: u64,
    /// How many images of each point.
    #[arg(long, default_value_t = 16)]
    images: u64,
    /// Only this point, to repeat a failure.
    #[arg(long)]
    point: Option<u64>,
    /// Threads that check images.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How many runs with a disk that fails once there are besides.
    #[arg(long, default_value_t = 0)]
    faults: u64,
    /// How many further runs with a sync that fails, a restart on the same page cache, and a power
    /// failure.
    #[arg(long, default_value_t = 0)]
    restarts: u64,
    /// How many seeds are tried, from the first on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// At how many points the database is written to `--into`, as the crash and as the next start
    /// left it.
    #[arg(long, default_value_t = 0, requires = "into")]
    write_images: u64,
    /// The directory for the databases.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Makes the disk ignore syncs of the log: the run must fail.
    #[arg(long)]
    lies: bool,
}

fn kinds(counts: &BTreeMap<Kind, u64>) -> String {
    let kinds: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    kinds.join(", ")
}

fn main() -> Result<()> {
    let args = Args::parse();
    for seed in args.seed..args.seed + args.seeds {
        let plan = Plan {
            seed,
            operations: args.ops,
            every: args.every.max(1),
            images: args.images,
            point: args.point,
            threads: args.threads,
            kept: args.write_images,
            lies: args.lies,
        };
        crash(plan, args.into.as_deref())?;
        if args.faults > 0 {
            fail(plan, args.faults)?;
        }
        if args.restarts > 0 {
            restart(plan, args.restarts)?;
        }
    }
    Ok(())
}

fn crash(plan: Plan, into: Option<&Path>) -> Result<()> {
    let started = Instant::now();
    let report = match try_all(plan) {
        Ok(report) => report,
        Err(failure) => bail!("{failure}"),
    };
    println!(
        "seed {}: {} requests in {} entries, {} compactions, revision {}",
        plan.seed, report.requests, report.entries, report.compactions, report.revision
    );
    println!("points: {}", kinds(&report.tally.all));
    println!("tried: {}", kinds(&report.tally.tried));
    println!(
        "{} readers read their moment whole, {} of them across commits",
        report.readers, report.readers_across_commits
    );
    let missing = report.missing();
    if !missing.is_empty() {
        bail!("seed {}: the run had no {}", plan.seed, missing.join(", no "));
    }
    if let Some(into) = into {
        std::fs::create_dir_all(into)?;
        for database in &report.databases {
            std::fs::write(into.join(format!("{}-{}", plan.seed, database.name)), &database.bytes)?;
        }
        println!("{} databases are in {}", report.databases.len(), into.display());
    }
    println!(
        "{} images of {} of {} points passed ({} with a second crash, {} with entries that were \
         not acknowledged) in {:.1} s",
        report.images,
        report.tally.tried.values().sum::<u64>(),
        report.tally.all.values().sum::<u64>(),
        report.second_crashes,
        report.with_more,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn fail(plan: Plan, runs: u64) -> Result<()> {
    let started = Instant::now();
    match try_faults(plan, runs) {
        Ok(faults) => {
            println!(
                "{runs} failing disks: {} members stopped, {} went on; {} starts passed, \
                 {} refused a write that stopped inside a sector; {:.1} s",
                faults.stopped,
                faults.went_on,
                faults.starts,
                faults.refused,
                started.elapsed().as_secs_f64()
            );
            Ok(())
        }
        Err(failure) => bail!("{failure}"),
    }
}

fn restart(plan: Plan, runs: u64) -> Result<()> {
    let started = Instant::now();
    match try_restarts(plan, runs) {
        Ok(restarts) => {
            println!(
                "{runs} failing syncs: {} members started again on the same page cache, {} went \
                 on; {} power failures after that passed; {:.1} s",
                restarts.restarted,
                restarts.went_on,
                restarts.images,
                started.elapsed().as_secs_f64()
            );
            Ok(())
        }
        Err(failure) => bail!("{failure}"),
    }
}
