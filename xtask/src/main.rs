//! The project's own tasks.
//!
//! - `cargo xtask tidy` checks the rules that lints cannot.
//! - `cargo xtask mutate` breaks the shipped code in many small ways, one at a time, and checks
//!   that a test fails each time.
//! - `cargo xtask prove NAME…` does the long runs that are too slow for every change.

mod mutate;
mod prove;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

/// The workspace's folder.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to its user")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["tidy"] => {
            let faults = tidy::check(&root())?;
            for fault in &faults {
                eprintln!("{fault}");
            }
            println!("tidy: {} faults", faults.len());
            Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["mutate", arguments @ ..] => {
            let caught = mutate::run(&root(), arguments)?;
            Ok(if caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["prove", "list"] => {
            println!("{}", prove::list());
            Ok(ExitCode::SUCCESS)
        }
        ["prove", names @ ..] if !names.is_empty() => {
            let results = prove::run(&root(), names)?;
            println!("{}", results.text());
            Ok(if results.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => {
            eprintln!(
                "usage: cargo xtask tidy\n       cargo xtask mutate [--check] [--only ID] \
                 [--seed N --part N]\n       cargo xtask prove list | all | NAME…"
            );
            Ok(ExitCode::from(2))
        }
    }
}
