//! The requests of a bidirectional stream. They are read only while there is room for their
//! responses: a client that sends and does not read cannot make the server hold more than
//! [`RESPONSES_MAX`] and the HTTP/2 window of its unread requests.

use crate::call_metrics::StreamCounters;
use crate::host::Host;
use hyper::body::Incoming;
use rpc::frame::{Messages, decode_in_stream, in_stream};
use rpc::queue::Feeder;
use rpc::{Code, Status};

/// No further request of a stream is read while more than this many bytes wait for its client.
const RESPONSES_MAX: usize = 64 * 1024;

/// The requests of one stream, in order.
pub(crate) struct Requests<H> {
    messages: Messages<Incoming>,
    responses: Feeder,
    tally: StreamCounters<H>,
}

impl<H: Host> Requests<H> {
    /// Reads requests whose responses go to `responses`.
    pub(crate) fn new(
        messages: Messages<Incoming>,
        responses: Feeder,
        tally: StreamCounters<H>,
    ) -> Requests<H> {
        Requests { messages, responses, tally }
    }

    /// Waits until there is room for responses and reads the next request; `None` when the client
    /// has sent its last one.
    ///
    /// # Errors
    /// When the client is gone or what it sent is not such a request.
    pub(crate) async fn next<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        if !self.responses.room(RESPONSES_MAX).await {
            return Err(Status::new(Code::Cancelled, "context canceled"));
        }
        let Some(message) = self.messages.next().await.map_err(in_stream)? else {
            return Ok(None);
        };
        self.tally.received(message.len());
        decode_in_stream(message).map(Some)
    }
}
