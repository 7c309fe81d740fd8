//! The two ways in which applying an entry can fail: the entry is rejected, by every member
//! alike, or this member cannot go on.

use crate::reject::Reject;
use std::fmt;

/// Why an entry was not applied.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The entry's result says no; nothing was changed.
    Reject(Reject),
    /// The store cannot be read; the member stops.
    Store(mvcc::Error),
    /// The entry is nothing that this server can apply; the member stops.
    Entry(String),
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Failure {
        Failure::Reject(reject)
    }
}

impl From<auth::Denied> for Failure {
    fn from(denied: auth::Denied) -> Failure {
        Failure::Reject(Reject::Denied(denied))
    }
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<mvcc::RequestError> for Failure {
    fn from(reject: mvcc::RequestError) -> Failure {
        Failure::Reject(match reject {
            mvcc::RequestError::Compacted => Reject::Compacted,
            mvcc::RequestError::FutureRevision => Reject::FutureRevision,
            mvcc::RequestError::KeyNotFound => Reject::KeyNotFound,
        })
    }
}

impl From<lease::LeaseError> for Failure {
    fn from(reject: lease::LeaseError) -> Failure {
        Failure::Reject(match reject {
            lease::LeaseError::NotFound => Reject::LeaseNotFound,
            lease::LeaseError::Exists => Reject::LeaseExists,
            lease::LeaseError::TtlTooLarge => Reject::LeaseTtlTooLarge,
            other @ lease::LeaseError::NotPrimary => {
                return Failure::Entry(format!("an unexpected rejection: {other}"));
            }
        })
    }
}

/// Why a read from a view failed.
#[derive(Debug)]
pub enum ReadError {
    /// The caller may not read it.
    Denied(auth::Denied),
    /// The store cannot be read.
    Store(mvcc::Error),
}

impl From<auth::Denied> for ReadError {
    fn from(denied: auth::Denied) -> ReadError {
        ReadError::Denied(denied)
    }
}

impl From<mvcc::Error> for ReadError {
    fn from(error: mvcc::Error) -> ReadError {
        ReadError::Store(error)
    }
}

/// Why a member cannot go on.
#[derive(Debug)]
pub enum Fatal {
    /// The store cannot be read.
    Store(mvcc::Error),
    /// What is stored does not fit together.
    Corrupt(String),
    /// A committed entry is nothing that this server can apply.
    Entry {
        /// Its index.
        index: u64,
        /// Why not.
        why: String,
    },
    /// The directory needs a part of the server that is not built yet, or is too new.
    Unsupported(String),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Store(error) => error.fmt(f),
            Fatal::Corrupt(why) | Fatal::Unsupported(why) => f.write_str(why),
            Fatal::Entry { index, why } => write!(f, "cannot apply entry {index}: {why}"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<mvcc::Error> for Fatal {
    fn from(error: mvcc::Error) -> Fatal {
        Fatal::Store(error)
    }
}

impl From<backend::Error> for Fatal {
    fn from(error: backend::Error) -> Fatal {
        Fatal::Store(error.into())
    }
}
