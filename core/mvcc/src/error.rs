//! The errors of the store, sorted by who has to act.

use std::fmt;

/// A request that cannot be served. It is deterministic: every member gives the same error, and
/// nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The revision is below the compacted revision.
    Compacted,
    /// The revision is newer than the store.
    FutureRevision,
    /// A put should keep the value or the lease of a key that does not exist.
    KeyNotFound,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::Compacted => "mvcc: required revision has been compacted",
            RequestError::FutureRevision => "mvcc: required revision is a future revision",
            RequestError::KeyNotFound => "etcdserver: key not found",
        })
    }
}

impl std::error::Error for RequestError {}

/// A failure of the store. The member must stop.
#[derive(Debug)]
pub enum Error {
    /// An error of the backend.
    Backend(backend::Error),
    /// The file is intact, but its content is not what etcd writes.
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// The key of the bucket where it was found.
        key: Vec<u8>,
    },
}

impl Error {
    pub(crate) fn corrupt(what: &'static str, key: &[u8]) -> Error {
        Error::Corrupt { what, key: key.to_vec() }
    }
}

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Error {
        Error::Backend(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Backend(error) => error.fmt(f),
            Error::Corrupt { what, key } => write!(f, "{what}, at {}", key.escape_ascii()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Backend(error) => Some(error),
            Error::Corrupt { .. } => None,
        }
    }
}
