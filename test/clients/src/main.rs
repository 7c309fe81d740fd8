//! The command line of the client libraries: runs each against both servers and prints a table.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use clients::compare::{Comparison, EXPECTED, compare};
use clients::list::{CLIENTS, Client};
use clients::prepare::{prepare, prepare_relay};
use clients::session;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Runs real client libraries against our server and Go's etcd and compares what they print.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: Option<PathBuf>,
    /// Go's etcd.
    #[arg(long)]
    theirs: Option<PathBuf>,
    /// The directory of the programs of the clients.
    #[arg(long, default_value = "test/clients")]
    sources: PathBuf,
    /// The directory into which clients are installed; by default one in the user's cache.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Only the clients whose name-version-does begins like this.
    #[arg(long)]
    only: Vec<String>,
    /// All versions; fails if a client cannot be installed.
    #[arg(long)]
    long: bool,
    /// Print every line.
    #[arg(long)]
    show: bool,
    /// Build the relay between tonic and grpc-go, print its path, and end.
    #[arg(long)]
    build_relay: bool,
}

/// The outcome of one client.
enum Ran {
    Skipped(String),
    Compared(Comparison),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let cache = match &args.cache {
        Some(cache) => cache.clone(),
        None => PathBuf::from(std::env::var_os("HOME").context("--cache, for there is no HOME")?)
            .join(".cache/retcd-clients"),
    };
    if args.build_relay {
        println!("{}", prepare_relay(&args.sources, &cache)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |client: &&Client| {
        let id = client.id();
        let is_named = args.only.iter().any(|only| id.starts_with(only));
        is_named || args.only.is_empty() && (client.is_short || args.long)
    };
    let clients: Vec<&Client> = CLIENTS.iter().filter(wanted).collect();
    if clients.is_empty() {
        bail!("there is no {:?}", args.only);
    }
    let mut rows = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for client in clients {
        let started = Instant::now();
        let ran = run(client, &args, &cache).await?;
        match &ran {
            Ran::Skipped(_) => skipped += 1,
            Ran::Compared(outcome) if outcome.passed(args.long) => passed += 1,
            Ran::Compared(_) => failed += 1,
        }
        report(client, &ran);
        rows.push(row(client, &ran, args.long, started.elapsed().as_secs()));
    }
    println!(
        "\n| client | version | does | equal lines (errors) | differences | result | seconds |"
    );
    println!("|---|---|---|---|---|---|---|\n{}", rows.join("\n"));
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    let is_good = failed == 0 && (skipped == 0 || !args.long);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(client: &Client, args: &Args, cache: &Path) -> Result<Ran> {
    let program = match prepare(client, &args.sources, cache) {
        Ok(program) => program,
        Err(error) => return Ok(Ran::Skipped(format!("{error:#}"))),
    };
    let ours = args.ours.as_ref().context("--ours")?;
    let theirs = args.theirs.as_ref().context("--theirs")?;
    let theirs = session::run(client, &program, theirs).await?;
    let ours = session::run(client, &program, ours).await?;
    if args.show {
        println!("theirs:\n{}\n\nours:\n{}\n", theirs.lines.join("\n"), ours.lines.join("\n"));
    }
    Ok(Ran::Compared(compare(client, &ours, &theirs, &EXPECTED)))
}

fn report(client: &Client, ran: &Ran) {
    let id = client.id();
    let outcome = match ran {
        Ran::Skipped(reason) => return println!("{id}: skipped: {reason}"),
        Ran::Compared(outcome) => outcome,
    };
    for failure in &outcome.failures {
        println!("{id}: FAILED: {failure}");
    }
    for unneeded in &outcome.unneeded {
        println!("{id}: {unneeded}");
    }
    for difference in &outcome.differences {
        let expected = difference
            .expected
            .map_or_else(|| "DIFFERENT".to_owned(), |e| format!("expected: {e}"));
        println!("{id}: {}: {expected}", difference.step);
        println!("  ours:   {}", difference.ours.join("\n          "));
        println!("  theirs: {}", difference.theirs.join("\n          "));
    }
}

fn row(client: &Client, ran: &Ran, long: bool, seconds: u64) -> String {
    let start = format!("| {} | {} | {} |", client.name, client.version, client.does);
    let outcome = match ran {
        Ran::Skipped(reason) => {
            return format!("{start} | | skipped: {} | {seconds} |", reason.replace('|', " "));
        }
        Ran::Compared(outcome) => outcome,
    };
    let expected = outcome.differences.iter().filter(|d| d.expected.is_some()).count();
    let result = if outcome.passed(long) { "ok" } else { "FAILED" };
    format!(
        "{start} {} ({}) | {}, of them expected {expected} | {result} | {seconds} |",
        outcome.equal,
        outcome.errors,
        outcome.differences.len(),
    )
}
