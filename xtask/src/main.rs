//! The project's own tasks: `cargo xtask tidy` checks the rules that lints cannot hold, and
//! `cargo xtask prove <issue>` runs the long form of what an issue asks to be shown.

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
        ["prove", issue, steps @ ..] => {
            let table = prove::run(&root(), issue, steps)?;
            println!("{}", table.text());
            Ok(if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => {
            eprintln!("usage: cargo xtask tidy | cargo xtask prove ISSUE [STEP…]");
            Ok(ExitCode::from(2))
        }
    }
}
