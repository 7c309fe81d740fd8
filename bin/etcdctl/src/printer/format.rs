//! The format of responses, and its options.

use cli::Format;

/// How responses are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// The format.
    pub(crate) format: Format,
    /// Keys, values and ids in hexadecimal, where the format has a way to.
    pub(crate) hex: bool,
    /// Of a key-value, the value only; for the simple format.
    pub(crate) value_only: bool,
}
