//! The only module that prints.
#![expect(clippy::print_stderr, reason = "this is the place that prints")]

use crate::failure::Failure;
use cli::log::Line;
use std::io::Write as _;
use std::time::SystemTime;

/// Writes to standard output and flushes it. If the reader is gone, the process exits, as Go's
/// does.
pub(crate) fn out(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    out(format!("{text}\n").as_bytes());
}

/// Writes a line to standard error.
pub(crate) fn error_line(text: &str) {
    eprintln!("{text}");
}

/// Writes text to standard error without a line feed.
pub(crate) fn error_text(text: &str) {
    eprint!("{text}");
}

/// Writes a log line to standard error.
pub(crate) fn log(line: &Line<'_>) {
    eprintln!("{}", line.json(SystemTime::now()));
}

/// Prints a failure and exits with its code.
pub(crate) fn end(failure: Failure) -> ! {
    if let Some(message) = failure.message {
        error_line(&format!("Error: {message}"));
    }
    std::process::exit(failure.exit_code);
}
