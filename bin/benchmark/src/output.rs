//! The only module that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

/// Writes to standard output.
pub(crate) fn text(text: &str) {
    print!("{text}");
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Writes to standard error.
pub(crate) fn error_text(text: &str) {
    eprint!("{text}");
}

/// Writes a line to standard error.
pub(crate) fn error_line(text: &str) {
    eprintln!("{text}");
}
