//! The errors of logs and `.snap` files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a log or a `.snap` file.
#[derive(Debug)]
pub enum Error {
    /// The file is damaged. Nothing was changed. The member must not vote with this log; it recovers
    /// from the other members.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The position of the damage, in bytes.
        offset: u64,
        /// The kind of damage.
        what: String,
    },
    /// A file operation failed. If it was a write or a sync of a log, every later call fails with
    /// [`Error::Poisoned`].
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The operation.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A write or a sync failed before, so the content of the file is not known.
    Poisoned,
    /// Another process has the file open for writing.
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// A log exists already.
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory does not contain the requested part of a log.
    NotFound {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(file: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
        let file = file.to_path_buf();
        move |source| Error::Io { file, what, source }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { file: file.to_path_buf(), offset, what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Corrupt { file, offset, what } => {
                write!(f, "{} is damaged at byte {offset}: {what}", file.display())
            }
            Error::Io { file, what, source } => write!(f, "{what} {}: {source}", file.display()),
            Error::Poisoned => {
                f.write_str("an earlier write or sync failed; the log accepts no more writes")
            }
            Error::Locked { file } => {
                write!(f, "{} is locked by another process", file.display())
            }
            Error::Exists { dir } => write!(f, "a log exists already in {}", dir.display()),
            Error::NotFound { dir, what } => write!(f, "{}: {what}", dir.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Corrupt { .. }
            | Error::Poisoned
            | Error::Locked { .. }
            | Error::Exists { .. }
            | Error::NotFound { .. } => None,
        }
    }
}
