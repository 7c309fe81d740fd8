//! Errors of a call, with the messages of Go's client.
//!
//! Source: etcd v3.7.1 client/v3/client.go `ContextError`, api/v3rpc/rpctypes/error.go `Error`.

use std::fmt;
use tonic::{Code, Status};

/// Why a call failed.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server responded with an error, or could not be reached.
    Status(Box<Status>),
    /// The deadline of the call has passed; the status says what the call waited for.
    DeadlineExceeded(Box<Status>),
    /// The configuration is invalid.
    Config(String),
    /// A contender does not have its lock, or does not lead.
    Contention(Contention),
    /// A request over HTTP/1.1 failed.
    Http(String),
    /// No endpoint has the state that an [`OrderedClient`](crate::OrderedClient) has returned last.
    NoGreaterRevision,
    /// A snapshot was received that is incomplete or damaged.
    Snapshot(String),
}

/// The text of [`Error::NoGreaterRevision`], which is Go's.
const NO_GREATER_REVISION: &str = "etcdclient: no cluster members have a revision higher than the \
                                   previously received revision";

/// Why a contender does not own its name. The texts are Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contention {
    /// Another session has the lock.
    Locked,
    /// The key is gone, and the lease of the session with it.
    SessionExpired,
    /// The mutex is not locked.
    NotLocked,
    /// The contender does not lead.
    NotLeader,
    /// There is no leader.
    NoLeader,
}

impl Contention {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Contention::Locked => "mutex: Locked by another session",
            Contention::SessionExpired => "mutex: session is expired",
            Contention::NotLocked => "mutex: lock has already been released",
            Contention::NotLeader => "election: not leader",
            Contention::NoLeader => "election: no leader",
        }
    }
}

impl fmt::Display for Contention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error {
    /// The gRPC code; `Unknown` for errors that no server has sent.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Error::Status(status) => status.code(),
            Error::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Error::Config(_)
            | Error::Contention(_)
            | Error::Http(_)
            | Error::NoGreaterRevision
            | Error::Snapshot(_) => Code::Unknown,
        }
    }

    /// The message without its code.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Error::Status(status) | Error::DeadlineExceeded(status) => status.message(),
            Error::Config(message) | Error::Http(message) | Error::Snapshot(message) => message,
            Error::Contention(contention) => contention.text(),
            Error::NoGreaterRevision => NO_GREATER_REVISION,
        }
    }

    /// The error as grpc-go prints it.
    #[must_use]
    pub fn as_rpc_error(&self) -> String {
        match self {
            Error::Status(status) | Error::DeadlineExceeded(status) => rpc_error(status),
            other @ (Error::Config(_)
            | Error::Http(_)
            | Error::Contention(_)
            | Error::NoGreaterRevision
            | Error::Snapshot(_)) => other.message().to_string(),
        }
    }
}

impl From<Contention> for Error {
    fn from(contention: Contention) -> Error {
        Error::Contention(contention)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Status(Box::new(status))
    }
}

/// etcd's own errors, recognized by their prefix, are printed without the code. So is the reason
/// why a watch was canceled, because it may contain a code itself.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status(status)
                if ["etcdserver: ", "rpc error: "]
                    .iter()
                    .any(|prefix| status.message().starts_with(prefix)) =>
            {
                f.write_str(status.message())
            }
            Error::Status(status) => f.write_str(&rpc_error(status)),
            Error::DeadlineExceeded(_) => f.write_str("context deadline exceeded"),
            other @ (Error::Config(_)
            | Error::Http(_)
            | Error::Contention(_)
            | Error::NoGreaterRevision
            | Error::Snapshot(_)) => f.write_str(other.message()),
        }
    }
}

impl std::error::Error for Error {}

fn rpc_error(status: &Status) -> String {
    format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
}

/// The name of a code in grpc-go.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_etcds_own_errors_stand_without_code() {
        let error = Error::from(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(error.to_string(), "etcdserver: requested lease not found");
        let error = Error::from(Status::unavailable("error reading from server: EOF"));
        assert_eq!(
            error.to_string(),
            "rpc error: code = Unavailable desc = error reading from server: EOF"
        );
        let error = Error::DeadlineExceeded(Box::new(Status::deadline_exceeded("why")));
        assert_eq!(error.to_string(), "context deadline exceeded");
        assert_eq!(error.as_rpc_error(), "rpc error: code = DeadlineExceeded desc = why");
    }
}
