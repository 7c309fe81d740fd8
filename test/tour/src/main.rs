//! The tour, from the command line.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tour::compare;
use tour::guide::{self, Shown, Side};
use tour::script::{self, Script};

/// Runs the scripts of the tour. With --against: one client, two servers. With --ctl-b: two
/// clients, one server. With neither: what is printed against the transcripts.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long)]
    server: PathBuf,
    /// etcdctl.
    #[arg(long)]
    ctl: PathBuf,
    /// etcdutl; without it etcdctl does its work.
    #[arg(long)]
    utl: Option<PathBuf>,
    /// Another server: the client must print the same with it.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Another etcdctl: it must print the same with the same server (or with --against).
    #[arg(long)]
    ctl_b: Option<PathBuf>,
    /// Another etcdutl, beside --ctl-b.
    #[arg(long)]
    utl_b: Option<PathBuf>,
    /// Where `scripts` and `transcripts` are.
    #[arg(long, default_value = "test/tour")]
    root: PathBuf,
    /// Writes the transcripts instead of comparing with them.
    #[arg(long)]
    record: bool,
    /// Only these scripts.
    #[arg(long)]
    script: Vec<String>,
    /// How many scripts run at a time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

impl Args {
    fn left(&self) -> Side {
        Side { server: self.server.clone(), ctl: self.ctl.clone(), utl: self.utl.clone() }
    }

    /// The other side, if two are compared.
    fn right(&self) -> Option<Side> {
        let left = self.left();
        match (&self.against, &self.ctl_b) {
            (None, None) => None,
            (against, ctl_b) => Some(Side {
                server: against.clone().unwrap_or(left.server),
                utl: if ctl_b.is_some() { self.utl_b.clone() } else { left.utl },
                ctl: ctl_b.clone().unwrap_or(left.ctl),
            }),
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    end_on_signals()?;
    let mut scripts = script::read_all(&args.root.join("scripts"))?;
    if let Some(unknown) =
        args.script.iter().find(|name| scripts.iter().all(|script| script.name != **name))
    {
        bail!("no script {unknown}");
    }
    scripts.retain(|script| args.script.is_empty() || args.script.contains(&script.name));
    let results = run_all(&args, &scripts);
    let mut bad = 0;
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for (script, result) in scripts.iter().zip(results) {
        match result {
            Ok(done) if done.text.is_empty() => println!("{}: ok", script.name),
            Ok(done) => {
                bad += 1;
                println!("{}: different\n{}", script.name, done.text);
            }
            Err(error) => {
                bad += 1;
                println!("{}: failed: {error:?}", script.name);
            }
        }
    }
    let _ = &mut rows;
    println!("{} scripts, {bad} different", scripts.len());
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
