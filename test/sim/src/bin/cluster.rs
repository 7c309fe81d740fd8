//! Runs simulated clusters, each from its seed, and reports the failures.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Result, bail};
use clap::Parser;
use sim::cluster::{ClusterPlan, ClusterReport, Counts, FaultKind, run};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs simulated clusters with faults, and checks all guarantees for clients.
#[derive(Debug, Parser)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The virtual minutes of each.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// No further seed begins after this many seconds of real time; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// The wanted cluster-hours: the run fails with fewer, and no further seed begins after as
    /// many.
    #[arg(long, default_value_t = 0.0)]
    hours: f64,
    /// How many members; 0 lets the seed choose.
    #[arg(long, default_value_t = 0)]
    members: usize,
    /// The only kinds of faults, by name; all if none is named.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// How many seeds run at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Continues after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Runs each seed twice, and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Prints what happens.
    #[arg(long)]
    verbose: bool,
}

/// The sums over all seeds.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    seconds: u64,
    hours: f64,
    counts: Counts,
    asked: BTreeSet<FaultKind>,
}

impl Sums {
    fn add(&mut self, report: &ClusterReport) {
        self.seeds += 1;
        self.seconds += report.seconds;
        self.hours += report.hours();
        self.counts.add(&report.counts);
        self.asked.extend(&report.kinds);
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut faults = Vec::new();
    for name in &args.faults {
        match FaultKind::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => faults.push(*kind),
            None => bail!("there is no fault {name}"),
        }
    }
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(args.seed), AtomicU64::new(0));
    let sums = Mutex::new(Sums::default());
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let is_late = args.seconds > 0 && started.elapsed().as_secs() >= args.seconds;
                    let hours = sums.lock().map_or(0.0, |sums| sums.hours);
                    let is_late = is_late || (args.hours > 0.0 && hours >= args.hours);
                    let stops = !args.keep_going && failed.load(Ordering::Relaxed) > 0;
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.seed + args.seeds || is_late || stops {
                        return;
                    }
                    let is_well = one(&args, &faults, seed, &sums);
                    failed.fetch_add(u64::from(!is_well), Ordering::Relaxed);
                }
            });
        }
    });
    let failed = failed.into_inner();
    if let Ok(sums) = sums.into_inner() {
        summary(&sums, started, args.threads);
        if sums.hours < args.hours && failed == 0 {
            bail!("only {:.1} of {} cluster-hours were simulated", sums.hours, args.hours);
        }
        let silent: Vec<&str> = sums
            .asked
            .iter()
            .filter(|kind| sums.counts.faults.count(**kind) == 0)
            .map(|kind| kind.name())
            .collect();
        if !silent.is_empty() && failed == 0 {
            bail!("kinds of faults that were asked for and never happened: {}", silent.join(", "));
        }
    }
    if failed > 0 {
        bail!("{failed} seeds failed");
    }
    Ok(())
}

/// Runs a seed. Returns whether it passed.
fn one(args: &Args, faults: &[FaultKind], seed: u64, sums: &Mutex<Sums>) -> bool {
    let plan = ClusterPlan {
        seed,
        seconds: args.minutes * 60,
        members: args.members,
        faults: faults.to_vec(),
        verbose: args.verbose,
    };
    let replay = format!(
        "cluster --seed {seed} --minutes {} --members {}{}",
        args.minutes,
        args.members,
        if args.faults.is_empty() {
            String::new()
        } else {
            format!(" --faults {}", args.faults.join(","))
        }
    );
    let mut result = run(&plan);
    if args.twice
        && let (Ok(one), Ok(other)) = (&result, run(&plan))
        && *one != other
    {
        result = Err(("the same seed was another run".to_owned(), Box::new(other)));
    }
    let report = match &result {
        Ok(report) => report,
        Err((why, report)) => {
            println!("seed {seed} ({} members) FAILED: {why}", report.members);
            println!("  again: {replay} --verbose");
            report
        }
    };
    if args.seeds <= 4 {
        println!("seed {seed}: {report:?}");
    }
    if let Ok(mut sums) = sums.lock() {
        sums.add(report);
    }
    result.is_ok()
}

fn summary(sums: &Sums, started: Instant, threads: usize) {
    let cpu = started.elapsed().as_secs_f64() * threads as f64;
    let per_second = |count: u64| count as f64 / cpu;
    println!(
        "{} seeds, {:.1} cluster-hours ({:.1} h of virtual time), {} operations, {} unknown, {} \
         refused, {} watched events, {} parts of logs read back, {} expired leases, {} \
         starts of members that were removed unknown to the others",
        sums.seeds,
        sums.hours,
        sums.seconds as f64 / 3_600.0,
        sums.counts.operations,
        sums.counts.unknown,
        sums.counts.refused,
        sums.counts.watched,
        sums.counts.caught_up.log_reads,
        sums.counts.expired,
        sums.counts.revivals
    );
    for kind in FaultKind::ALL {
        println!("{:>9} {}", sums.counts.faults.count(*kind), kind.name());
    }
    println!(
        "{:.0} s on {threads} threads: for each second of a thread {:.0} operations, {:.0} virtual \
         seconds, {:.0} events",
        started.elapsed().as_secs_f64(),
        per_second(sums.counts.operations),
        per_second(sums.seconds),
        per_second(sums.counts.events)
    );
}
