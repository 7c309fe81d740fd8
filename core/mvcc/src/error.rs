//! What can go wrong in the store, sorted by who has to act.

use std::fmt;

/// What a caller asked for in vain. Deterministic: every member says the same, and nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The revision is older than what compaction left.
    Compacted,
    /// The revision is newer than the store.
    FutureRevision,
    /// A put was to keep the value or lease of a key that is not there.
    KeyNotFound,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reject::Compacted => "mvcc: required revision has been compacted",
            Reject::FutureRevision => "mvcc: required revision is a future revision",
            Reject::KeyNotFound => "etcdserver: key not found",
        })
    }
}

impl std::error::Error for Reject {}

/// Why the store cannot go on. All of them mean: stop.
#[derive(Debug)]
pub enum Error {
    /// From below.
    Backend(backend::Error),
    /// The file is sound, but holds what no etcd writes.
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Where, as a key of its bucket.
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
