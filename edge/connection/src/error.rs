//! Why a connection ends.

use http2::ConnectionFault;
use std::io;

/// Why a connection ended otherwise than by its client or its server closing it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed, or one of its time limits has passed.
    Io(io::Error),
    /// The client broke a rule of HTTP/2.
    Client(ConnectionFault),
    /// The client has answered no ping.
    Silent,
    /// HTTP/1.1 failed.
    Http1(hyper::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "{error}"),
            Error::Client(fault) => write!(f, "the client broke a rule of HTTP/2: {fault}"),
            Error::Silent => f.write_str("the client did not answer a ping in time"),
            Error::Http1(error) => write!(f, "HTTP/1.1: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(error) => Some(error),
            Error::Client(fault) => Some(fault),
            Error::Silent => None,
            Error::Http1(error) => Some(error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<ConnectionFault> for Error {
    fn from(fault: ConnectionFault) -> Error {
        Error::Client(fault)
    }
}
