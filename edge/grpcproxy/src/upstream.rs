//! Calls to the servers on behalf of a client: its token, and the status of a call that failed.

use bytes::Bytes;
use client::Client;
use rpc::Status;

/// A client with this token. One with bytes that no header can have is no token of a server.
pub(crate) fn with_token(client: &Client, token: Option<&Bytes>) -> Client {
    client.with_token(token.map(|token| String::from_utf8_lossy(token).into_owned()))
}

/// The status of a call that the servers did not answer.
pub(crate) fn status(error: &client::Error) -> Status {
    Status::new(error.code(), error.message().to_owned())
}
