//! The body of a call's request: from a connection, or from the server itself when one handler
//! calls another.

use bytes::Bytes;
use connection::{RequestBody, RequestError};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A request body.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// From a client's connection.
    Network(RequestBody),
    /// Framed messages from another handler. The body ends when the sender is dropped.
    Own(mpsc::Receiver<Bytes>),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        match &mut *self {
            Inbound::Network(body) => Pin::new(body).poll_frame(cx),
            Inbound::Own(messages) => {
                messages.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}
