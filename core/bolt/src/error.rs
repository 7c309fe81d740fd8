//! What can go wrong with a database file, sorted by who has to act.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why an operation on the database failed.
#[derive(Debug)]
pub enum Error {
    /// The caller asked for what cannot be done; the database is unchanged.
    Usage(UsageError),
    /// The file holds what no writer of the format leaves. Stop and restore.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The page that was being read.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The operating system failed a call. Stop: the file is not to be trusted.
    Io {
        /// The file.
        file: PathBuf,
        /// The call.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process holds the lock on the file.
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// An earlier write or sync failed; nothing more is written.
    Poisoned {
        /// The file.
        file: PathBuf,
    },
}

/// What a caller asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no such bucket.
    NoBucket,
    /// A key must have at least one byte.
    EmptyKey,
    /// A key has at most [`crate::KEY_BYTES_MAX`] bytes.
    KeyTooLarge,
    /// A value has at most [`crate::VALUE_BYTES_MAX`] bytes.
    ValueTooLarge,
    /// The key names a nested bucket, or a bucket's name a plain value.
    Incompatible,
    /// The database was opened for reading.
    ReadOnly,
    /// An earlier call of this transaction failed half-way; it cannot be committed.
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
            UsageError::Aborted => "an earlier operation of the transaction failed",
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
                write!(f, "{}: an earlier write failed; nothing more is written", file.display())
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
