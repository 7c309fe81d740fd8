//! Checks database files with the official tool of bbolt, which is installed with `go install` into
//! the user's cache. Without files, prints the tool's path, for `dropin --bbolt`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use conformance::dropin::bbolt::Bbolt;
use std::path::PathBuf;

/// Checks database files with `bbolt check`.
#[derive(Debug, Parser)]
struct Args {
    /// Files, and directories of files.
    paths: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let program = Bbolt::install()?;
    if args.paths.is_empty() {
        println!("{}", program.display());
        return Ok(());
    }
    let bbolt = Bbolt::at(Some(program));
    let mut files = Vec::new();
    for path in args.paths {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                files.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("there are no files");
    }
    for file in &files {
        bbolt.check(file).with_context(|| file.display().to_string())?;
    }
    println!("bbolt check: {} files are good", files.len());
    Ok(())
}
