//! Sends the same random requests to two servers and stops at the first difference.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Result, ensure};
use clap::Parser;
use conformance::compare::Pair;
use conformance::server::{Relay, Server};
use std::path::PathBuf;

/// Sends the same random requests to our server and to Go's etcd, and compares every field of every
/// response.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd.
    #[arg(long)]
    theirs: PathBuf,
    /// The number of requests.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// The seed; the same seed gives the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A program through which requests reach ours: called with the address of our server, it prints
    /// the address at which it takes them. `clients --build-relay` builds one that uses grpc-go.
    #[arg(long)]
    through: Option<PathBuf>,
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
    let through = args.through.as_ref().map(|program| Relay::start(program, &ours)).transpose()?;
    let to_ours = match &through {
        None => ours.connect().await?,
        Some(relay) => relay.connect().await?,
    };
    let pair = Pair::new(to_ours, theirs.connect().await?, args.seed).await?;
    let report = match pair.run(args.requests).await {
        Ok(report) => report,
        Err(error) => {
            println!("last lines of ours:\n{}", ours.last_lines());
            println!("last lines of theirs:\n{}", theirs.last_lines());
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
