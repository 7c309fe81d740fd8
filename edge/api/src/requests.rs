//! The requests of a bidirectional stream. They are read only while there is room for their
//! responses. So a client that sends and does not read makes the server hold at most
//! [`RESPONSES_MAX`] bytes of responses and one HTTP/2 window of unread requests.

use crate::call_metrics::StreamCounters;
use crate::host::Host;
use crate::inbound::Inbound;
use bytes::Bytes;
use net::limits::REQUEST_TIME_MAX;
use rpc::frame::{Messages, decode_in_stream, in_stream};
use rpc::queue::Feeder;
use rpc::{Code, Status};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Sleep, sleep};

/// No further request of a stream is read while more than this many bytes wait for its client.
pub(crate) const RESPONSES_MAX: usize = 64 * 1024;

/// The requests of one stream, in order.
pub(crate) struct Requests<H> {
    messages: Messages<Inbound>,
    /// Limits the wait for the rest of a message. It is a field because [`Requests::next`] is often
    /// dropped and called again while a message arrives.
    limit: Option<Pin<Box<Sleep>>>,
    responses: Feeder,
    tally: StreamCounters<H>,
    /// etcd's name for the stream, in its metrics.
    api: &'static str,
}

impl<H: Host> Requests<H> {
    /// Reads requests whose responses go to `responses`.
    pub(crate) fn new(
        messages: Messages<Inbound>,
        responses: Feeder,
        tally: StreamCounters<H>,
        api: &'static str,
    ) -> Requests<H> {
        Requests { messages, limit: None, responses, tally, api }
    }

    /// Waits until there is room for responses and reads the next request; `None` when the client
    /// has sent its last one.
    ///
    /// # Errors
    /// When the client is gone, sends a message too slowly, or sends a message that cannot be
    /// decoded.
    pub(crate) async fn next<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        if !self.responses.room(RESPONSES_MAX).await {
            return Err(Status::new(Code::Cancelled, "context canceled"));
        }
        let received = self.receive().await;
        if received.as_ref().is_err_and(|status| status.code != Code::Cancelled) {
            self.tally.service.host.count_stream_failure(self.api);
        }
        received
    }

    async fn receive<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let message = poll_fn(|cx| self.poll_message(cx)).await?;
        let Some(message) = message else { return Ok(None) };
        self.tally.received(message.len());
        decode_in_stream(message).map(Some)
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        if let Poll::Ready(message) = self.messages.poll_next(cx) {
            self.limit = None;
            return Poll::Ready(message.map_err(in_stream));
        }
        if !self.messages.is_within_message() {
            return Poll::Pending;
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(REQUEST_TIME_MAX)));
        limit.as_mut().poll(cx).map(|()| Err(too_late()))
    }
}

/// The status of a call when a message of its client did not arrive in time.
pub(crate) fn too_late() -> Status {
    let limit = REQUEST_TIME_MAX.as_secs();
    let why = format!("retcd: the request did not arrive within {limit} s");
    Status::new(Code::DeadlineExceeded, why)
}
