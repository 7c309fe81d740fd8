//! etcdutl: a tool for the files of an etcd that is not running.

mod arguments;
mod backup;
mod bootstrap;
mod check;
mod commands;
mod database;
mod defrag;
mod failure;
mod hashkv;
mod migrate;
mod output;
mod restore;
mod status;
mod storage;

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
    if let Some(completion) = cli::completion(&commands::ROOT, &words) {
        output::error(&completion.notes);
        output::out(&completion.out);
        return ExitCode::SUCCESS;
    }
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
        "backup" => backup::backup(parsed),
        "check v2store" => check::v2store(parsed),
        "completion" => {
            let shell = parsed.args.first().map_or(&[][..], Vec::as_slice);
            let script = cli::completion_script(shell, &parsed.flags, "etcdutl");
            output::out(&script.unwrap_or_default());
            Ok(())
        }
        "defrag" => defrag::defrag(parsed),
        "hashkv" => hashkv::hashkv(parsed),
        "migrate" => migrate::migrate(parsed),
        "snapshot save" => {
            Err(Code::BadArgs
                .with("In order to download snapshot use: `etcdctl snapshot save ...`"))
        }
        "snapshot status" => status::status(parsed),
        "snapshot restore" => restore::restore(parsed),
        "version" => {
            output::out(&format!("etcdutl version: {VERSION}\nAPI version: 3.7\n"));
            Ok(())
        }
        other => unreachable!("the table of commands has `{other}`, which has no code"),
    }
}
