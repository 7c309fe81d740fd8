//! Three of our servers as processes, under load, with faults.
//!
//! - `--mode faults` (the default): every `--every` seconds a member is killed with -9, stopped, or
//!   cut off. At the end no acknowledged write may be lost, the clients' history must be
//!   linearizable, each watcher must have received all events in order, and the members must be
//!   equal. With `--mixed N`, N of them run `--theirs`, and programs of both kinds lead in turn.
//! - `--mode replace`: three members of `--theirs` are replaced by ours in place, one after the
//!   other, and then by theirs again. The same must hold, and renewed leases must not expire.
//! - `--mode failover`: measures the time from the leader's `kill -9` to the next acknowledged
//!   write; with `--theirs` also for Go's etcd, with the same timeouts.
//! - `--mode catch-up`: a member that missed `--mib` MiB catches up. Measures the time, the memory
//!   of both ends, and the writes of the other members meanwhile.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use hostile::chaos::Plan;
use hostile::chaos::catch_up::CatchUp;
use hostile::chaos::failover::measure;
use hostile::chaos::faults::Faults;
use hostile::chaos::replace::Replace;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is done.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Faults under load.
    Faults,
    /// Members replaced in place, and back.
    Replace,
    /// Times from the leader's kill to the next write.
    Failover,
    /// A member that was down for long.
    CatchUp,
}

/// Runs a cluster of our servers and does harm to it.
#[derive(Debug, Parser)]
struct Args {
    /// Our server.
    #[arg(long)]
    ours: PathBuf,
    /// Go's etcd, for `failover`, `replace` and `--mixed`.
    #[arg(long)]
    theirs: Option<PathBuf>,
    /// What is done.
    #[arg(long, value_enum, default_value_t = Mode::Faults)]
    mode: Mode,
    /// How many of the members are of `--theirs`, for `faults`.
    #[arg(long, default_value_t = 0, requires = "theirs", value_parser = clap::value_parser!(u8).range(0..3))]
    mixed: u8,
    /// How long faults happen, in seconds.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Seconds from one fault to the next.
    #[arg(long, default_value_t = 4)]
    every: u64,
    /// The seed of clients and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often `failover` kills the leader.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// What `catch-up` writes, in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// The first of nine ports on loopback.
    #[arg(long, default_value_t = 27_100)]
    first_port: u16,
    /// Flags of the members, besides the usual ones.
    #[arg(last = true)]
    flags: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let theirs = || args.theirs.as_deref().context("--theirs is needed");
    let plan = |program: &Path| Plan {
        programs: std::array::from_fn(|_| program.to_owned()),
        first_port: args.first_port,
        flags: args.flags.clone(),
    };
    match args.mode {
        Mode::Faults => {
            println!("seed {}", args.seed);
            let mut plan = plan(&args.ours);
            for program in plan.programs.iter_mut().take(args.mixed.into()) {
                theirs()?.clone_into(program);
            }
            let faults = Faults {
                plan,
                seed: args.seed,
                lasts: Duration::from_secs(args.seconds),
                every: Duration::from_secs(args.every),
            };
            println!("{}", faults.run().await?);
        }
        Mode::Replace => {
            println!("seed {}", args.seed);
            let by = args.ours.clone();
            let replace = Replace { plan: plan(theirs()?), by, seed: args.seed };
            println!("{}", replace.run().await?);
        }
        Mode::CatchUp => {
            let catch_up = CatchUp { plan: plan(&args.ours), mib: args.mib };
            println!("{}", catch_up.run().await?);
        }
        Mode::Failover => {
            let ours = measure(&plan(&args.ours), args.kills).await?;
            println!("ours:   leader killed to next write: {}", ours.text());
            if let Some(theirs) = &args.theirs {
                let theirs = measure(&plan(theirs), args.kills).await?;
                println!("theirs: leader killed to next write: {}", theirs.text());
                let (ours, theirs) = (ours.median_ms(), theirs.median_ms().max(1));
                println!(
                    "ratio of the medians: {}.{:02}",
                    ours / theirs,
                    ours * 100 / theirs % 100
                );
            }
        }
    }
    Ok(())
}
