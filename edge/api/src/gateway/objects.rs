//! The JSON objects of a body, one after the other.

use bytes::{Buf as _, BytesMut};
use http_body::Body;
use rpc::{Code, Status};
use std::future::poll_fn;
use std::pin::Pin;

/// Reads the objects of a body.
#[derive(Debug)]
pub(super) struct Objects<B> {
    body: B,
    /// The length of the longest object, in bytes.
    max: usize,
    received: BytesMut,
    end: ObjectEnd,
}

impl<B: Body<Data = bytes::Bytes> + Unpin> Objects<B> {
    /// Reads from `body`, and refuses objects longer than `max` bytes.
    pub(super) fn new(body: B, max: usize) -> Objects<B> {
        Objects { body, max, received: BytesMut::new(), end: ObjectEnd::default() }
    }

    /// The text of the next object, or `None` at the end of the body. If the text is not an object,
    /// or not a whole one, returns the rest of the body.
    ///
    /// # Errors
    /// When the object is too long, or the client is gone.
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, Status> {
        loop {
            if self.end.seen == 0 {
                let blank = self.received.iter().take_while(|byte| byte.is_ascii_whitespace());
                let blank = blank.count();
                self.received.advance(blank);
            }
            if let Some(len) = self.end.find(&self.received) {
                self.end = ObjectEnd::default();
                return Ok(Some(self.received.split_to(len)));
            }
            if self.received.len() > self.max {
                let why = format!("retcd: the request is longer than {} bytes of JSON", self.max);
                return Err(Status::new(Code::ResourceExhausted, why));
            }
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(Status::new(Code::Cancelled, "context canceled")),
                None if self.received.is_empty() => return Ok(None),
                None => {
                    self.end = ObjectEnd::default();
                    return Ok(Some(self.received.split()));
                }
            }
        }
    }
}

/// Finds the end of an object by its braces. Looks at each byte once.
#[derive(Debug, Default)]
struct ObjectEnd {
    /// The number of bytes already examined.
    seen: usize,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl ObjectEnd {
    /// The length of the object at the start of `text`, if it is complete. `text` must begin with
    /// the text of the last call.
    fn find(&mut self, text: &[u8]) -> Option<usize> {
        if text.first().is_some_and(|first| *first != b'{') {
            return None;
        }
        while let Some(byte) = text.get(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                b'{' if !self.is_in_string => self.depth += 1,
                b'}' if !self.is_in_string => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body::Frame;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    /// A body that arrives in pieces of this length.
    struct Pieces(Bytes, usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let len = self.1.min(self.0.len());
            let piece = self.0.split_to(len);
            Poll::Ready((len > 0).then(|| Ok(Frame::data(piece))))
        }
    }

    async fn read(text: &'static str, len: usize) -> Vec<String> {
        let mut objects = Objects::new(Pieces(Bytes::from_static(text.as_bytes()), len), 64);
        let mut found = Vec::new();
        loop {
            match objects.next().await {
                Ok(Some(object)) => found.push(String::from_utf8(object.to_vec()).unwrap()),
                Ok(None) => return found,
                Err(status) => {
                    found.push(format!("{:?}", status.code));
                    return found;
                }
            }
        }
    }

    #[tokio::test]
    async fn objects_are_separated_however_they_arrive() {
        for len in [1, 2, 7, 1000] {
            assert_eq!(
                read(" {\"a\":\"}\\\"{\"}{\"b\":{}}\n {} ", len).await,
                ["{\"a\":\"}\\\"{\"}", "{\"b\":{}}", "{}"]
            );
            assert_eq!(read("{} [1] {}", len).await, ["{}", "[1] {}"]);
            assert_eq!(read("{\"a\"", len).await, ["{\"a\""]);
            assert!(read("", len).await.is_empty() && read(" \n", len).await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_long_object_is_refused() {
        let text = "{\"a\":\"0123456789012345678901234567890123456789012345678901234567890123\"}";
        assert_eq!(read(text, 10).await, ["ResourceExhausted"]);
    }
}
