//! Text for the user who has started the program.

/// Writes a text. A closed pipe is not an error.
pub(crate) fn print(to: &mut impl std::io::Write, text: &str) {
    to.write_all(text.as_bytes()).ok();
}
