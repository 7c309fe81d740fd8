//! The command line of the overload run: more load than the machine can carry, on our server and,
//! with `--theirs`, on Go's etcd.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::Result;
use clap::Parser;
use hostile::overload::{Scale, check, run};
use std::path::PathBuf;
use std::time::Duration;

/// Overloads a server and prints what a light client notices, and the server's memory.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd, which is measured and not checked.
    #[arg(long)]
    theirs: Option<PathBuf>,
    /// The seed of the loads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// 10,000 connections, and all loads together for five minutes.
    #[arg(long)]
    long: bool,
    /// How long all loads last together, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Idle connections.
    #[arg(long)]
    connections: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut scale = if args.long { Scale::LONG } else { Scale::SHORT };
    scale.together = args.seconds.map_or(scale.together, Duration::from_secs);
    scale.connections = args.connections.unwrap_or(scale.connections);
    println!("seed {}", args.seed);
    let ours = run(&args.ours, &scale, args.seed).await?;
    println!("\nours:\n\n{ours}");
    if let Some(theirs) = &args.theirs {
        println!("\nGo's:\n\n{}", run(theirs, &scale, args.seed).await?);
    }
    check(&ours, &scale)?;
    println!("\npassed");
    Ok(())
}
