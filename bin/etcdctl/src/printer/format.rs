//! The format of responses, and its options.

use cli::Format;

/// How responses are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// The format.
    pub(crate) format: Format,
    /// Prints keys, values and ids in hexadecimal, if the format supports it.
    pub(crate) hex: bool,
    /// Prints only the value of a key-value; used by the simple format.
    pub(crate) value_only: bool,
}
