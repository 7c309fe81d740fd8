//! One raft message, and the heartbeat of a connection.
//!
//! Source: etcd v3.7 rafthttp/msg_codec.go, message.go (`isLinkHeartbeatMessage`), raftpb/raft.proto.

use crate::error::WireError;
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use proto::raftpb::{self, MessageType};
use proto::{NodeId, varint};

/// The largest message that is read, in bytes. etcd's own bound is 512 MiB, but raft puts at most
/// 1 MiB of entries into a message, or one larger entry, and etcd advises against requests above
/// 10 MiB. 64 MiB is also what 3.7.1 allows for the message before a snapshot, which holds the v2
/// tree.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The most entries in a message. An entry takes at least 8 bytes and a message has 1 MiB of them,
/// or a single larger one. The bound keeps 2 bytes from becoming a whole entry in memory.
pub const ENTRIES_MAX: usize = 1 << 18;

/// The most bytes of one configuration in a snapshot's metadata.
const CONF_STATE_BYTES_MAX: usize = 64 << 10;

/// An item that a decoder of a stream has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A heartbeat of the connection.
    LinkHeartbeat,
    /// A message for this member.
    Message(Box<raft::Message>),
    /// A well-formed message that raft does not accept from other members. It is dropped; the
    /// stream continues.
    Refused(raft::Error),
}

/// Appends a heartbeat of the connection: a heartbeat message without ids. All versions recognise
/// it by its type and ids.
pub fn put_heartbeat(to: &mut BytesMut) {
    let heartbeat = raftpb::Message {
        r#type: Some(MessageType::MsgHeartbeat.into()),
        ..raftpb::Message::default()
    };
    put_framed(to, &heartbeat);
}

/// Appends the length and the message.
pub(crate) fn put_framed(to: &mut BytesMut, message: &impl prost::Message) {
    let len = message.encoded_len();
    to.reserve(8 + len);
    to.put_u64(len as u64);
    message.encode_raw(to);
}

/// The body of a POST to `/raft`.
#[must_use]
pub fn encode_message(message: &raft::Message) -> Bytes {
    message.to_pb().encode_to_vec().into()
}

/// Reads the body of a POST to `/raft`.
///
/// # Errors
/// [`WireError`] when the bytes are not a message.
pub fn decode_message(bytes: Bytes) -> Result<Received, WireError> {
    decode_pb(bytes).map(received)
}

pub(crate) fn decode_pb(bytes: Bytes) -> Result<raftpb::Message, WireError> {
    check_counts(&bytes)?;
    raftpb::Message::decode(bytes).map_err(|error| WireError::malformed("raft message", error))
}

pub(crate) fn received(pb: raftpb::Message) -> Received {
    let is_heartbeat = pb.r#type == Some(MessageType::MsgHeartbeat.into());
    if is_heartbeat && [pb.from, pb.to].iter().all(|id| NodeId(id.unwrap_or(0)) == NodeId::NONE) {
        return Received::LinkHeartbeat;
    }
    match raft::Message::from_pb(pb) {
        Ok(message) => Received::Message(Box::new(message)),
        Err(error) => Received::Refused(error),
    }
}

/// Refuses messages whose parts take much more memory than bytes on the wire.
fn check_counts(message: &[u8]) -> Result<(), WireError> {
    let mut entries = 0;
    each_field(message, |number, content| match number {
        7 => {
            entries += 1;
            limit("number of entries", entries, ENTRIES_MAX)
        }
        9 => each_field(content, |number, metadata| match number {
            2 => each_field(metadata, |number, conf_state| match number {
                1 => limit("configuration", conf_state.len(), CONF_STATE_BYTES_MAX),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }),
        // Used only inside a member. These messages nest, so they could take memory without bound.
        14 => Err(WireError::malformed("raft message", "it holds other messages")),
        _ => Ok(()),
    })
}

pub(crate) fn limit(what: &'static str, size: usize, max: usize) -> Result<(), WireError> {
    if size > max {
        return Err(WireError::TooLarge { what, size: size as u64, max: max as u64 });
    }
    Ok(())
}

/// Calls `visit` with the number and the content of each field that has a length. Stops silently at
/// bytes that are not a field; the decoder then reports the error.
fn each_field(
    mut message: &[u8],
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    while let Some((tag, len)) = varint::read(message) {
        message = message.get(len..).unwrap_or_default();
        let skipped = match tag & 7 {
            0 => varint::read(message).map(|(_, len)| len),
            1 => Some(8),
            5 => Some(4),
            2 => {
                let Some((announced, len)) = varint::read(message) else { return Ok(()) };
                let Ok(announced) = usize::try_from(announced) else { return Ok(()) };
                let end = len.saturating_add(announced);
                let Some(content) = message.get(len..end) else { return Ok(()) };
                visit(tag >> 3, content)?;
                Some(end)
            }
            _ => None,
        };
        let Some(rest) = skipped.and_then(|len| message.get(len..)) else { return Ok(()) };
        message = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gogoproto`'s empty snapshot, as 3.4 and 3.5 put it into every message.
    const NO_SNAPSHOT: [u8; 12] = [0x4a, 0x0a, 0x12, 8, 0x0a, 2, 0x28, 0, 0x10, 0, 0x18, 0];

    #[test]
    fn the_heartbeats_of_a_link_are_known_by_type_and_ids() {
        let of_3_5 = [
            &[8, 8, 0x10, 0, 0x18, 0, 0x20, 0, 0x28, 0, 0x30, 0, 0x40, 0][..],
            &NO_SNAPSHOT,
            &[0x50, 0, 0x58, 0],
        ]
        .concat();
        assert_eq!(of_3_5.len(), 0x1e);
        for bytes in [&of_3_5[..], &[8, 8]] {
            let received = decode_message(Bytes::copy_from_slice(bytes));
            assert_eq!(received, Ok(Received::LinkHeartbeat));
        }
        let of_a_leader = [8, 8, 0x10, 1, 0x18, 2, 0x20, 3];
        let received = decode_message(Bytes::copy_from_slice(&of_a_leader)).unwrap();
        let Received::Message(message) = received else { panic!("{received:?}") };
        assert_eq!((message.to, message.from), (NodeId(1), NodeId(2)));
    }

    #[test]
    fn a_vote_of_3_4_is_read_with_its_empty_snapshot() {
        let mut bytes = vec![8, 5, 0x10, 1, 0x18, 2, 0x20, 2, 0x28, 1, 0x30, 2, 0x40, 0];
        bytes.extend(NO_SNAPSHOT);
        bytes.extend([0x50, 0, 0x58, 0]);
        let Ok(Received::Message(vote)) = decode_message(bytes.into()) else { panic!() };
        let last = proto::EntryId { term: proto::Term(1), index: proto::Index(2) };
        assert_eq!(vote.body, raft::Body::Vote { last, transfer: false });
        assert_eq!((vote.from, vote.to, vote.term), (NodeId(2), NodeId(1), proto::Term(2)));
    }

    #[test]
    fn v3_7_1_messages_with_too_many_parts_or_nested_ones_are_refused() {
        let entries = [0x3a, 0].repeat(ENTRIES_MAX + 1);
        assert!(matches!(decode_message(entries.into()), Err(WireError::TooLarge { .. })));
        let nested = [0x72, 2, 8, 3];
        let refused = decode_message(Bytes::copy_from_slice(&nested));
        assert!(matches!(refused, Err(WireError::Malformed { .. })));
        let voters = [0x0a, 1].repeat(CONF_STATE_BYTES_MAX);
        let conf_state = raftpb::SnapshotMetadata::decode(&[][..]).map(|metadata| {
            let mut bytes = metadata.encode_to_vec();
            bytes.push(0x0a);
            varint::put(&mut bytes, voters.len() as u64);
            [bytes, voters].concat()
        });
        let mut message = vec![8, 7];
        let metadata = conf_state.unwrap();
        let mut snapshot = vec![0x12];
        varint::put(&mut snapshot, metadata.len() as u64);
        snapshot.extend(metadata);
        message.push(0x4a);
        varint::put(&mut message, snapshot.len() as u64);
        message.extend(snapshot);
        assert!(matches!(decode_message(message.into()), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn kinds_that_stay_inside_a_member_are_refused_and_not_fatal() {
        for kind in [0, 1, 10, 11, 12, 19, 20, 21, 22, 99] {
            let received = decode_message(Bytes::copy_from_slice(&[8, kind, 0x18, 2])).unwrap();
            assert!(matches!(received, Received::Refused(_)), "{kind}: {received:?}");
        }
    }
}
