//! Why the server has no answer for a request. Texts and gRPC codes are in `rpc`.

use cluster::{InvalidDowngrade, UnsafeChange};
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
    /// The same, and the leader was elected meanwhile.
    TimeoutLeaderFail,
    /// The same, and the leader, or as the leader a quorum, was not reached all the time.
    TimeoutConnectionLost,
    /// No leader is known.
    NoLeader,
    /// Only the leader can do this.
    NotLeader,
    /// This member does not lead, or not for sure, so it cannot tell about leases.
    NotPrimary,
    /// What is committed was not applied in time.
    NotApplied,
    /// The change of the members could lose the quorum.
    Unsafe(UnsafeChange),
    /// The cluster cannot be downgraded.
    Downgrade(InvalidDowngrade),
    /// There is no voter to hand the leadership over to.
    BadTransferee,
    /// The leadership was not handed over in time.
    TransferTimeout,
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
