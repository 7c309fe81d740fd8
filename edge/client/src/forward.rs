//! Calls whose messages are passed on as they are, without being decoded: for a proxy.

use crate::api::policy;
use crate::call::{Client, Outgoing};
use crate::error::Error;
use bytes::{Buf as _, BufMut as _, Bytes};
use tokio_stream::{Stream, StreamExt as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::{Status, Streaming};

impl Client {
    /// Makes a unary call with an encoded request, and returns the encoded response. It is retried as
    /// far as the method allows.
    ///
    /// # Errors
    /// When the response is an error, or does not come in time.
    pub async fn forward(&self, method: &'static str, message: Bytes) -> Result<Bytes, Error> {
        let request = Outgoing { size: message.len(), message };
        self.unary_as::<RawCodec>(method, policy(method), request).await
    }

    /// Opens a stream with encoded requests. `requires_leader` makes a member that loses its leader
    /// end the stream.
    ///
    /// # Errors
    /// When the server refuses the stream. Waits for the server as long as it takes.
    pub async fn forward_stream(
        &self,
        method: &'static str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        requires_leader: bool,
    ) -> Result<Forwarded, Error> {
        let mut request = self.request(requests, None)?;
        if requires_leader {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        let connection = self.balancer.pick().await;
        Ok(Forwarded(self.stream_as::<RawCodec>(connection, method, request).await?))
    }
}

/// The encoded responses of a stream.
#[derive(Debug)]
pub struct Forwarded(Streaming<Bytes>);

impl Forwarded {
    /// The next response; `None` after the last one.
    ///
    /// # Errors
    /// When the stream ends with an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(self.0.next().await.transpose()?)
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
