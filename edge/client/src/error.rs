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
}

impl Error {
    /// The gRPC code; `Unknown` for errors of the configuration.
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

    /// The error as grpc-go prints it.
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

/// etcd's own errors, recognized by their prefix, are printed without the code.
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
