//! What can go wrong with a call, in the words of Go's client.
//!
//! Source: etcd v3.7.1 client/v3/client.go `ContextError`, api/v3rpc/rpctypes/error.go `Error`.

use std::fmt;
use tonic::{Code, Status};

/// Why a call gave no answer.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server, or the way to it, answered with an error.
    Status(Box<Status>),
    /// The time given for the call was up; the status says what it was waiting for.
    DeadlineExceeded(Box<Status>),
    /// The client cannot be used like that.
    Config(String),
}

impl Error {
    /// gRPC's code; `Unknown` for what is not a matter of gRPC.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Error::Status(status) => status.code(),
            Error::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Error::Config(_) => Code::Unknown,
        }
    }

    /// The message without its code.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Error::Status(status) | Error::DeadlineExceeded(status) => status.message(),
            Error::Config(message) => message,
        }
    }

    /// The whole of it as grpc-go prints it, whatever the kind.
    #[must_use]
    pub fn as_rpc_error(&self) -> String {
        match self {
            Error::Status(status) | Error::DeadlineExceeded(status) => rpc_error(status),
            Error::Config(message) => message.clone(),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Status(Box::new(status))
    }
}

/// etcd's own errors are known by their text; only they are printed without the code.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status(status) if status.message().starts_with("etcdserver: ") => {
                f.write_str(status.message())
            }
            Error::Status(status) => f.write_str(&rpc_error(status)),
            Error::DeadlineExceeded(_) => f.write_str("context deadline exceeded"),
            Error::Config(message) => f.write_str(message),
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
