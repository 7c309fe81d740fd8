//! The stream "msgapp" in its second version. Both ends remember the term and index of the last
//! entry; while they agree with the next message, only its entries and the commit index are sent.
//!
//! | first byte | rest |
//! |---|---|
//! | 0 | none: a heartbeat of the stream |
//! | 1 | `u64 BE` count; for each entry `u64 BE n` and n bytes; `u64 BE` commit |
//! | 2 | `u64 BE n` and n bytes: a whole message |
//!
//! Source: etcd v3.7 rafthttp/msgappv2_codec.go.

use crate::error::WireError;
use crate::input::Input;
use crate::message::{ENTRIES_MAX, Received, decode_pb, limit, put_framed, received};
use bytes::{BufMut as _, Bytes, BytesMut};
use proto::raftpb;
use proto::{Entry, EntryId, Index, NodeId, Term};
use raft::{Body, Message};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// Writes the stream.
#[derive(Debug, Default)]
pub struct AppendEncoder {
    last: EntryId,
}

impl AppendEncoder {
    /// Appends a heartbeat, which shows that the connection works.
    pub fn put_heartbeat(&self, to: &mut BytesMut) {
        to.put_u8(HEARTBEAT);
    }

    /// Appends an append message.
    ///
    /// # Panics
    /// If it is a message of another kind.
    pub fn put(&mut self, to: &mut BytesMut, message: &Message) {
        let Body::Append { prev, entries, commit } = &message.body else {
            panic!("the stream carries appends only");
        };
        if self.last == *prev && prev.term == message.term {
            to.put_u8(ENTRIES);
            to.put_u64(entries.len() as u64);
            for entry in entries {
                put_framed(to, &entry.to_pb());
            }
            to.put_u64(commit.0);
            self.last.index.0 += entries.len() as u64;
        } else {
            to.put_u8(MESSAGE);
            put_framed(to, &message.to_pb());
            let index = entries.last().map_or(prev.index, |entry| entry.index);
            self.last = EntryId { term: message.term, index };
        }
    }
}

/// Reads the stream.
#[derive(Debug)]
pub struct AppendDecoder {
    from: NodeId,
    to: NodeId,
    bytes_max: usize,
    input: Input,
    last: EntryId,
    next: Next,
    failed: Option<WireError>,
}

/// The kind of the next bytes.
#[derive(Debug)]
enum Next {
    Kind,
    Count,
    /// Entries of a message: the number still missing, those that have arrived, and their bytes.
    Entries(u64, Vec<Entry>, usize),
    Message,
}

impl AppendDecoder {
    /// A decoder of the stream that `to` reads from `from`. The entries of a message may have
    /// `bytes_max` bytes.
    #[must_use]
    pub fn new(from: NodeId, to: NodeId, bytes_max: usize) -> AppendDecoder {
        let (input, last) = (Input::default(), EntryId::default());
        AppendDecoder { from, to, bytes_max, input, last, next: Next::Kind, failed: None }
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
        let read = self.read();
        self.failed = read.as_ref().err().cloned();
        read
    }

    fn read(&mut self) -> Result<Option<Received>, WireError> {
        loop {
            match &mut self.next {
                Next::Kind => match self.input.byte() {
                    None => return Ok(None),
                    Some(HEARTBEAT) => return Ok(Some(Received::LinkHeartbeat)),
                    Some(ENTRIES) => self.next = Next::Count,
                    Some(MESSAGE) => self.next = Next::Message,
                    Some(kind) => {
                        let why = format!("unhandled message type {kind}");
                        return Err(WireError::malformed("msgapp stream", why));
                    }
                },
                Next::Count => {
                    let Some(count) = self.input.number() else { return Ok(None) };
                    let size = usize::try_from(count).unwrap_or(usize::MAX);
                    limit("number of entries", size, ENTRIES_MAX)?;
                    self.next = Next::Entries(count, Vec::new(), 0);
                }
                Next::Entries(0, entries, _) => {
                    let Some(commit) = self.input.number() else { return Ok(None) };
                    let entries = std::mem::take(entries);
                    return self.append(entries, Index(commit)).map(Some);
                }
                Next::Entries(missing, entries, bytes) => {
                    let max = self.bytes_max.saturating_sub(*bytes);
                    let Some(frame) = self.input.framed("entries", max)? else { return Ok(None) };
                    *bytes += frame.len();
                    *missing -= 1;
                    entries.push(entry(frame)?);
                }
                Next::Message => {
                    let frame = self.input.framed("raft message", self.bytes_max)?;
                    let Some(frame) = frame else { return Ok(None) };
                    let pb = decode_pb(frame)?;
                    self.next = Next::Kind;
                    self.last = last_of(&pb);
                    return Ok(Some(received(pb)));
                }
            }
        }
    }

    fn append(&mut self, entries: Vec<Entry>, commit: Index) -> Result<Received, WireError> {
        let prev = self.last;
        let index = prev.index.0.checked_add(entries.len() as u64);
        let index = index.ok_or_else(|| WireError::malformed("msgapp stream", "index overflow"))?;
        self.last.index = Index(index);
        self.next = Next::Kind;
        let (from, to, term) = (self.from, self.to, prev.term);
        let body = Body::Append { prev, entries, commit };
        Ok(Received::Message(Box::new(Message { from, to, term, body })))
    }
}

fn entry(frame: Bytes) -> Result<Entry, WireError> {
    Entry::decode(frame).map_err(|error| WireError::malformed("entry", error))
}

fn last_of(pb: &raftpb::Message) -> EntryId {
    let index = pb.entries.last().map_or(pb.index, |entry| entry.index);
    EntryId { term: Term(pb.term.unwrap_or(0)), index: Index(index.unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MESSAGE_BYTES_MAX;

    const FROM: NodeId = NodeId(2);
    const TO: NodeId = NodeId(1);

    fn entry(term: u64, index: u64) -> Entry {
        let data = Bytes::from(format!("entry {index}"));
        Entry { term: Term(term), index: Index(index), data, ..Entry::default() }
    }

    fn append(term: u64, prev: (u64, u64), entries: &[Entry]) -> Message {
        let prev = EntryId { term: Term(prev.0), index: Index(prev.1) };
        let body = Body::Append { prev, entries: entries.to_vec(), commit: Index(prev.index.0) };
        Message { from: FROM, to: TO, term: Term(term), body }
    }

    fn all(bytes: &[u8], size: usize) -> Result<Vec<Received>, WireError> {
        let mut decoder = AppendDecoder::new(FROM, TO, MESSAGE_BYTES_MAX);
        let mut read = Vec::new();
        for chunk in bytes.chunks(size) {
            decoder.push(chunk);
            while let Some(received) = decoder.read_next()? {
                read.push(received);
            }
        }
        Ok(read)
    }

    #[test]
    fn messages_that_follow_each_other_are_sent_without_their_head() {
        let messages = [
            append(3, (2, 7), &[entry(3, 8), entry(3, 9)]),
            append(3, (3, 9), &[entry(3, 10)]),
            append(3, (3, 10), &[]),
            // A gap, an old entry before, a new term.
            append(3, (3, 12), &[]),
            append(3, (2, 7), &[entry(2, 8)]),
            append(4, (3, 8), &[entry(4, 9)]),
            append(4, (4, 9), &[entry(4, 10)]),
        ];
        let (mut encoder, mut bytes) = (AppendEncoder::default(), BytesMut::new());
        let mut kinds = Vec::new();
        for message in &messages {
            let start = bytes.len();
            encoder.put(&mut bytes, message);
            kinds.push(bytes[start]);
            encoder.put_heartbeat(&mut bytes);
        }
        assert_eq!(kinds, [2, 1, 1, 2, 2, 2, 1]);
        for size in 1..bytes.len() {
            let read = all(&bytes, size).unwrap();
            let (read, heartbeats): (Vec<_>, Vec<_>) =
                read.into_iter().partition(|received| *received != Received::LinkHeartbeat);
            let wanted = messages.iter().cloned().map(Box::new).map(Received::Message);
            assert_eq!(read, wanted.collect::<Vec<_>>());
            assert_eq!(heartbeats.len(), messages.len());
        }
    }

    #[test]
    fn entries_have_the_bytes_of_the_protocol() {
        let mut bytes = BytesMut::new();
        let mut encoder = AppendEncoder { last: EntryId { term: Term(3), index: Index(9) } };
        let data = Bytes::from_static(b"x");
        let entry = Entry { term: Term(3), index: Index(10), data, ..Entry::default() };
        encoder.put(&mut bytes, &append(3, (3, 9), &[entry]));
        let wanted = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9][..],
            &[8, 0, 0x10, 3, 0x18, 10, 0x22, 1, b'x'],
            &[0, 0, 0, 0, 0, 0, 0, 9],
        ];
        assert_eq!(&bytes[..], wanted.concat());
    }

    #[test]
    fn announced_counts_lengths_and_unknown_kinds_are_refused() {
        let count = [&[1][..], &(ENTRIES_MAX as u64 + 1).to_be_bytes()].concat();
        let len = [&[2][..], &[0xff; 8]].concat();
        let entry_len = [&[1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0xff; 8]].concat();
        for bytes in [count, len, entry_len] {
            assert!(matches!(all(&bytes, 4), Err(WireError::TooLarge { .. })), "{bytes:?}");
        }
        assert!(matches!(all(&[3], 1), Err(WireError::Malformed { .. })));
    }

    #[test]
    fn cve_2020_15112_an_index_at_its_end_is_refused() {
        let whole = raftpb::Message {
            r#type: Some(3),
            index: Some(u64::MAX),
            ..raftpb::Message::default()
        };
        let mut bytes = BytesMut::from(&[2][..]);
        put_framed(&mut bytes, &whole);
        bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0; 8]);
        assert!(matches!(all(&bytes, 3), Err(WireError::Malformed { .. })));
    }
}
