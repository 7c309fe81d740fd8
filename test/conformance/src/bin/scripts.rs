//! Runs the same scripts against two servers and compares the transcripts.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use conformance::scripts;
use conformance::server::Server;
use std::path::{Path, PathBuf};

/// Runs scripts about timing and the grouping of responses against our server and Go's etcd, and
/// compares the transcripts.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd.
    #[arg(long)]
    theirs: PathBuf,
    /// Print the transcripts.
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
