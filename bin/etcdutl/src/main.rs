//! etcdutl: a tool for the files of an etcd that is not running.

mod arguments;
mod bootstrap;
mod commands;
mod failure;
mod output;
mod restore;
mod status;

use cli::{Invocation, Parsed};
use failure::{Code, CommandResult, Failure};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version of etcd that this tool follows.
const VERSION: &str = "3.7.1";

fn main() -> ExitCode {
    let words: cli::Words = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let done = match cli::parse(&commands::ROOT, &words) {
        Invocation::Help(text) => {
            output::out(&text);
            return ExitCode::SUCCESS;
        }
        Invocation::Wrong(text) => {
            output::error(&text);
            return exit(Code::Error);
        }
        Invocation::Run(parsed) => run(&parsed),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            output::error(&format!("Error: {message}\n"));
            exit(code)
        }
    }
}

fn exit(code: Code) -> ExitCode {
    ExitCode::from(code as u8)
}

fn run(parsed: &Parsed) -> CommandResult {
    match parsed.name().as_str() {
        "snapshot status" => status::status(parsed),
        "snapshot restore" => restore::restore(parsed),
        "version" => {
            output::out(&format!("etcdutl version: {VERSION}\nAPI version: 3.7\n"));
            Ok(())
        }
        later => Err(Code::BadFeature.with(format!("etcdutl {later} is not built yet"))),
    }
}
