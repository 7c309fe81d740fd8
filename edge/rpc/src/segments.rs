//! Output as pieces of bounded length: short slices are copied together, long ones are shared.

use crate::frame::{PIECE_MAX, PREFIX_LEN, prefix};
use bytes::{Bytes, BytesMut};
use proto::answer::Sink;

/// Shared bytes of at least this length are not copied: a piece costs about as much as that copy.
const SHARED_MIN: usize = 4 * 1024;

/// Collects pieces.
///
/// Invariant: no piece is empty or longer than [`PIECE_MAX`].
#[derive(Debug, Default)]
pub struct Segments {
    done: Vec<Bytes>,
    open: BytesMut,
    len: usize,
}

impl Segments {
    /// No pieces.
    #[must_use]
    pub fn new() -> Segments {
        Segments::default()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }

    /// Adds a message of `len` bytes, which `write` produces, with its prefix.
    ///
    /// # Panics
    /// When `write` does not write `len` bytes.
    pub fn message(&mut self, len: usize, write: impl FnOnce(&mut dyn Sink)) {
        let end = self.len + PREFIX_LEN + len;
        self.slice(&prefix(len));
        write(self);
        assert_eq!(self.len, end, "a message has the length that was announced");
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
    }
}

impl Sink for Segments {
    fn slice(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            if self.open.len() == PIECE_MAX {
                self.close();
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_MAX - self.open.len()));
            self.open.extend_from_slice(now);
            bytes = later;
        }
    }

    fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.slice(bytes);
        }
        self.len += bytes.len();
        self.close();
        let mut rest = bytes.clone();
        while rest.len() > PIECE_MAX {
            self.done.push(rest.split_to(PIECE_MAX));
        }
        self.done.push(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_what_was_written_in_order() {
        let mut segments = Segments::new();
        let mut want = Vec::new();
        for round in 0..200usize {
            let bytes = vec![u8::try_from(round).unwrap(); round * round % 9_001];
            want.extend_from_slice(&bytes);
            if round % 3 == 0 {
                segments.shared(&bytes.into());
            } else {
                segments.slice(&bytes);
            }
        }
        assert_eq!(segments.len(), want.len());
        let pieces = segments.into_pieces();
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
        assert_eq!(pieces.concat(), want);
    }

    #[test]
    fn long_bytes_are_shared() {
        let value = Bytes::from(vec![1; SHARED_MIN]);
        let mut segments = Segments::new();
        segments.shared(&value);
        assert_eq!(segments.into_pieces()[0].as_ptr(), value.as_ptr());
    }
}
