//! Errors of a database file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why an operation on the database failed.
#[derive(Debug)]
pub enum Error {
    /// The call is invalid; the database is unchanged.
    Usage(UsageError),
    /// The file is damaged. Stop, and restore it.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The page at fault.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A call to the operating system failed. Stop: the state of the file is unknown.
    Io {
        /// The file.
        file: PathBuf,
        /// The call.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process holds the lock on the file.
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// An earlier write or sync failed, so the database accepts no more writes.
    Poisoned {
        /// The file.
        file: PathBuf,
    },
}

/// Why a call is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// The bucket does not exist.
    NoBucket,
    /// A key must have at least one byte.
    EmptyKey,
    /// A key has at most [`crate::KEY_BYTES_MAX`] bytes.
    KeyTooLarge,
    /// A value has at most [`crate::VALUE_BYTES_MAX`] bytes.
    ValueTooLarge,
    /// The key is the name of a nested bucket, or the bucket's name is a key with a value.
    Incompatible,
    /// The database was opened for reading.
    ReadOnly,
    /// An earlier call of the transaction failed, so it cannot be committed.
    Aborted,
}

impl Error {
    pub(crate) fn corrupt(file: &Path, page: u64, what: &'static str) -> Error {
        Error::Corrupt { file: file.to_path_buf(), page, what }
    }

    pub(crate) fn io(file: &Path, what: &'static str, source: io::Error) -> Error {
        Error::Io { file: file.to_path_buf(), what, source }
    }
}

impl From<UsageError> for Error {
    fn from(error: UsageError) -> Error {
        Error::Usage(error)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UsageError::NoBucket => "bucket not found",
            UsageError::EmptyKey => "key required",
            UsageError::KeyTooLarge => "key too large",
            UsageError::ValueTooLarge => "value too large",
            UsageError::Incompatible => "incompatible value",
            UsageError::ReadOnly => "database is in read-only mode",
            UsageError::Aborted => "an earlier call of the transaction failed",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(error) => error.fmt(f),
            Error::Corrupt { file, page, what } => {
                write!(f, "{}: page {page}: {what}", file.display())
            }
            Error::Io { file, what, source } => {
                write!(f, "{}: {what}: {source}", file.display())
            }
            Error::Locked { file } => {
                write!(f, "{}: locked by another process", file.display())
            }
            Error::Poisoned { file } => {
                write!(
                    f,
                    "{}: an earlier write or sync failed; no more writes are accepted",
                    file.display()
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Usage(_)
            | Error::Corrupt { .. }
            | Error::Locked { .. }
            | Error::Poisoned { .. } => None,
        }
    }
}
