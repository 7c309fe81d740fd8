//! Responses whose messages are compressed with gzip, for clients that compress theirs.
//!
//! Source: grpc-go 1.82, which also compresses long messages.

use crate::Status;
use crate::body::{Body, BodyError, Part, Reply};
use crate::frame::PREFIX_LEN;
use crate::gzip::ENCODING;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Code;

/// Longer messages are not compressed, since that would need the whole message in memory.
const COMPRESSED_MAX: usize = 1 << 20;

/// The same response with compressed messages.
#[must_use]
pub fn compressed(reply: Reply) -> Reply {
    let mut reply = reply.map(|body| {
        let compressed = Compressed { body, pending: BytesMut::new(), uncompressed: 0, end: None };
        Body::plain_stream(Box::pin(compressed))
    });
    reply.headers_mut().insert(ENCODING, HeaderValue::from_static("gzip"));
    reply
}

/// A body whose messages are compressed.
struct Compressed {
    body: Body,
    /// The messages that are not sent yet, with their prefixes.
    pending: BytesMut,
    /// The bytes left of the current message, if it is sent uncompressed.
    uncompressed: usize,
    /// The body has ended, with these trailers.
    end: Option<Option<HeaderMap>>,
}

impl Compressed {
    /// The next part of the response; `None` if it is not complete.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        if self.uncompressed == 0 {
            let Some(prefix) = self.pending.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
            let [_, len @ ..] = *prefix;
            let len = u32::from_be_bytes(len) as usize;
            if (1..=COMPRESSED_MAX).contains(&len) {
                if self.pending.len() < PREFIX_LEN + len {
                    return Ok(None);
                }
                let message = self.pending.split_to(PREFIX_LEN + len);
                return compressed_message(&message[PREFIX_LEN..]).map(Some);
            }
            self.uncompressed = PREFIX_LEN + len;
        }
        let len = self.uncompressed.min(self.pending.len());
        self.uncompressed -= len;
        Ok((len > 0).then(|| self.pending.split_to(len).freeze()))
    }
}

/// The message compressed, with its prefix.
fn compressed_message(message: &[u8]) -> io::Result<Bytes> {
    let mut writer = BytesMut::with_capacity(PREFIX_LEN + message.len() / 2).writer();
    writer.write_all(&[1, 0, 0, 0, 0])?;
    let mut encoder = GzEncoder::new(writer, Compression::fast());
    encoder.write_all(message)?;
    let mut bytes = encoder.finish()?.into_inner();
    // Fits, since gzip makes a message longer by a few bytes at most.
    let len = u32::try_from(bytes.len() - PREFIX_LEN).unwrap_or(u32::MAX);
    bytes[1..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    Ok(bytes.freeze())
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.take() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => {
                    let status = Status::new(Code::Internal, format!("gzip: {error}"));
                    return Poll::Ready(Some(Err(BodyError::of(&status))));
                }
            }
            if let Some(trailers) = &mut self.end {
                return Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(self.body.poll_part(cx)) {
                Ok(Part::Data(data)) => self.pending.put(data),
                Ok(Part::Status(status)) => self.end = Some(Some(status.to_trailers())),
                Ok(Part::Trailers(trailers)) => self.end = Some(Some(trailers)),
                Ok(Part::End) => self.end = Some(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.pending.has_remaining() && self.end.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::frame::prefix;
    use crate::gzip::decompressed;
    use std::task::Waker;

    struct Pieces(Vec<Bytes>);

    impl body::Source for Pieces {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
            Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&prefix(message.len()), message].concat()
    }

    /// The data of a compressed response in one, and whether trailers ended it.
    fn sent(pieces: Vec<Bytes>) -> (Vec<u8>, bool) {
        let reply = compressed(body::source(Box::new(Pieces(pieces))));
        assert_eq!(reply.headers()[ENCODING], "gzip");
        let (mut body, mut data) = (reply.into_body(), Vec::new());
        loop {
            let polled = body.poll_part(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(part)) = polled else { panic!("it waits, or fails") };
            match part {
                Part::Data(bytes) => data.extend_from_slice(&bytes),
                Part::Trailers(trailers) => {
                    assert_eq!(trailers["grpc-status"], "0");
                    return (data, true);
                }
                Part::Status(_) | Part::End => return (data, false),
            }
        }
    }

    #[test]
    fn a_message_survives_both_ways_and_one_that_is_too_long_is_refused() {
        let message = vec![7; 1_000];
        let (data, has_trailers) = sent(vec![framed(&message).into()]);
        assert!(has_trailers);
        assert_eq!(data[0], 1);
        assert_eq!(data[1..PREFIX_LEN], prefix(data.len() - PREFIX_LEN)[1..]);
        assert!(data.len() < 100, "{}", data.len());
        assert_eq!(decompressed(&data[PREFIX_LEN..], 1_000).unwrap(), message);
        let status = decompressed(&data[PREFIX_LEN..], 999).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: message after decompression larger than max 999");
    }

    #[test]
    fn messages_are_compressed_however_they_are_cut_and_long_and_empty_ones_are_not() {
        let long = vec![5; COMPRESSED_MAX + 1];
        let all = [framed(b"one"), framed(&long), framed(b""), framed(b"two")].concat();
        for len in [1_000, 65_536] {
            let pieces = all.chunks(len).map(Bytes::copy_from_slice).collect();
            let (data, has_trailers) = sent(pieces);
            assert!(has_trailers);
            let [one, two] = [b"one", b"two"].map(|message| compressed_message(message).unwrap());
            let expected = [&one[..], &framed(&long), &framed(b""), &two].concat();
            assert!(data == expected, "pieces of {len}");
        }
    }
}
