//! Runs the fuzz targets from the command line.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use fuzz::mutate::Mutator;
use fuzz::{TARGETS, Target, corpus};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The time limit of one input.
const EXEC_TIME_MAX: Duration = Duration::from_secs(20);

/// Runs everything that reads files or requests with seeded inputs, and checks for panics.
#[derive(Debug, Parser)]
struct Args {
    /// wal, bolt, snapshot, request or connection; all of them if not given.
    #[arg(long)]
    target: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The maximum number of inputs of each target.
    #[arg(long, default_value_t = u64::MAX)]
    inputs: u64,
    /// The seed; the same seed gives the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this file, once.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The directory for inputs that panicked.
    #[arg(long, default_value = ".")]
    save: PathBuf,
}

/// The current input and its start.
static CURRENT: Mutex<Option<(Vec<u8>, Instant)>> = Mutex::new(None);

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let named = |target: &&Target| {
        args.target.is_empty() || args.target.iter().any(|name| name == target.name)
    };
    if let Some(name) =
        args.target.iter().find(|name| TARGETS.iter().all(|target| target.name != **name))
    {
        bail!("no target {name}");
    }
    for target in TARGETS.iter().filter(named) {
        if let Some(file) = &args.file {
            let input = std::fs::read(file).context("cannot read the input")?;
            let is_good = (target.run)(&input);
            println!("{}: {} bytes, good: {is_good}: no panic", target.name, input.len());
            continue;
        }
        if !feed(target, &args)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one target; false if it panicked.
fn feed(target: &Target, args: &Args) -> Result<bool> {
    let mut inputs = (target.seeds)();
    let own = inputs.len();
    inputs.extend(corpus::left_by_others(target.name)?);
    let mutator = Mutator::new(&inputs, target.reseal, args.seed);
    watch_the_clock(target.name, args.save.clone());
    let started = Instant::now();
    let (mut number, mut good, mut slowest) = (0, 0, Duration::ZERO);
    while number < args.inputs && started.elapsed() < Duration::from_secs(args.seconds) {
        let input = mutator.input(number);
        let begun = Instant::now();
        set_current(Some((input.clone(), begun)));
        let Ok(is_good) = catch_unwind(|| (target.run)(&input)) else {
            let path = args.save.join(format!("{}-{}-{number}", target.name, args.seed));
            std::fs::write(&path, &input)?;
            println!(
                "{}: seed {} input {number} panicked; it is in {}",
                target.name,
                args.seed,
                path.display()
            );
            return Ok(false);
        };
        good += u64::from(is_good);
        slowest = slowest.max(begun.elapsed());
        number += 1;
    }
    set_current(None);
    println!(
        "{}: seed {}: {number} inputs from {own} own and {} other files in {:.1} s, {good} of \
         them good for something, the slowest {} ms, peak memory {} MiB: nothing panicked",
        target.name,
        args.seed,
        inputs.len() - own,
        started.elapsed().as_secs_f64(),
        slowest.as_millis(),
        peak_memory_mib().unwrap_or(0),
    );
    Ok(true)
}

fn set_current(input: Option<(Vec<u8>, Instant)>) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = input;
}

/// Ends the process when an input takes too long.
fn watch_the_clock(target: &'static str, save: PathBuf) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((input, begun)) = &*current else { continue };
            if begun.elapsed() > EXEC_TIME_MAX {
                let path = save.join(format!("{target}-endless"));
                let saved = std::fs::write(&path, input).is_ok();
                println!("{target}: an input takes too long; in {}: {saved}", path.display());
                std::process::exit(1);
            }
        }
    });
}

/// The peak memory of this process in MiB, on Linux.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
