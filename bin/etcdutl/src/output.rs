//! The only module that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use cli::json::Object;
use cli::log::{Level, Line};
use std::time::SystemTime;

/// Writes to standard output.
pub(crate) fn out(text: &str) {
    print!("{text}");
}

/// Writes to standard error.
pub(crate) fn error(text: &str) {
    eprint!("{text}");
}

/// Writes a log line to standard error.
pub(crate) fn log(level: Level, caller: &str, message: &str, fields: Object) {
    let line = Line { level, logger: "", caller, message, fields };
    eprintln!("{}", line.console(SystemTime::now(), 0));
}
