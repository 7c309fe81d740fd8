//! benchmark: measures an etcd with the workloads, flags and reports of etcd's own `benchmark`, and
//! also the CPU and memory of its servers.

mod bench;
mod commands;
mod failure;
mod keys;
mod lease;
mod output;
mod put;
mod range;
mod servers;
mod stm;
mod txn;
mod watch;

use bench::Bench;
use cli::{Invocation, Parsed};
use failure::{CommandResult, Failure};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code after a command line that cannot be parsed.
const MISUSED: u8 = 255;

fn main() -> ExitCode {
    let words: cli::Words = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    if let Some(completion) = cli::completion(&commands::ROOT, &words) {
        output::error_text(&completion.notes);
        output::text(&completion.out);
        return ExitCode::SUCCESS;
    }
    let parsed = match cli::parse(&commands::ROOT, &words) {
        Invocation::Help(text) => {
            output::text(&text);
            return ExitCode::SUCCESS;
        }
        Invocation::Wrong(text) => {
            output::error_text(&text);
            return ExitCode::from(MISUSED);
        }
        Invocation::Run(parsed) => parsed,
    };
    let usage = cli::usage(&parsed.path);
    match start(parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Misused) => {
            output::error_text(&usage);
            ExitCode::FAILURE
        }
        Err(Failure::Because(why)) => {
            output::error_line(&why);
            ExitCode::FAILURE
        }
    }
}

fn start(parsed: Parsed) -> CommandResult {
    let name = parsed.name();
    if name == "completion" {
        let shell = parsed.args.first().map_or(&[][..], Vec::as_slice);
        let script = cli::completion_script(shell, &parsed.flags, "benchmark");
        output::text(&script.unwrap_or_default());
        return Ok(());
    }
    if name == "mvcc put" {
        let why = "mvcc is not built: writes reach the storage only through a server; use `put`";
        return Err(why.to_string().into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(run(&name, parsed))
}

async fn run(name: &str, parsed: Parsed) -> CommandResult {
    let mut bench = Bench::begin(parsed).await?;
    match name {
        "lease-keepalive" => lease::keep_alive(&mut bench).await?,
        "put" => put::put(&mut bench).await?,
        "range" => range::range(&mut bench).await?,
        "stm" => stm::stm(&mut bench).await?,
        "txn-mixed" => txn::mixed(&mut bench).await?,
        "txn-put" => txn::put(&mut bench).await?,
        "watch" => watch::watch(&mut bench).await?,
        "watch-get" => watch::with_gets(&mut bench).await?,
        "watch-latency" => watch::latency(&mut bench).await?,
        other => unreachable!("the table of commands has `{other}`, which has no code"),
    }
    bench.end()
}
