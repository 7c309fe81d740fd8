//! Go's etcd and ours serve one directory in turn: theirs, ours, theirs, ours. Each must show the
//! same keys with their revisions, leases with their keys, users and roles, compacted revision and
//! HashKV as the one before it, and every write that was acknowledged just before that one ended.
//!
//! With `--snapshots`, snapshots are saved, restored and served by each other's programs instead.
//!
//! With `--downgrades DIRECTORY`, directories of other versions are downgraded and served by those.
//!
//! With `--runbook FILE`, the commands of that runbook are run instead, with each version.
//!
//! Without `--long`: each kind of contents with each version, with a seeded ending.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum as _};
use conformance::dropin::bbolt::Bbolt;
use conformance::dropin::contents::Contents;
use conformance::dropin::directory::{Ending, Turns};
use conformance::dropin::downgrades::{Downgrade, TARGETS, archives};
use conformance::dropin::program::Program;
use conformance::dropin::runbook::Runbook;
use conformance::dropin::snapshots::{Source, refusals, sources};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::path::{Path, PathBuf};
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
    /// What is left out.
    #[command(flatten)]
    only: Only,
    /// The commands of this Markdown file, in place of the directories. `etcdctl` is beside `--ours`.
    #[arg(long)]
    runbook: Option<PathBuf>,
    /// Snapshots, in place of the directories: saved, restored and served in combinations, and bad
    /// input. The other programs are beside the servers.
    #[arg(long)]
    snapshots: bool,
    /// The directories of `go-data` below this one are downgraded, in place of the other directories.
    #[arg(long)]
    downgrades: Option<PathBuf>,
    /// Without `--long`: the number of combinations of each server whose snapshots are saved.
    #[arg(long, default_value_t = 3)]
    sample: usize,
    /// The official tool for database files, with which they are checked. `dbcheck` installs it.
    #[arg(long)]
    bbolt: Option<PathBuf>,
    /// The seed of the written data, and of the choice of endings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many directories are served at a time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

/// A choice of directories.
#[derive(Debug, clap::Args)]
struct Only {
    /// Only this kind of contents.
    #[arg(long, value_enum)]
    contents: Option<Contents>,
    /// Only this ending.
    #[arg(long, value_enum)]
    ending: Option<Ending>,
    /// Of `--downgrades`, only the archives whose names begin like this.
    #[arg(long, default_value = "")]
    archives: String,
}

impl Args {
    fn programs(&self) -> Result<(Program, Vec<Program>)> {
        let theirs: Result<Vec<Program>> =
            self.theirs.iter().map(|path| Program::theirs(path)).collect();
        Ok((Program::ours(&self.ours)?, theirs?))
    }

    fn plan(&self) -> Result<Vec<Turns>> {
        let (ours, theirs) = self.programs()?;
        let bbolt = Bbolt::at(self.bbolt.clone());
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut plan = Vec::new();
        for &contents in Contents::value_variants() {
            let is_wanted = self.only.contents.is_none_or(|only| only == contents);
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
                    let is_ending = self.only.ending.is_none_or(|only| only == ending);
                    if is_wanted && is_ending && (self.long || is_short) {
                        plan.push(Turns {
                            ours: ours.clone(),
                            theirs: theirs.clone(),
                            ending,
                            contents,
                            seed: self.seed,
                            bbolt: bbolt.clone(),
                        });
                    }
                }
            }
        }
        Ok(plan)
    }

    /// The downgrades of each directory: to every older version, or to a seeded one.
    fn downgrades(&self, go_data: &Path) -> Result<Vec<Downgrade>> {
        let (ours, theirs) = self.programs()?;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut plan = Vec::new();
        for (archive, version) in archives(go_data)? {
            let name = archive.file_name().unwrap_or_default().to_string_lossy();
            let mut targets: Vec<_> =
                TARGETS.into_iter().filter(|target| *target < version).collect();
            if !self.long && !targets.is_empty() {
                targets = vec![targets[rng.random_range(0..targets.len())]];
            }
            for target in targets.into_iter().filter(|_| name.starts_with(&self.only.archives)) {
                // The newest one, since 3.5.1 has faults of its own.
                let older = theirs.iter().filter(|go| go.minor() == target);
                plan.push(Downgrade {
                    archive: archive.clone(),
                    target,
                    ours: ours.clone(),
                    theirs: older.max_by_key(|go| go.version.len()).cloned(),
                    ending: Ending::value_variants()[rng.random_range(0..2)],
                    bbolt: Bbolt::at(self.bbolt.clone()),
                });
            }
        }
        ensure!(!plan.is_empty(), "there is nothing to downgrade in {}", go_data.display());
        Ok(plan)
    }

    /// The members whose snapshots are saved.
    fn sources(&self) -> Result<Vec<Source>> {
        let (ours, theirs) = self.programs()?;
        let all: Vec<Program> = [&ours].into_iter().chain(&theirs).cloned().collect();
        let source = |servers| Source {
            servers,
            all: all.clone(),
            bbolt: Bbolt::at(self.bbolt.clone()),
            seed: self.seed,
            sample: (!self.long).then_some(self.sample),
        };
        Ok(sources(&ours, &theirs).into_iter().map(source).collect())
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
    if args.snapshots {
        let (ours, theirs) = args.programs()?;
        println!("{}", refusals(&ours, &theirs).await?);
        all(args.sources()?.into_iter().map(|it| async move { it.run().await }), args.jobs).await?;
    } else if let Some(go_data) = &args.downgrades {
        // The members of clusters have fixed ports, so that only one cluster can run at a time.
        let (clusters, alone): (Vec<_>, Vec<_>) =
            args.downgrades(go_data)?.into_iter().partition(Downgrade::has_fixed_ports);
        all(alone.into_iter().map(|it| async move { it.run().await }), args.jobs).await?;
        all(clusters.into_iter().map(|it| async move { it.run().await }), 1).await?;
    } else {
        let plan = args.plan()?.into_iter();
        all(plan.map(|turns| async move { turns.run().await }), args.jobs).await?;
    }
    println!("all show the same, seed {} ({:.0} s)", args.seed, began.elapsed().as_secs_f64());
    Ok(())
}

/// Runs all, a few at a time. Prints the report of each.
async fn all<F>(runs: impl Iterator<Item = F>, at_a_time: usize) -> Result<()>
where
    F: Future<Output = Result<String>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(at_a_time));
    let mut under_way = JoinSet::new();
    for run in runs {
        let places = Arc::clone(&places);
        under_way.spawn(async move {
            let _place = places.acquire_owned().await.context("no place")?;
            let began = Instant::now();
            let report = run.await?;
            anyhow::Ok(format!("{report} ({:.1} s)", began.elapsed().as_secs_f64()))
        });
    }
    let (count, mut failed) = (under_way.len(), 0);
    while let Some(ended) = under_way.join_next().await {
        match ended? {
            Ok(report) => println!("{report}"),
            Err(error) => {
                failed += 1;
                println!("FAILED: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {count} failed");
    Ok(())
}
