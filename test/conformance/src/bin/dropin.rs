//! Go's etcd and ours serve one directory in turn: theirs, ours, theirs, ours. Each must show the
//! same keys with their revisions, leases with their keys, users and roles, compacted revision and
//! HashKV as the one before it, and every write that was acknowledged just before that one ended.
//!
//! With `--runbook FILE`, the commands of that runbook are run instead, with each version.
//!
//! Without `--long`: each kind of contents with each version, with a seeded ending.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum as _};
use conformance::dropin::contents::Contents;
use conformance::dropin::directory::{Ending, Turns};
use conformance::dropin::program::Program;
use conformance::dropin::runbook::Runbook;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Lets Go's etcd and ours serve one directory in turn.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd; once for each version.
    #[arg(long, required = true)]
    theirs: Vec<PathBuf>,
    /// Every kind of contents with every ending, and a million keys.
    #[arg(long)]
    long: bool,
    /// Only this kind of contents.
    #[arg(long, value_enum)]
    contents: Option<Contents>,
    /// Only this ending.
    #[arg(long, value_enum)]
    ending: Option<Ending>,
    /// The commands of this Markdown file, in place of the directories. `etcdctl` is beside `--ours`.
    #[arg(long)]
    runbook: Option<PathBuf>,
    /// The seed of the written data, and of the choice of endings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many directories are served at a time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

impl Args {
    fn plan(&self) -> Result<Vec<Turns>> {
        let ours = Program::ours(&self.ours)?;
        let theirs: Result<Vec<Program>> =
            self.theirs.iter().map(|path| Program::theirs(path)).collect();
        let theirs = theirs?;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut plan = Vec::new();
        for &contents in Contents::value_variants() {
            let is_wanted = self.contents.is_none_or(|only| only == contents);
            // The contents that cut the log write 400 MB, so the short run has them for one version
            // only.
            let one = rng.random_range(0..theirs.len());
            for (at, theirs) in theirs.iter().enumerate() {
                let chosen = Ending::value_variants()[rng.random_range(0..2)];
                for &ending in Ending::value_variants() {
                    let is_short = match contents {
                        Contents::Many => false,
                        Contents::Cuts => at == one && ending == chosen,
                        Contents::Fresh
                        | Contents::Compacted
                        | Contents::Auth
                        | Contents::V2
                        | Contents::Leases => ending == chosen,
                    };
                    let is_ending = self.ending.is_none_or(|only| only == ending);
                    if is_wanted && is_ending && (self.long || is_short) {
                        let (ours, theirs) = (ours.clone(), theirs.clone());
                        plan.push(Turns { ours, theirs, ending, contents, seed: self.seed });
                    }
                }
            }
        }
        Ok(plan)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = &args.runbook {
        let ours = args.ours.parent().context("--ours is no file")?;
        for theirs in &args.theirs {
            let (file, ours) = (file.clone(), ours.to_owned());
            let book = Runbook { file, ours, theirs: Program::theirs(theirs)? };
            println!("{}", book.run().await?);
        }
        return Ok(());
    }
    let began = Instant::now();
    let plan = args.plan()?;
    let (count, places) = (plan.len(), Arc::new(Semaphore::new(args.jobs)));
    let mut under_way = JoinSet::new();
    for turns in plan {
        let places = Arc::clone(&places);
        under_way.spawn(async move {
            let _place = places.acquire_owned().await.context("no place")?;
            let began = Instant::now();
            let report = turns.run().await?;
            anyhow::Ok(format!("{report} ({:.1} s)", began.elapsed().as_secs_f64()))
        });
    }
    let mut failed = 0;
    while let Some(ended) = under_way.join_next().await {
        match ended? {
            Ok(report) => println!("{report}"),
            Err(error) => {
                failed += 1;
                println!("FAILED: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {count} directories failed");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} directories, seed {}: each shows the same in turn ({seconds:.0} s)",
        args.seed
    );
    Ok(())
}
