//! The command line of the tour.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tour::compare::{self, Differences};
use tour::guide::{self, Side};
use tour::process;
use tour::script::{self, Script};

/// Runs the scripts of the tour. With --against: compares one client on two servers. With --ctl-b:
/// compares two clients on one server. With neither: compares the output with the transcripts.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long, value_parser = program)]
    server: PathBuf,
    /// etcdctl.
    #[arg(long, value_parser = program)]
    ctl: PathBuf,
    /// etcdutl. Without it, etcdctl runs its commands.
    #[arg(long, value_parser = program)]
    utl: Option<PathBuf>,
    /// Another server. The client must print the same with it.
    #[arg(long, value_parser = program)]
    against: Option<PathBuf>,
    /// Another etcdctl. It must print the same with the same server (or with --against).
    #[arg(long, value_parser = program)]
    ctl_b: Option<PathBuf>,
    /// Another etcdutl, together with --ctl-b.
    #[arg(long, value_parser = program)]
    utl_b: Option<PathBuf>,
    /// The directory of `scripts` and `transcripts`.
    #[arg(long, default_value = "test/tour")]
    root: PathBuf,
    /// Writes the transcripts instead of comparing with them.
    #[arg(long)]
    record: bool,
    /// Only these scripts.
    #[arg(long)]
    script: Vec<String>,
    /// How many scripts run in parallel.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

/// The absolute path of a program, because it runs in another directory.
fn program(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

impl Args {
    fn left(&self) -> Side {
        Side { server: self.server.clone(), ctl: self.ctl.clone(), utl: self.utl.clone() }
    }

    /// The other programs, if two sets are compared.
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
    let known = |name: &String| scripts.iter().any(|script| script.name == *name);
    if let Some(unknown) = args.script.iter().find(|name| !known(name)) {
        bail!("no script {unknown}");
    }
    scripts.retain(|script| args.script.is_empty() || args.script.contains(&script.name));
    let results = run_all(&args, &scripts);
    let mut bad = 0;
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for (script, result) in scripts.iter().zip(results) {
        match result {
            Ok(done) => {
                let word = if done.text.is_empty() { "ok" } else { "different" };
                println!("{}: {word}\n{}", script.name, done.text);
                bad += usize::from(!done.text.is_empty());
                for (row, count) in done.rows {
                    *rows.entry(row).or_default() += count;
                }
            }
            Err(error) => {
                bad += 1;
                println!("{}: failed: {error:?}\n", script.name);
            }
        }
    }
    for (row, count) in rows {
        println!("row {row}: {count} times");
    }
    println!("{} scripts, {bad} different", scripts.len());
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// On a signal, makes every wait fail, so that the child processes end before this one.
fn end_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            if let Ok(mut terminate) = tokio::signal::unix::signal(kind) {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                process::stop();
            }
        });
    });
    Ok(())
}

/// Runs the scripts in parallel. The results are in the order of the scripts.
fn run_all(args: &Args, scripts: &[Script]) -> Vec<Result<Differences>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(script) = scripts.get(at) else { return };
                    let result = run(args, script);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn run(args: &Args, script: &Script) -> Result<Differences> {
    let left = args.left();
    if let Some(right) = args.right() {
        let (left, right) = std::thread::scope(|scope| {
            let other = scope.spawn(|| guide::run(script, &right));
            let this = guide::run(script, &left);
            (this, other.join())
        });
        let Ok(right) = right else { bail!("the other side panicked") };
        return Ok(compare::transcripts(&left?, &right?));
    }
    let transcript = guide::run(script, &left)?;
    let path = args.root.join("transcripts").join(format!("{}.txt", script.name));
    if args.record {
        std::fs::write(&path, guide::text(&transcript))?;
        return Ok(Differences::default());
    }
    let recorded = std::fs::read_to_string(&path)
        .with_context(|| format!("no transcript {}", path.display()))?;
    Ok(compare::with_recorded(&transcript, &recorded))
}
