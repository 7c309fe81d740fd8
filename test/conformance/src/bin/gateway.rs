//! Sends requests to every path of the JSON gateway of two servers and compares the responses.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::Result;
use clap::Parser;
use conformance::gateway;
use conformance::server::Server;
use std::path::PathBuf;

/// Sends the same HTTP requests to the JSON gateways of our server and of Go's etcd, and compares
/// status codes, headers and JSON.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd.
    #[arg(long)]
    theirs: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let (ours, theirs) =
        (Server::start(&args.ours, &[]).await?, Server::start(&args.theirs, &[]).await?);
    let count = gateway::compare(ours.client_port(), theirs.client_port()).await?;
    println!("the JSON gateway: {count} answers, all equal");
    Ok(())
}
