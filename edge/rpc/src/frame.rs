//! Message framing: a prefix of five bytes holds the compression flag and the length. A message
//! that arrives in one piece is not copied.
//!
//! Source: gRPC over HTTP/2 (grpc.io doc/PROTOCOL-HTTP2.md); the messages of errors are those of
//! grpc-go 1.82.

use crate::{Status, gzip};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;
use std::task::{Context, Poll};
use tonic::Code;

/// The maximal length of a piece of a body, in bytes.
pub const PIECE_MAX: usize = 64 * 1024;
/// The length of the prefix, in bytes.
pub const PREFIX_LEN: usize = 5;

/// The longest message that is sent, in bytes.
///
/// Source: etcd v3.7 server/etcdserver/api/v3rpc/grpc.go `maxSendBytes`.
pub const SENT_MAX: usize = 0x7fff_ffff;

/// Checks that a message of this length in bytes can be sent.
///
/// # Errors
/// When it is longer than [`SENT_MAX`], with the text of grpc-go.
pub fn check_sent(len: usize) -> Result<(), Status> {
    if len <= SENT_MAX {
        return Ok(());
    }
    let why = format!("grpc: trying to send message larger than max ({len} vs. {SENT_MAX})");
    Err(Status::new(Code::ResourceExhausted, why))
}

/// The prefix of a message of this length in bytes.
///
/// # Panics
/// When the message is 4 GiB or longer. Messages whose length depends on clients or the store must
/// pass [`check_sent`] first.
#[must_use]
pub fn prefix(len: usize) -> [u8; PREFIX_LEN] {
    let len = u32::try_from(len).unwrap_or_else(|_| panic!("a message of {len} bytes"));
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

/// The position of a body within its messages.
#[derive(Debug, Default)]
pub(crate) struct MessagePosition {
    /// The start of a prefix, and its length.
    prefix: ([u8; PREFIX_LEN], usize),
    /// The bytes of the current message that are still to come.
    missing: usize,
}

impl MessagePosition {
    /// Moves over a piece.
    pub(crate) fn advance(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.missing > 0 {
                let len = self.missing.min(piece.len());
                self.missing -= len;
                piece = &piece[len..];
                continue;
            }
            let (prefix, filled) = &mut self.prefix;
            let len = (PREFIX_LEN - *filled).min(piece.len());
            prefix[*filled..*filled + len].copy_from_slice(&piece[..len]);
            *filled += len;
            piece = &piece[len..];
            if *filled == PREFIX_LEN {
                let [_, len @ ..] = *prefix;
                self.missing = u32::from_be_bytes(len) as usize;
                *filled = 0;
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_within_message(&self) -> bool {
        self.missing > 0 || self.prefix.1 > 0
    }
}

/// Refuses a call with messages in a compression that is not supported.
///
/// # Errors
/// When the `grpc-encoding` header names anything but gzip and identity.
pub fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get(gzip::ENCODING) {
        None => Ok(()),
        Some(value) if value.is_empty() || value == "identity" || value == "gzip" => Ok(()),
        Some(value) => {
            let encoding = crate::status::go_quoted(value.as_bytes());
            let why = format!("grpc: Decompressor is not installed for grpc-encoding {encoding}");
            Err(Status::new(Code::Unimplemented, why))
        }
    }
}

/// The messages of one stream, in order.
///
/// - Buffers at most one incomplete message: no more than `max` bytes and one HTTP/2 frame.
/// - Must not be polled again after an error.
#[derive(Debug)]
pub struct Messages<B> {
    body: B,
    max: usize,
    /// Messages may be compressed with gzip.
    is_gzip: bool,
    /// Received data that is not consumed yet.
    pending: Bytes,
    /// The start of a message that arrives in several pieces.
    gathered: BytesMut,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads from `body`, and refuses messages longer than `max` bytes.
    pub fn new(body: B, max: usize) -> Messages<B> {
        Messages { body, max, is_gzip: false, pending: Bytes::new(), gathered: BytesMut::new() }
    }

    /// As [`Messages::new`], for a request with these headers.
    pub fn of(headers: &HeaderMap, body: B, max: usize) -> Messages<B> {
        Messages { is_gzip: gzip::is_gzip(headers), ..Messages::new(body, max) }
    }

    /// The next message; `None` when the client has sent its last one.
    ///
    /// # Errors
    /// When the message is too long, compressed, cut short, or the stream was cancelled.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Messages::next`].
    ///
    /// # Errors
    /// As [`Messages::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if !ready!(self.poll_data(cx))? {
                let is_cut = self.is_within_message();
                return Poll::Ready(if is_cut { Err(cut_short()) } else { Ok(None) });
            }
        }
    }

    /// Whether the next message has arrived in part.
    pub fn is_within_message(&self) -> bool {
        !self.pending.is_empty() || !self.gathered.is_empty()
    }

    /// The only message of a unary call.
    ///
    /// # Errors
    /// As [`Messages::next`], and when there is none.
    pub async fn only(mut self) -> Result<Bytes, Status> {
        match self.next().await? {
            Some(message) => Ok(message),
            None => Err(Status::new(Code::Unknown, "EOF")),
        }
    }

    /// The only request of a call with a stream of responses.
    ///
    /// # Errors
    /// As [`Messages::next`], and when there is none.
    pub async fn first(&mut self) -> Result<Bytes, Status> {
        match self.next().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Status::new(
                Code::Internal,
                "cardinality violation: received no request message from non-client-streaming RPC",
            )),
            Err(status) => Err(in_stream(status)),
        }
    }

    /// Takes the next message, if it is complete.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if !self.gathered.is_empty() {
            return self.take_gathered();
        }
        let Some(len) = message_len(&self.pending, self.max)? else {
            return Ok(None);
        };
        if self.pending.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let flag = self.pending[0];
        self.pending.advance(PREFIX_LEN);
        let message = self.pending.split_to(len);
        self.plain(flag, message).map(Some)
    }

    /// Takes a message that came in pieces: its rest from `pending`, with one copy.
    fn take_gathered(&mut self) -> Result<Option<Bytes>, Status> {
        while self.gathered.len() < PREFIX_LEN && self.pending.has_remaining() {
            let missing = PREFIX_LEN - self.gathered.len();
            let part = self.pending.split_to(missing.min(self.pending.len()));
            self.gathered.extend_from_slice(&part);
        }
        let Some(len) = message_len(&self.gathered, self.max)? else {
            return Ok(None);
        };
        let missing = PREFIX_LEN + len - self.gathered.len();
        let part = self.pending.split_to(missing.min(self.pending.len()));
        self.gathered.extend_from_slice(&part);
        if self.gathered.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let flag = self.gathered[0];
        let mut message = std::mem::take(&mut self.gathered).freeze();
        message.advance(PREFIX_LEN);
        self.plain(flag, message).map(Some)
    }

    /// The message, decompressed if its flag says that it is compressed.
    fn plain(&self, flag: u8, message: Bytes) -> Result<Bytes, Status> {
        match flag {
            0 => Ok(message),
            1 if self.is_gzip => gzip::decompressed(&message, self.max),
            1 => Err(Status::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            )),
            other => Err(Status::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {other}"),
            )),
        }
    }

    /// Waits for more data; false at the end of the stream.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Status>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(false)),
                Some(Ok(frame)) => frame,
                // The client is gone, so it does not see this status.
                Some(Err(_)) => {
                    let gone = Status::new(Code::Cancelled, "context canceled");
                    return Poll::Ready(Err(gone));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            if self.pending.is_empty() {
                self.pending = data;
            } else {
                // `pending` is the start of a message: collect the message in `gathered`.
                let begun = std::mem::replace(&mut self.pending, data);
                self.gathered.extend_from_slice(&begun);
            }
            return Poll::Ready(Ok(true));
        }
    }
}

/// The length in the prefix; `None` if the prefix is not complete.
fn message_len(bytes: &[u8], max: usize) -> Result<Option<usize>, Status> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    let [_, len @ ..] = prefix;
    // A u32 fits a usize on all supported platforms; elsewhere the limit refuses the message.
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > max {
        let why = format!("grpc: received message larger than max ({len} vs. {max})");
        return Err(Status::new(Code::ResourceExhausted, why));
    }
    Ok(Some(len))
}

fn cut_short() -> Status {
    Status::new(Code::Unknown, "unexpected EOF")
}

/// grpc-go reports a truncated message of a stream as an internal error.
#[must_use]
pub fn in_stream(status: Status) -> Status {
    if status == cut_short() { Status { code: Code::Internal, ..status } } else { status }
}

/// Decodes the request of a unary call.
///
/// # Errors
/// When the bytes are not such a message.
pub fn decode<M: prost::Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let why = format!("grpc: error unmarshalling request: {}", go_words(&error));
        Status::new(Code::Internal, why)
    })
}

/// Decodes a request of a stream.
///
/// # Errors
/// When the bytes are not such a message.
pub fn decode_in_stream<M: prost::Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let why = format!("grpc: failed to unmarshal the received message: {}", go_words(&error));
        Status::new(Code::Internal, why)
    })
}

/// The text of Go's protobuf for a decoding error.
fn go_words(error: &prost::DecodeError) -> &'static str {
    if error.to_string().contains("UTF-8") {
        "string field contains invalid UTF-8"
    } else {
        "proto: cannot parse invalid wire-format data"
    }
}

#[cfg(test)]
mod tests;
