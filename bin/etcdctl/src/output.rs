//! The one place that prints.
#![expect(clippy::print_stderr, reason = "this is the place that prints")]

use crate::failure::Failure;
use cli::log::Line;
use std::io::Write as _;
use std::time::SystemTime;

/// To the standard output, at once. A reader that has gone away ends the process, as it does
/// Go's.
pub(crate) fn out(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

/// A line to the standard output.
pub(crate) fn line(text: &str) {
    out(format!("{text}\n").as_bytes());
}

/// A line to the error output.
pub(crate) fn error_line(text: &str) {
    eprintln!("{text}");
}

/// Text as it is to the error output.
pub(crate) fn error_text(text: &str) {
    eprint!("{text}");
}

/// A log line, which goes to the error output.
pub(crate) fn log(line: &Line<'_>) {
    eprintln!("{}", line.json(SystemTime::now()));
}

/// Prints a failure and exits with its code.
pub(crate) fn end(failure: Failure) -> ! {
    if let Some(message) = failure.message {
        error_line(&format!("Error: {message}"));
    }
    std::process::exit(failure.code as i32);
}
