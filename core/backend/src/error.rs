//! Errors of the backend.

use std::fmt;

/// Why the file cannot be read or written. The member stops on any of them.
#[derive(Debug)]
pub enum Error {
    /// An error of the database file.
    Bolt(bolt::Error),
    /// The database is valid, but contains a value that etcd does not write.
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
