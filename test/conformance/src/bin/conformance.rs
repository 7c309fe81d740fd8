//! Asks two servers the same random things and stops at the first difference.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Result, ensure};
use clap::Parser;
use conformance::compare::Pair;
use conformance::server::Server;
use std::path::PathBuf;

/// Asks our server and Go's etcd the same random things, in one order, and compares every field
/// of every answer.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd.
    #[arg(long)]
    theirs: PathBuf,
    /// How many requests.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// The same seed sends the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail if a row of docs/differences.md was never needed.
    #[arg(long)]
    all_rows: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let ours = Server::start(&args.ours, &[]).await?;
    let theirs = Server::start(&args.theirs, &[]).await?;
    println!("seed {}, {} requests", args.seed, args.requests);
    let report = match Pair::new(&ours, &theirs, args.seed).await?.run(args.requests).await {
        Ok(report) => report,
        Err(error) => {
            println!("ours said last:\n{}", ours.last_lines());
            println!("theirs said last:\n{}", theirs.last_lines());
            return Err(error);
        }
    };
    println!(
        "equal: {} steps ({} of them errors), {} events, {} HashKV",
        report.steps, report.errors, report.events, report.hashes
    );
    for (row, count) in report.differences.counts() {
        println!("difference {row}: needed {count} times");
        ensure!(count > 0 || !args.all_rows, "row {row} of docs/differences.md was never needed");
    }
    Ok(())
}
