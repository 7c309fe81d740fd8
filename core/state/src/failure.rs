//! Errors of applying an entry: either every member rejects the entry alike, or this member must
//! stop.

use crate::reject::Reject;
use lease::LeaseError;
use std::fmt;

/// Why an entry was not applied.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The entry is rejected; nothing was changed.
    Reject(Reject),
    /// The store cannot be read; the member stops.
    Store(mvcc::Error),
    /// This server cannot apply the entry; the member stops.
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

impl From<auth::AuthRefusal> for Failure {
    fn from(refusal: auth::AuthRefusal) -> Failure {
        if let auth::AuthRefusal::Denied(denied) = refusal {
            return denied.into();
        }
        Failure::Reject(Reject::Auth(refusal))
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

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Failure {
        Failure::Reject(match error {
            LeaseError::NotFound => Reject::LeaseNotFound,
            LeaseError::Exists => Reject::LeaseExists,
            LeaseError::TtlTooLarge => Reject::LeaseTtlTooLarge,
            other @ LeaseError::NotPrimary => {
                return Failure::Entry(format!("unexpected error of the lessor: {other}"));
            }
        })
    }
}

/// Why a read from a view failed.
#[derive(Debug)]
pub enum ReadError {
    /// The caller has no permission.
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

/// Why a member must stop.
#[derive(Debug)]
pub enum Fatal {
    /// The store cannot be read.
    Store(mvcc::Error),
    /// The stored data is inconsistent.
    Corrupt(String),
    /// This server cannot apply a committed entry.
    Entry {
        /// Its index.
        index: u64,
        /// The reason.
        why: String,
    },
    /// The directory is of a newer version, or needs a part of the server that is not built yet.
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
