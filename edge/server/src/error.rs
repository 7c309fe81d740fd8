//! Errors of requests to the server. Texts and gRPC codes are in `rpc`.

use cluster::{InvalidDowngrade, UnsafeChange};
use executor::RequestFailure;
use state::Reject;
use std::fmt;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The entry was applied, and the request was rejected.
    Rejected(Reject),
    /// Too many requests wait, or too many entries are committed and not yet applied.
    TooManyRequests,
    /// The request is longer than the limit.
    RequestTooLarge,
    /// There was no answer in time. The request may have been executed or not.
    Timeout,
    /// A timeout, and the leader was elected meanwhile.
    TimeoutLeaderFail,
    /// A timeout, and the connection to the leader, or on the leader to a quorum, was lost
    /// meanwhile.
    TimeoutConnectionLost,
    /// No leader is known.
    NoLeader,
    /// Only the leader can do this.
    NotLeader,
    /// This member does not lead, or is not sure of it, so it cannot answer for leases.
    NotPrimary,
    /// The committed entries were not applied in time.
    NotApplied,
    /// The membership change could lose the quorum.
    Unsafe(UnsafeChange),
    /// The cluster cannot be downgraded.
    Downgrade(InvalidDowngrade),
    /// The target of a leadership transfer is not a voter.
    BadTransferee,
    /// The leadership was not transferred in time.
    TransferTimeout,
    /// The server is stopping.
    Stopped,
    /// The store cannot be read. The client gets the reason, and it is logged.
    Store(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected(reject) => write!(f, "rejected: {reject:?}"),
            Error::TooManyRequests => f.write_str("too many requests"),
            Error::RequestTooLarge => f.write_str("request is too large"),
            Error::Timeout => f.write_str("request timed out"),
            Error::TimeoutLeaderFail => {
                f.write_str("request timed out, possibly due to previous leader failure")
            }
            Error::TimeoutConnectionLost => {
                f.write_str("request timed out, possibly due to connection lost")
            }
            Error::NoLeader => f.write_str("no leader"),
            Error::NotLeader => f.write_str("not leader"),
            Error::NotPrimary => f.write_str("not a primary lessor"),
            Error::NotApplied => f.write_str("waiting for the applied index took too long"),
            Error::Unsafe(change) => change.fmt(f),
            Error::Downgrade(invalid) => invalid.fmt(f),
            Error::BadTransferee => f.write_str("bad leader transferee"),
            Error::TransferTimeout => f.write_str("leader transfer took too long"),
            Error::Stopped => f.write_str("server stopped"),
            Error::Store(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<UnsafeChange> for Error {
    fn from(change: UnsafeChange) -> Error {
        Error::Unsafe(change)
    }
}

impl From<InvalidDowngrade> for Error {
    fn from(invalid: InvalidDowngrade) -> Error {
        Error::Downgrade(invalid)
    }
}

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
