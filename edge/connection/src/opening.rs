//! Reads the first bytes of a connection and detects its protocol.

use bytes::{Buf as _, BytesMut};
use http2::PREFACE;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many bytes are read at once. Most requests are shorter.
const READ: usize = 4 * 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A connection whose first bytes were read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) protocol: Protocol,
    /// The bytes that were read, without the preface of HTTP/2.
    pub(crate) input: BytesMut,
}

/// Reads until the protocol is clear. `None` if the client closes before it sends anything.
pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Opened>> {
    let mut input = BytesMut::with_capacity(READ);
    loop {
        let is_closed = io.read_buf(&mut input).await? == 0;
        if is_closed && input.is_empty() {
            return Ok(None);
        }
        let begun = input.len().min(PREFACE.len());
        if is_closed || input[..begun] != PREFACE[..begun] {
            return Ok(Some(Opened { protocol: Protocol::Http1, input }));
        }
        if begun == PREFACE.len() {
            input.advance(begun);
            return Ok(Some(Opened { protocol: Protocol::Http2, input }));
        }
    }
}
