//! Why the server has no answer for a request. Texts and gRPC codes are in `rpc`.

use executor::RequestFailure;
use state::Reject;
use std::fmt;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The entry was applied, and its result says no.
    Rejected(Reject),
    /// Too much is committed and not yet applied.
    TooManyRequests,
    /// The request is longer than the limit.
    RequestTooLarge,
    /// No answer came in time; the request may have been carried out or not.
    Timeout,
    /// No leader is known.
    NoLeader,
    /// The server is stopping.
    Stopped,
    /// The store cannot be read; the reason is for the client and in the log.
    Store(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected(reject) => write!(f, "rejected: {reject:?}"),
            Error::TooManyRequests => f.write_str("too many requests"),
            Error::RequestTooLarge => f.write_str("request is too large"),
            Error::Timeout => f.write_str("request timed out"),
            Error::NoLeader => f.write_str("no leader"),
            Error::Stopped => f.write_str("server stopped"),
            Error::Store(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<mvcc::Error> for Error {
    fn from(error: mvcc::Error) -> Error {
        Error::Store(error.to_string())
    }
}

impl From<mvcc::RequestError> for Error {
    fn from(reject: mvcc::RequestError) -> Error {
        match reject {
            mvcc::RequestError::Compacted => Error::Rejected(Reject::Compacted),
            mvcc::RequestError::FutureRevision => Error::Rejected(Reject::FutureRevision),
            mvcc::RequestError::KeyNotFound => Error::Rejected(Reject::KeyNotFound),
        }
    }
}

impl From<RequestFailure> for Error {
    fn from(failure: RequestFailure) -> Error {
        match failure {
            RequestFailure::Rejected(reject) => Error::Rejected(reject),
            RequestFailure::TooManyRequests => Error::TooManyRequests,
        }
    }
}
