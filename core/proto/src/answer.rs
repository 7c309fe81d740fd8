//! The answers of the store to requests, with key-values in encoded form, and their protobuf
//! encoding. Not here: framing (`rpc`), errors.
//!
//! An answer contains only the `revision` of its header. The other fields are the [`Origin`], which
//! the edge passes when it encodes. The headers of answers inside a transaction contain only the
//! revision, as etcd's do.
//!
//! Source: etcd v3.7 api/etcdserverpb/rpc.proto, server/etcdserver/txn.

use crate::authpb::Permission;
use crate::etcdserverpb::AlarmMember;
use crate::varint;
use bytes::{BufMut, Bytes, BytesMut};

/// The fields of a response header that the store does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id.
    pub member_id: u64,
    /// The raft term in which the member answers.
    pub raft_term: u64,
}

/// The answer to a range request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The current revision of the store, whatever revision was requested.
    pub revision: i64,
    /// The encoded `mvccpb.KeyValue`s.
    pub kvs: Vec<Bytes>,
    /// True if there are more keys than the limit.
    pub more: bool,
    /// The number of keys in the range, without limit and filters.
    pub count: i64,
}

/// The answer to a put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutAnswer {
    /// The revision of the put.
    pub revision: i64,
    /// The previous `mvccpb.KeyValue`, encoded, if it was requested.
    pub prev: Option<Bytes>,
}

/// The answer to a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteAnswer {
    /// The revision of the deletion, or the current revision if nothing was deleted.
    pub revision: i64,
    /// The number of deleted keys.
    pub deleted: i64,
    /// The previous `mvccpb.KeyValue`s, encoded, if they were requested.
    pub prevs: Vec<Bytes>,
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnAnswer {
    /// The revision after the transaction. etcd leaves it 0 in a nested one.
    pub revision: i64,
    /// True if all compares succeeded.
    pub succeeded: bool,
    /// The answers to the operations of the executed branch.
    pub responses: Vec<OpAnswer>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// To a range request.
    Range(RangeAnswer),
    /// To a put.
    Put(PutAnswer),
    /// To a deletion.
    Delete(DeleteAnswer),
    /// To a nested transaction.
    Txn(TxnAnswer),
}

/// The answer to a lease grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantAnswer {
    /// The current revision.
    pub revision: i64,
    /// The lease's id.
    pub id: i64,
    /// The granted TTL in seconds, which may be longer than requested.
    pub ttl_s: i64,
}

/// The answer to an applied request.
///
/// A revision of 0 means that the edge fills in the current one, as etcd does.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a range request that was applied through the log.
    Range(RangeAnswer),
    /// To a put.
    Put(PutAnswer),
    /// To a deletion.
    Delete(DeleteAnswer),
    /// To a transaction.
    Txn(TxnAnswer),
    /// To a compaction.
    Compact {
        /// The current revision.
        revision: i64,
    },
    /// To the grant of a lease.
    LeaseGrant(GrantAnswer),
    /// To the revocation of a lease.
    LeaseRevoke {
        /// The revision after its keys were deleted.
        revision: i64,
    },
    /// To a request about alarms.
    Alarm {
        /// The affected alarms.
        alarms: Vec<AlarmMember>,
    },
    /// To a request about users and roles.
    Auth(AuthAnswer),
    /// To requests without a specific answer, such as setting the cluster version.
    Done,
}

/// The answer to a request about users and roles.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthAnswer {
    /// To a change.
    Done,
    /// Whether authentication is enabled.
    Status {
        /// True if it is.
        enabled: bool,
        /// The revision of the auth store.
        revision: u64,
    },
    /// The user is authenticated.
    Authenticated {
        /// The simple token.
        token: String,
        /// The revision of the auth store.
        revision: u64,
    },
    /// The roles of a user.
    UserRoles(Vec<String>),
    /// The names of all users.
    Users(Vec<String>),
    /// The permissions of a role.
    Permissions(Vec<Permission>),
    /// The names of all roles.
    Roles(Vec<String>),
}

/// The target of an encoder.
pub trait Sink {
    /// Appends bytes by copying them.
    fn slice(&mut self, bytes: &[u8]);

    /// Appends shared bytes, which need not be copied.
    fn shared(&mut self, bytes: &Bytes) {
        self.slice(bytes);
    }
}

impl Sink for BytesMut {
    fn slice(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

impl Sink for Vec<u8> {
    fn slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A protobuf encoding without its length and tag, in two steps: measure, then write.
///
/// Invariant: `write` writes exactly the number of bytes that `measure` returned for the same
/// arguments.
trait Message {
    /// The length in bytes. Appends the lengths of nested messages to `inner`, outermost first, so
    /// that each message is measured once.
    fn measure(&self, header: usize, inner: &mut Vec<usize>) -> usize;

    /// Writes the message with this header. Takes the lengths of nested messages from `inner`.
    fn write(&self, header: &[u8], inner: &mut std::slice::Iter<'_, usize>, to: &mut dyn Sink);

    /// The revision for the header.
    fn revision(&self) -> i64;
}

/// A prepared encoding. Its length is known before it is written, as a frame's length prefix needs.
#[derive(Debug)]
pub struct Encoding<'a, M: ?Sized> {
    message: &'a M,
    header: Header,
    inner: Vec<usize>,
    len: usize,
}

impl<M: ?Sized> Encoding<'_, M> {
    /// The length of the encoding in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false, since there is a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

macro_rules! encode {
    ($($answer:ty),*) => {$(
        impl $answer {
            /// Prepares the encoding as the response message of etcd's API.
            #[must_use]
            pub fn encode(&self, origin: Origin) -> Encoding<'_, Self> {
                let header = Header::new(origin, self.revision);
                let mut inner = Vec::new();
                let len = self.measure(header.len, &mut inner);
                Encoding { message: self, header, inner, len }
            }
        }

        impl Encoding<'_, $answer> {
            /// Writes the encoding.
            pub fn write(&self, to: &mut dyn Sink) {
                self.message.write(self.header.bytes(), &mut self.inner.iter(), to);
            }

            /// The encoding in one piece.
            #[must_use]
            pub fn to_bytes(&self) -> Bytes {
                let mut buffer = BytesMut::with_capacity(self.len);
                self.write(&mut buffer);
                buffer.freeze()
            }
        }
    )*};
}
encode!(RangeAnswer, PutAnswer, DeleteAnswer, TxnAnswer);

/// The encoded fields of a response header: at most four tags and varints of ten bytes.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; 44],
    len: usize,
}

impl Header {
    /// Encodes the header. Fields that are 0 are left out.
    #[must_use]
    pub fn new(origin: Origin, revision: i64) -> Header {
        let mut header = Header { bytes: [0; 44], len: 0 };
        let fields = [origin.cluster_id, origin.member_id, as_u64(revision), origin.raft_term];
        for (tag, value) in [0x08, 0x10, 0x18, 0x20].into_iter().zip(fields) {
            if value != 0 {
                header.push(tag);
                header.varint(value);
            }
        }
        header
    }

    /// The encoded message, without a tag and a length.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, value: u64) {
        self.len += varint::write(&mut self.bytes[self.len..], value);
    }
}

fn as_u64(number: i64) -> u64 {
    u64::from_le_bytes(number.to_le_bytes())
}

/// The length in bytes of a field that holds `len` bytes, with a tag of one byte.
#[must_use]
pub fn field_len(len: usize) -> usize {
    1 + varint::len(len as u64) + len
}

/// Writes the tag and the length of a field of `len` bytes.
pub fn put_field_head(tag: u8, len: usize, to: &mut dyn Sink) {
    put_number(tag, len as u64, to);
}

fn put_number(tag: u8, value: u64, to: &mut dyn Sink) {
    let mut bytes = [tag; 1 + varint::LEN_MAX];
    let len = varint::write(&mut bytes[1..], value);
    to.slice(&bytes[..=len]);
}

fn put_shared(tag: u8, bytes: &Bytes, to: &mut dyn Sink) {
    put_field_head(tag, bytes.len(), to);
    to.shared(bytes);
}

fn put_header(header: &[u8], to: &mut dyn Sink) {
    put_field_head(0x0a, header.len(), to);
    to.slice(header);
}

/// The length of a number field, which is left out if it is 0.
fn number_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint::len(as_u64(value)) }
}

impl Message for RangeAnswer {
    fn measure(&self, header: usize, _: &mut Vec<usize>) -> usize {
        let kvs: usize = self.kvs.iter().map(|kv| field_len(kv.len())).sum();
        field_len(header) + kvs + number_len(i64::from(self.more)) + number_len(self.count)
    }

    fn write(&self, header: &[u8], _: &mut std::slice::Iter<'_, usize>, to: &mut dyn Sink) {
        put_header(header, to);
        for kv in &self.kvs {
            put_shared(0x12, kv, to);
        }
        if self.more {
            to.slice(&[0x18, 1]);
        }
        if self.count != 0 {
            put_number(0x20, as_u64(self.count), to);
        }
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

impl Message for PutAnswer {
    fn measure(&self, header: usize, _: &mut Vec<usize>) -> usize {
        field_len(header) + self.prev.as_ref().map_or(0, |kv| field_len(kv.len()))
    }

    fn write(&self, header: &[u8], _: &mut std::slice::Iter<'_, usize>, to: &mut dyn Sink) {
        put_header(header, to);
        if let Some(kv) = &self.prev {
            put_shared(0x12, kv, to);
        }
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

impl Message for DeleteAnswer {
    fn measure(&self, header: usize, _: &mut Vec<usize>) -> usize {
        let prevs: usize = self.prevs.iter().map(|kv| field_len(kv.len())).sum();
        field_len(header) + number_len(self.deleted) + prevs
    }

    fn write(&self, header: &[u8], _: &mut std::slice::Iter<'_, usize>, to: &mut dyn Sink) {
        put_header(header, to);
        if self.deleted != 0 {
            put_number(0x10, as_u64(self.deleted), to);
        }
        for kv in &self.prevs {
            put_shared(0x1a, kv, to);
        }
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

impl OpAnswer {
    fn message(&self) -> (u8, &dyn Message) {
        match self {
            OpAnswer::Range(answer) => (0x0a, answer),
            OpAnswer::Put(answer) => (0x12, answer),
            OpAnswer::Delete(answer) => (0x1a, answer),
            OpAnswer::Txn(answer) => (0x22, answer),
        }
    }
}

impl Message for TxnAnswer {
    fn measure(&self, header: usize, inner: &mut Vec<usize>) -> usize {
        let mut len = field_len(header) + number_len(i64::from(self.succeeded));
        for response in &self.responses {
            let (_, message) = response.message();
            let header = Header::new(Origin::default(), message.revision());
            let slot = inner.len();
            inner.push(0);
            inner[slot] = message.measure(header.len, inner);
            // The answer is the only field of a ResponseOp, which is a field of this message.
            len += field_len(field_len(inner[slot]));
        }
        len
    }

    fn write(&self, header: &[u8], inner: &mut std::slice::Iter<'_, usize>, to: &mut dyn Sink) {
        put_header(header, to);
        if self.succeeded {
            to.slice(&[0x10, 1]);
        }
        for response in &self.responses {
            let (tag, message) = response.message();
            let len = inner.next().copied().unwrap_or_default();
            put_field_head(0x1a, field_len(len), to);
            put_field_head(tag, len, to);
            let header = Header::new(Origin::default(), message.revision());
            message.write(header.bytes(), inner, to);
        }
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

#[cfg(test)]
mod tests;
