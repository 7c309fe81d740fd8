//! The body of a POST to `/raft/snapshot`: `u64 BE n`, n bytes of a raft message, and the database
//! file to the end.
//!
//! Source: etcd v3.7 rafthttp/snapshot_sender.go, http.go (`snapshotHandler`).

use crate::error::WireError;
use crate::input::Input;
use crate::message::{Received, decode_pb, put_framed, received};
use bytes::{Bytes, BytesMut};

/// Encodes the part of the body before the database file.
#[must_use]
pub fn encode_snapshot_head(message: &raft::Message) -> Bytes {
    let mut bytes = BytesMut::new();
    put_framed(&mut bytes, &message.to_pb());
    bytes.freeze()
}

/// Reads the part of the body before the database file.
#[derive(Debug)]
pub struct SnapshotHeadDecoder {
    input: Input,
    bytes_max: usize,
}

impl SnapshotHeadDecoder {
    /// A decoder for a message of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> SnapshotHeadDecoder {
        SnapshotHeadDecoder { input: Input::default(), bytes_max }
    }

    /// Takes the next bytes of the body. Once the message is complete, returns it and the first
    /// bytes of the file; the decoder is then used up.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no message.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Option<(Received, Bytes)>, WireError> {
        self.input.push(chunk);
        let Some(frame) = self.input.framed("raft message", self.bytes_max)? else {
            return Ok(None);
        };
        let message = received(decode_pb(frame)?);
        Ok(Some((message, self.input.take_rest())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{EntryId, Index, NodeId, Term};
    use raft::{Body, Message, RaftSnapshot};

    #[test]
    fn the_message_is_read_and_the_rest_is_the_file() {
        let id = EntryId { term: Term(2), index: Index(9) };
        let snapshot = RaftSnapshot { id, data: "{}".into(), ..RaftSnapshot::default() };
        let body = Body::Snapshot(Box::new(snapshot));
        let message = Message { from: NodeId(2), to: NodeId(1), term: Term(2), body };
        let bytes = [&encode_snapshot_head(&message)[..], b"file"].concat();
        for size in 1..=bytes.len() {
            let mut decoder = SnapshotHeadDecoder::new(1024);
            let mut chunks = bytes.chunks(size);
            let (read, first) = loop {
                if let Some(read) = decoder.push(chunks.next().unwrap()).unwrap() {
                    break read;
                }
            };
            let file = [&first[..], &chunks.collect::<Vec<_>>().concat()].concat();
            assert_eq!(read, Received::Message(Box::new(message.clone())));
            assert_eq!(file, b"file");
        }
    }
}
