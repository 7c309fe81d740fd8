//! What can go wrong with a log or a snapshot file, sorted by who has to act.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A log that cannot be read or written.
#[derive(Debug)]
pub enum Error {
    /// The bytes on the disk are not what was written. Nothing was overwritten. The member must
    /// not vote with this log; it recovers from the others.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The disk failed. Every later call answers [`Error::Poisoned`].
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk failed before, so that nothing is known about what later writes would do.
    Poisoned,
    /// Another process has the file open for writing.
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// There is a log already.
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory lacks what was asked for.
    NotFound {
        /// The directory.
        dir: PathBuf,
        /// What is not there.
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
            Error::Poisoned => f.write_str("the disk failed before; nothing is written any more"),
            Error::Locked { file } => {
                write!(f, "{} is locked by another process", file.display())
            }
            Error::Exists { dir } => write!(f, "there is a log in {} already", dir.display()),
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
