//! The command line of the hostile clients: runs the faults and prints a table.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Result, bail};
use clap::Parser;
use hostile::faults::{FAULTS, Fault, Outcome};
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
    if let Some(unknown) = names.find(|name| !FAULTS.iter().any(|f| f.name == **name)) {
        bail!("there is no {unknown}");
    }
    let is_in = |names: &[String], fault: &Fault| names.iter().any(|name| name == fault.name);
    let wanted = |fault: &&Fault| {
        (args.only.is_empty() || is_in(&args.only, fault)) && !is_in(&args.skip, fault)
    };
    println!("seed {}", args.seed);
    println!(
        "| fault | requests | MiB before | peak | after | light client: answers, slowest | probes: answers, slowest | result |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut ran, mut failed) = (0, 0);
    for fault in FAULTS.iter().filter(wanted) {
        let mut outcome = Outcome::default();
        let result = fault.run(&args.ours, args.seed, args.long, &mut outcome).await;
        ran += 1;
        failed += usize::from(result.is_err());
        let result = match result {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("FAILED: {error:#}").replace(['\n', '|'], " "),
        };
        println!("{}", row(fault, &outcome, &result));
    }
    println!("\n{ran} faults, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(fault: &Fault, outcome: &Outcome, result: &str) -> String {
    let [before, peak, after] = outcome.memory.map(|bytes| bytes >> 20);
    let (calls, probes) = (outcome.calls, outcome.probes);
    format!(
        "| {} | {} | {before} | {peak} | {after} | {}, {} ms | {}, {} ms | {result} |",
        fault.name,
        outcome.requests,
        calls.answered,
        calls.slowest.as_millis(),
        probes.answered,
        probes.slowest.as_millis(),
    )
}
