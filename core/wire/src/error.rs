//! Why bytes of a peer are refused.

use std::fmt;

/// Bytes of a peer that cannot be read. The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// More bytes or entries than a member sends.
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its announced or counted size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// Bytes that are not of the expected form.
    Malformed {
        /// The expected form.
        what: &'static str,
        /// The reason.
        why: String,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::TooLarge { what, size, max } => {
                write!(f, "{what} of {size} is larger than {max}")
            }
            WireError::Malformed { what, why } => write!(f, "bad {what}: {why}"),
        }
    }
}

impl std::error::Error for WireError {}

impl WireError {
    pub(crate) fn malformed(what: &'static str, why: impl fmt::Display) -> WireError {
        WireError::Malformed { what, why: why.to_string() }
    }
}
