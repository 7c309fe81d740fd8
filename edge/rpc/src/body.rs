//! Response bodies: empty, one message, a source that produces pieces while they are sent, a queue
//! that a task feeds, or plain HTTP.
//!
//! HTTP/2 polls a body only while the client's window has room. A source is therefore bounded by
//! the client's window; the feeder of a queue sees how many bytes wait.
//!
//! Source: gRPC over HTTP/2 (grpc.io doc/PROTOCOL-HTTP2.md).

pub use crate::frame::PIECE_MAX;
use crate::frame::{MessagePosition, PREFIX_LEN, check_sent, prefix};
use crate::queue::Receiver;
use crate::{Code, Segments, Status};
use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use proto::answer::Sink;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A body that fails within a message. hyper resets the stream with the reason of the h2 error.
#[derive(Debug)]
pub struct BodyError(h2::Error);

impl BodyError {
    /// The error whose reason grpc-go converts back to the status code, if there is such a reason.
    pub(crate) fn of(status: &Status) -> BodyError {
        let reason = if status.code == Code::ResourceExhausted {
            Reason::ENHANCE_YOUR_CALM
        } else if matches!(status.code, Code::Cancelled | Code::DeadlineExceeded) {
            Reason::CANCEL
        } else {
            Reason::INTERNAL_ERROR
        };
        BodyError(h2::Error::from(reason))
    }

    /// The code of HTTP/2 that the stream is reset with.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.0.reason().unwrap_or(Reason::INTERNAL_ERROR).into()
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the response was cut off within a message")
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Produces a body piece by piece while HTTP/2 polls it.
pub trait Source {
    /// The next piece of at most [`PIECE_MAX`] bytes, prefixes of messages included; `None` at
    /// the end.
    ///
    /// # Errors
    /// The status that the call ends with. Within a message the stream is reset instead, with the
    /// reason that is nearest to the status.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;

    /// The length in bytes of the message without its prefix; 0 for a stream of messages.
    fn message_len(&self) -> usize {
        0
    }
}

/// A body of plain HTTP, of any kind.
pub type PlainBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>;

/// The body of a response.
pub struct Body(Kind);

enum Kind {
    Empty,
    Trailers(Status),
    Piece(Bytes, Status),
    Source(Box<dyn Source>, MessagePosition),
    Queue(Receiver),
    PlainPiece(Bytes),
    Plain(PlainBody),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl Body {
    /// Plain HTTP in one piece.
    #[must_use]
    pub fn plain(bytes: Bytes) -> Body {
        Body(if bytes.is_empty() { Kind::Empty } else { Kind::PlainPiece(bytes) })
    }

    /// Plain HTTP of any kind.
    #[must_use]
    pub fn plain_stream(body: PlainBody) -> Body {
        Body(Kind::Plain(body))
    }

    /// The length in bytes of the message of a unary call, without its prefix; 0 for any other
    /// body.
    #[must_use]
    pub fn message_len(&self) -> usize {
        match &self.0 {
            Kind::Piece(piece, _) => piece.len().saturating_sub(PREFIX_LEN),
            Kind::Source(source, _) => source.message_len(),
            Kind::Empty
            | Kind::Trailers(_)
            | Kind::Queue(_)
            | Kind::PlainPiece(_)
            | Kind::Plain(_) => 0,
        }
    }

    /// Whether only the end of the response is left, and it is known. The end needs no window.
    #[must_use]
    pub fn is_at_its_end(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Trailers(_) => true,
            Kind::Queue(queue) => queue.is_at_its_end(),
            Kind::Plain(body) => body.is_end_stream(),
            Kind::Piece(..) | Kind::Source(..) | Kind::PlainPiece(_) => false,
        }
    }

    /// The next part. After the end of the response it is [`Part::End`].
    ///
    /// # Errors
    /// When the response is cut off within a message.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
        let piece = match &mut self.0 {
            Kind::Empty => return Poll::Ready(Ok(Part::End)),
            Kind::Trailers(status) => Err(std::mem::replace(status, Status::OK)),
            Kind::Piece(bytes, status) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Trailers(std::mem::replace(status, Status::OK));
                Ok(bytes)
            }
            Kind::Source(source, position) => match ready!(source.poll_piece(cx)) {
                Some(Ok(piece)) => {
                    position.advance(&piece);
                    Ok(piece)
                }
                // After a part of a message a client would take trailers for a truncated stream.
                Some(Err(status)) if position.is_within_message() => {
                    self.0 = Kind::Empty;
                    return Poll::Ready(Err(BodyError::of(&status)));
                }
                Some(Err(status)) => Err(status),
                None => Err(Status::OK),
            },
            Kind::Queue(queue) => ready!(queue.poll_piece(cx)),
            Kind::PlainPiece(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Ok(bytes)
            }
            Kind::Plain(body) => return poll_plain(body, cx),
        };
        Poll::Ready(Ok(match piece {
            Ok(bytes) => Part::Data(bytes),
            Err(status) => {
                self.0 = Kind::Empty;
                Part::Status(status)
            }
        }))
    }
}

/// A part of a response, after its head.
#[derive(Debug)]
pub enum Part {
    /// Bytes of messages, or of plain HTTP.
    Data(Bytes),
    /// The end of a gRPC call, for its trailers.
    Status(Status),
    /// The end of plain HTTP with trailers.
    Trailers(HeaderMap),
    /// The end without trailers.
    End,
}

fn poll_plain(body: &mut PlainBody, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
    let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
        return Poll::Ready(Ok(Part::End));
    };
    Poll::Ready(frame.map(|frame| match frame.into_data() {
        Ok(data) => Part::Data(data),
        Err(frame) => frame.into_trailers().map_or(Part::End, Part::Trailers),
    }))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match ready!(self.poll_part(cx)) {
            Ok(Part::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Ok(Part::Status(status)) => Some(Ok(Frame::trailers(status.to_trailers()))),
            Ok(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Part::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Plain(body) => body.is_end_stream(),
            Kind::Trailers(_)
            | Kind::Piece(..)
            | Kind::Source(..)
            | Kind::Queue(_)
            | Kind::PlainPiece(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::PlainPiece(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Plain(body) => body.size_hint(),
            Kind::Trailers(_) | Kind::Piece(..) | Kind::Source(..) | Kind::Queue(_) => {
                SizeHint::default()
            }
        }
    }
}

/// The response to a call.
pub type Reply = Response<Body>;

fn reply(kind: Kind) -> Reply {
    let mut response = Response::new(Body(kind));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A response of one message of `len` bytes in one piece, which `write` produces.
///
/// # Panics
/// When `write` does not write `len` bytes: a wrong prefix would garble the stream.
#[must_use]
pub fn message(len: usize, write: impl FnOnce(&mut dyn Sink)) -> Reply {
    let mut buffer = BytesMut::with_capacity(PREFIX_LEN + len);
    buffer.put_slice(&prefix(len));
    write(&mut buffer);
    assert_eq!(buffer.len(), PREFIX_LEN + len, "a message has the length that was announced");
    reply(Kind::Piece(buffer.freeze(), Status::OK))
}

/// A message of `len` bytes in pieces, with its prefix.
///
/// # Panics
/// When `write` does not write `len` bytes.
#[must_use]
pub fn framed(len: usize, write: impl FnOnce(&mut dyn Sink)) -> Vec<Bytes> {
    let mut segments = Segments::new();
    segments.message(len, write);
    segments.into_pieces()
}

/// A response of one message, encoded by prost. Refuses the call if the message is too long.
#[must_use]
pub fn encoded<M: prost::Message>(answer: &M) -> Reply {
    let len = answer.encoded_len();
    if let Err(status) = check_sent(len) {
        return refuse(&status);
    }
    let mut buffer = BytesMut::with_capacity(PREFIX_LEN + len);
    buffer.put_slice(&prefix(len));
    answer.encode_raw(&mut buffer);
    reply(Kind::Piece(buffer.freeze(), Status::OK))
}

/// A response whose body is produced while it is sent.
#[must_use]
pub fn source(source: Box<dyn Source>) -> Reply {
    reply(Kind::Source(source, MessagePosition::default()))
}

/// A response whose messages a task feeds.
#[must_use]
pub fn stream(queue: Receiver) -> Reply {
    reply(Kind::Queue(queue))
}

/// An error response without a body: its status is in the headers.
#[must_use]
pub fn refuse(status: &Status) -> Reply {
    let mut response = reply(Kind::Empty);
    status.put(response.headers_mut());
    response
}

/// True if a request with these headers is a gRPC call.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_recognized_by_its_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_grpc(&headers), grpc, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_large_message_is_split_into_bounded_pieces() {
        let value = Bytes::from(vec![7; 3 * PIECE_MAX + 1]);
        let pieces = framed(value.len() + 10, |to| {
            to.slice(b"0123456789");
            to.shared(&value);
        });
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
        let all: Vec<u8> = pieces.concat();
        assert_eq!(all[..PREFIX_LEN], prefix(value.len() + 10));
        assert_eq!(all[PREFIX_LEN + 10..], value);
    }

    #[test]
    #[should_panic(expected = "length that was announced")]
    fn a_wrong_length_panics() {
        drop(message(3, |to| to.slice(b"four")));
    }

    #[test]
    fn an_error_response_has_headers_only() {
        let reply = refuse(&Status::from(crate::Error::EmptyKey));
        assert_eq!(reply.headers()["grpc-status"], "3");
        assert_eq!(reply.headers()["grpc-message"], "etcdserver: key is not provided");
        assert!(http_body::Body::is_end_stream(reply.body()));
    }
}
