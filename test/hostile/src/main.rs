//! The command line of the hostile clients: runs the faults and prints a table.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use hostile::faults::{FAULTS, Outcome};
use hostile::stops::{STOPS, Stop};
use std::path::PathBuf;
use std::process::ExitCode;

/// Attacks our server with hostile clients, one kind after the other, each on a new server.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// The seed of the clients.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these faults.
    #[arg(long)]
    only: Vec<String>,
    /// All but these faults.
    #[arg(long)]
    skip: Vec<String>,
    /// Longer floods, and waits for the server's own time limits.
    #[arg(long)]
    long: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut names = args.only.iter().chain(&args.skip);
    let stops = STOPS.iter().map(|stop| stop.name);
    let all: Vec<&str> = FAULTS.iter().map(|fault| fault.name).chain(stops).collect();
    if let Some(unknown) = names.find(|name| !all.contains(&name.as_str())) {
        bail!("there is no {unknown}");
    }
    let is_in = |names: &[String], fault: &str| names.iter().any(|name| name == fault);
    let wanted = |fault: &&str| {
        (args.only.is_empty() || is_in(&args.only, fault)) && !is_in(&args.skip, fault)
    };
    println!("seed {}", args.seed);
    println!(
        "| fault | requests | MiB before | peak | after | light client: answers, slowest | probes: answers, slowest | result |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut ran, mut failed) = (0, 0);
    for name in all.iter().copied().filter(wanted) {
        let mut outcome = Outcome::default();
        let result = match STOPS.iter().find(|stop| stop.name == name) {
            Some(stop) => run_stop(stop, &args, &mut outcome).await,
            None => run_fault(name, &args, &mut outcome).await,
        };
        ran += 1;
        failed += usize::from(result.is_err());
        let result = match result {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("FAILED: {error:#}").replace(['\n', '|'], " "),
        };
        println!("{}", row(name, &outcome, &result));
    }
    println!("\n{ran} faults, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_fault(name: &str, args: &Args, outcome: &mut Outcome) -> Result<()> {
    let fault = FAULTS.iter().find(|fault| fault.name == name).context("no such fault")?;
    fault.run(&args.ours, args.seed, args.long, outcome).await
}

async fn run_stop(stop: &Stop, args: &Args, outcome: &mut Outcome) -> Result<()> {
    stop.run(&args.ours, args.seed, args.long, outcome).await
}

fn row(name: &str, outcome: &Outcome, result: &str) -> String {
    let [before, peak, after] = outcome.memory.map(|bytes| bytes >> 20);
    let (calls, probes) = (outcome.calls, outcome.probes);
    format!(
        "| {} | {} | {before} | {peak} | {after} | {}, {} ms | {}, {} ms | {result} |",
        name,
        outcome.requests,
        calls.answered,
        calls.slowest.as_millis(),
        probes.answered,
        probes.slowest.as_millis(),
    )
}
