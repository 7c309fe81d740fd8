//! A call of a client, and its side towards the servers.

use crate::shared::Proxy;
use crate::upstream::with_token;
use bytes::Bytes;
use client::Client;
use connection::RequestBody;
use http::request::Parts;
use net::limits::REQUEST_TIME_MAX;
use rpc::body::{PIECE_MAX, Reply, Source, message, source};
use rpc::frame::{Messages, check_sent, prefix};
use rpc::queue::Feeder;
use rpc::{Code, Status};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The maximum size of a client's message, in bytes. That of grpc-go.
pub(crate) const MESSAGE_MAX: usize = 4 << 20;
/// A stream's next response is asked for when at most so many bytes wait for its client.
pub(crate) const WAITING_MAX: usize = 64 << 10;

/// A call on its way to its handler.
pub(crate) struct Call {
    pub(crate) proxy: Rc<Proxy>,
    pub(crate) head: Rc<Parts>,
    pub(crate) messages: Messages<RequestBody>,
    pub(crate) deadline: Option<Instant>,
}

impl Call {
    /// The client's token.
    pub(crate) fn token(&self) -> Option<Bytes> {
        let token = self.head.headers.get("token").filter(|token| !token.is_empty())?;
        Some(Bytes::copy_from_slice(token.as_bytes()))
    }

    /// Whether the stream must end when the cluster has no leader.
    pub(crate) fn requires_leader(&self) -> bool {
        self.head.headers.get("hasleader").is_some_and(|value| value == "true")
    }

    /// A client of the servers with the token and the remaining time of this call.
    pub(crate) fn client(&self) -> Client {
        let client = with_token(&self.proxy.client, self.token().as_ref());
        match self.deadline {
            Some(deadline) => {
                client.with_timeout(deadline.saturating_duration_since(Instant::now()))
            }
            None => client,
        }
    }

    /// The only request of a unary call.
    pub(crate) async fn request(&mut self) -> Result<Bytes, Status> {
        let received = tokio::time::timeout(REQUEST_TIME_MAX, self.messages.next()).await;
        match received.map_err(|_| too_late())?? {
            Some(message) => Ok(message),
            None => Err(Status::new(Code::Unknown, "EOF")),
        }
    }
}

fn too_late() -> Status {
    let limit = REQUEST_TIME_MAX.as_secs();
    let why = format!("retcd: the request did not arrive within {limit} s");
    Status::new(Code::DeadlineExceeded, why)
}

/// The response to a unary call: an encoded message.
pub(crate) fn answer(response: &Bytes) -> Result<Reply, Status> {
    check_sent(response.len())?;
    if response.len() <= PIECE_MAX {
        return Ok(message(response.len(), |to| to.shared(response)));
    }
    let (prefix, rest) = (Some(prefix(response.len())), response.clone());
    Ok(source(Box::new(Long { prefix, len: rest.len(), rest })))
}

/// A long message, which is sent without another copy of it.
struct Long {
    /// `None` once it is sent.
    prefix: Option<[u8; rpc::frame::PREFIX_LEN]>,
    len: usize,
    rest: Bytes,
}

impl Source for Long {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if let Some(prefix) = self.prefix.take() {
            return Poll::Ready(Some(Ok(Bytes::copy_from_slice(&prefix))));
        }
        let piece = self.rest.split_to(PIECE_MAX.min(self.rest.len()));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }

    fn message_len(&self) -> usize {
        self.len
    }
}

/// Waits until a stream is over: its client is gone, or it was ended.
pub(crate) async fn is_over(feeder: &Feeder) {
    while feeder.drained().await.is_some() {}
}

/// Waits for the deadline of a stream.
pub(crate) async fn expired(deadline: Option<Instant>) -> Status {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
    Status::deadline_exceeded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_long_message_is_sent_in_bounded_pieces() {
        let response = Bytes::from(vec![7; 2 * PIECE_MAX + 1]);
        let mut reply = answer(&response).unwrap();
        assert_eq!(reply.body().message_len(), response.len());
        let mut got = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(rpc::body::Part::Data(piece))) =
            reply.body_mut().poll_part(&mut cx)
        {
            assert!(piece.len() <= PIECE_MAX);
            got.extend_from_slice(&piece);
        }
        assert_eq!(got[..5], prefix(response.len()));
        assert_eq!(got[5..], response);
    }
}
