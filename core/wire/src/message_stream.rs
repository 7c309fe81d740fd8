//! The stream "message": frames of `u64 BE n` and n bytes of a raft message.
//!
//! Source: etcd v3.7 rafthttp/msg_codec.go.

use crate::error::WireError;
use crate::input::Input;
use crate::message::{Received, decode_pb, put_framed, received};
use bytes::BytesMut;

/// Appends a message of the stream.
pub fn put_message(to: &mut BytesMut, message: &raft::Message) {
    put_framed(to, &message.to_pb());
}

/// Reads the stream.
#[derive(Debug)]
pub struct MessageDecoder {
    input: Input,
    bytes_max: usize,
    failed: Option<WireError>,
}

impl MessageDecoder {
    /// A decoder for messages of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> MessageDecoder {
        MessageDecoder { input: Input::default(), bytes_max, failed: None }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.input.push(chunk);
    }

    /// The next message, as soon as it is complete.
    ///
    /// # Errors
    /// [`WireError`] when the stream cannot be read any further.
    pub fn read_next(&mut self) -> Result<Option<Received>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let read = self.input.framed("raft message", self.bytes_max);
        let read = read.and_then(|frame| frame.map(decode_pb).transpose());
        self.failed = read.as_ref().err().cloned();
        Ok(read?.map(received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MESSAGE_BYTES_MAX, put_heartbeat};
    use proto::{NodeId, Term};
    use raft::{Body, Message};

    fn all(chunks: &[&[u8]]) -> Result<Vec<Received>, WireError> {
        let mut decoder = MessageDecoder::new(MESSAGE_BYTES_MAX);
        let mut read = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(received) = decoder.read_next()? {
                read.push(received);
            }
        }
        Ok(read)
    }

    #[test]
    fn a_stream_is_read_in_pieces_of_any_size() {
        let message = Message {
            from: NodeId(2),
            to: NodeId(1),
            term: Term(3),
            body: Body::VoteResponse { granted: true },
        };
        let mut bytes = BytesMut::new();
        put_heartbeat(&mut bytes);
        assert_eq!(&bytes[..], [0, 0, 0, 0, 0, 0, 0, 2, 8, 8], "as 3.7 writes it");
        put_message(&mut bytes, &message);
        put_heartbeat(&mut bytes);
        let heartbeat = Received::LinkHeartbeat;
        let wanted = vec![heartbeat.clone(), Received::Message(Box::new(message)), heartbeat];
        for size in 1..=bytes.len() {
            assert_eq!(all(&bytes.chunks(size).collect::<Vec<_>>()), Ok(wanted.clone()));
        }
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_before_the_bytes_come() {
        let announced = (MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes();
        assert!(matches!(all(&[&announced]), Err(WireError::TooLarge { .. })));
        assert!(matches!(all(&[&[0xff; 8]]), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn a_stream_that_has_failed_is_not_read_any_further() {
        let mut decoder = MessageDecoder::new(MESSAGE_BYTES_MAX);
        decoder.push(&[0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
        let error = decoder.read_next().unwrap_err();
        decoder.push(&[0, 0, 0, 0, 0, 0, 0, 2, 8, 8]);
        assert_eq!(decoder.read_next(), Err(error));
    }
}
