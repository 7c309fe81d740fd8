//! Bodies of requests, read with limits, and of answers: whole, or a stream without end.

use crate::limits::{BODY_CHUNK_TIME_MAX, BODY_TIME_MAX};
use crate::seats::SeatInUse;
use crate::timed::StallLimit;
use bytes::{Bytes, BytesMut};
use http::Request;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// A request whose body is not read yet.
#[derive(Debug)]
pub struct PlainRequest {
    /// Method, path and headers.
    pub head: Parts,
    body: Incoming,
}

/// Why a body was not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than allowed.
    TooLarge,
    /// Its bytes do not arrive in time.
    TimedOut,
    /// The connection broke.
    Broken(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => f.write_str("http: request body too large"),
            BodyError::TimedOut => f.write_str("i/o timeout"),
            BodyError::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {}

impl PlainRequest {
    pub(super) fn new(request: Request<Incoming>) -> PlainRequest {
        let (head, body) = request.into_parts();
        PlainRequest { head, body }
    }

    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; `None` at its end. Waits at most [`BODY_CHUNK_TIME_MAX`].
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let next = timeout(BODY_CHUNK_TIME_MAX, self.body.frame()).await;
            match next.map_err(|_| BodyError::TimedOut)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(BodyError::Broken(error.to_string())),
                // Trailers are no data.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body of at most `bytes_max` bytes, within [`BODY_TIME_MAX`].
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn read(&mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let all = async {
            let mut read = BytesMut::new();
            while let Some(chunk) = self.chunk().await? {
                if read.len() + chunk.len() > bytes_max {
                    return Err(BodyError::TooLarge);
                }
                read.extend_from_slice(&chunk);
            }
            Ok(read.freeze())
        };
        timeout(BODY_TIME_MAX, all).await.map_err(|_| BodyError::TimedOut)?
    }
}

/// Gives the bytes of an answer piece by piece.
pub trait ChunkSource {
    /// The next piece; `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// The body of an answer.
pub struct PlainBody(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Stream {
        source: Box<dyn ChunkSource>,
        stalled_max: Duration,
        /// A connection with a stream is never idle.
        in_use: Option<SeatInUse>,
    },
}

impl fmt::Debug for PlainBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(bytes) => f.debug_tuple("Whole").field(bytes).finish(),
            Kind::Stream { stalled_max, .. } => f.debug_tuple("Stream").field(stalled_max).finish(),
        }
    }
}

impl PlainBody {
    /// A body whose bytes are all known.
    #[must_use]
    pub fn whole(bytes: Bytes) -> PlainBody {
        PlainBody(Kind::Whole(Some(bytes)))
    }

    /// A body that comes in pieces. Its connection is closed when the client takes no byte for
    /// `stalled_max`.
    #[must_use]
    pub fn stream(source: Box<dyn ChunkSource>, stalled_max: Duration) -> PlainBody {
        PlainBody(Kind::Stream { source, stalled_max, in_use: None })
    }

    /// Keeps the connection's place while this is a stream.
    pub(super) fn begin(&mut self, seat: SeatInUse, stall_limit: &StallLimit) {
        if let Kind::Stream { stalled_max, in_use, .. } = &mut self.0 {
            stall_limit.set(*stalled_max);
            *in_use = Some(seat);
        }
    }
}

impl Body for PlainBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match &mut self.0 {
            Kind::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()),
            Kind::Stream { source, .. } => ready!(source.poll_chunk(cx)),
        };
        Poll::Ready(chunk.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Stream { .. } => SizeHint::default(),
        }
    }
}
