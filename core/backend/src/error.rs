//! What can go wrong below the store.

use std::fmt;

/// Why the file could not be read or written. All of them mean: stop.
#[derive(Debug)]
pub enum Error {
    /// From the file.
    Bolt(bolt::Error),
    /// The file is sound, but holds what no etcd writes.
    Corrupt {
        /// What is wrong.
        what: &'static str,
    },
}

impl From<bolt::Error> for Error {
    fn from(error: bolt::Error) -> Error {
        Error::Bolt(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Bolt(error) => error.fmt(f),
            Error::Corrupt { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Bolt(error) => Some(error),
            Error::Corrupt { .. } => None,
        }
    }
}
