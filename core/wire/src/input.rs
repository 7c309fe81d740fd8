//! The bytes of a connection that have arrived and are not read yet.

use crate::error::WireError;
use bytes::{Buf as _, Bytes, BytesMut};

/// Grows only with the bytes that arrive, never by an announced length.
#[derive(Debug, Default)]
pub(crate) struct Input(BytesMut);

impl Input {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let first = self.0.first().copied()?;
        self.0.advance(1);
        Some(first)
    }

    /// The next number of 8 bytes, most significant first.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let bytes = *self.0.first_chunk::<8>()?;
        self.0.advance(8);
        Some(u64::from_be_bytes(bytes))
    }

    /// A number and as many bytes; `None` until all of them are there.
    pub(crate) fn framed(&mut self, what: &'static str, max: usize) -> Framed {
        let Some(announced) = self.0.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
        else {
            return Ok(None);
        };
        let len = match usize::try_from(announced) {
            Ok(len) if len <= max => len,
            _ => return Err(WireError::TooLarge { what, size: announced, max: max as u64 }),
        };
        if self.0.len() - 8 < len {
            return Ok(None);
        }
        self.0.advance(8);
        Ok(Some(self.0.split_to(len).freeze()))
    }

    /// Everything that has arrived.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.0.split().freeze()
    }
}

pub(crate) type Framed = Result<Option<Bytes>, WireError>;
