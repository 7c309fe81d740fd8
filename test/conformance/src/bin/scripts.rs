//! Holds the same fixed conversations with two servers and compares what they said.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use conformance::scripts;
use conformance::server::Server;
use std::path::{Path, PathBuf};

/// Holds fixed conversations about time and the grouping of responses with our server and with
/// Go's etcd, and compares what they said.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd.
    #[arg(long)]
    theirs: PathBuf,
    /// Print what was said.
    #[arg(long)]
    show: bool,
}

async fn said(name: &str, program: &Path) -> Result<Vec<String>> {
    scripts::run(name, &Server::start(program, &[]).await?).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    for name in scripts::NAMES {
        let theirs = said(name, &args.theirs).await.context("theirs")?;
        let ours = said(name, &args.ours).await.context("ours")?;
        if args.show {
            println!("ours:\n{}\n\ntheirs:\n{}", ours.join("\n"), theirs.join("\n"));
        }
        let longer = ours.len().max(theirs.len());
        for at in 0..longer {
            let (our, their) = (ours.get(at), theirs.get(at));
            if our != their {
                bail!("{name}, line {}:\nours:   {our:?}\ntheirs: {their:?}", at + 1);
            }
        }
        println!("{name}: {longer} lines, all equal");
    }
    Ok(())
}
