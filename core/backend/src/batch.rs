//! What a run of applied entries changes in the file, in memory.

use crate::bucket::Bucket;
use crate::meta;
use bytes::{Bytes, BytesMut};
use proto::{ConfState, EntryId, Revision};

/// What an operation costs beside its bytes: the entry in the list, and bookkeeping.
const OP_BYTES: usize = 64;
/// Values of one batch share buffers of this size.
const BUFFER_BYTES: usize = 16 * 1024;

/// A version of a key, as the bucket `key` stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Where it is stored.
    pub revision: Revision,
    /// Whether it says that the key was deleted.
    pub tombstone: bool,
    /// The stored value: an encoded `mvccpb.KeyValue`.
    pub value: Bytes,
}

/// A version that compaction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// Where it was stored.
    pub revision: Revision,
    /// Whether it said that the key was deleted.
    pub tombstone: bool,
}

/// A change in a bucket other than `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) bucket: Bucket,
    pub(crate) key: Bytes,
    /// None deletes.
    pub(crate) value: Option<Bytes>,
}

/// All that the entries up to one change, and which entry that is: one cannot be had without the
/// other, so that no commit can hold a change without the index that stands for it.
///
/// - Versions ascend in revision, through a batch and from batch to batch.
/// - Later operations on a key hold.
#[derive(Debug)]
pub struct Batch {
    applied: EntryId,
    versions: Vec<Version>,
    dropped: Vec<Dropped>,
    others: Vec<Op>,
    bytes: usize,
    buffer: BytesMut,
}

impl Batch {
    /// An empty batch of the entries up to `applied`. With index 0 (what a member writes before
    /// its first entry) the file's applied index is left alone.
    #[must_use]
    pub fn new(applied: EntryId) -> Batch {
        Batch {
            applied,
            versions: Vec::new(),
            dropped: Vec::new(),
            others: Vec::new(),
            bytes: 0,
            buffer: BytesMut::new(),
        }
    }

    /// The last entry whose changes are here.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Adds a version of a key.
    ///
    /// # Panics
    /// When its revision is not above that of the last one.
    pub fn put_version(&mut self, revision: Revision, tombstone: bool, value: Bytes) {
        assert!(
            self.versions.last().is_none_or(|last| last.revision < revision),
            "versions of a batch ascend"
        );
        self.bytes += OP_BYTES + value.len();
        self.versions.push(Version { revision, tombstone, value });
    }

    /// Where the value of a version may be encoded: `write` appends to a buffer that the values
    /// of a batch share, and what it appended is returned.
    pub fn encode(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.buffer.capacity() < len {
            self.buffer = BytesMut::with_capacity(len.max(BUFFER_BYTES));
        }
        write(&mut self.buffer);
        self.buffer.split().freeze()
    }

    /// Removes a version that compaction does not keep.
    pub fn drop_version(&mut self, dropped: Dropped) {
        self.bytes += OP_BYTES;
        self.dropped.push(dropped);
    }

    /// Sets a key of a bucket other than `key`.
    ///
    /// # Panics
    /// On the bucket `key`, whose changes are versions.
    pub fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        self.other(Op { bucket, key, value: Some(value) });
    }

    /// Deletes a key of a bucket other than `key`.
    ///
    /// # Panics
    /// On the bucket `key`, whose changes are versions.
    pub fn delete(&mut self, bucket: Bucket, key: Bytes) {
        self.other(Op { bucket, key, value: None });
    }

    fn other(&mut self, op: Op) {
        assert!(op.bucket != Bucket::Key, "what changes in the bucket `key` are versions");
        self.bytes += OP_BYTES + op.key.len() + op.value.as_ref().map_or(0, Bytes::len);
        self.others.push(op);
    }

    /// Sets the configuration that the entries made.
    pub fn conf_state(&mut self, conf_state: &ConfState) {
        let json = meta::conf_state_json(conf_state);
        self.put(Bucket::Meta, Bytes::from_static(meta::CONF_STATE), json);
    }

    /// The memory that the batch takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing changes but the applied index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.dropped.is_empty() && self.others.is_empty()
    }

    /// The versions, in order.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// A version that this batch adds.
    #[must_use]
    pub fn version(&self, revision: Revision) -> Option<&Version> {
        let at = self.versions.binary_search_by_key(&revision, |version| version.revision).ok()?;
        self.versions.get(at)
    }

    /// The versions that compaction removes.
    #[must_use]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// The newest word of this batch on a key of a bucket other than `key`.
    #[must_use]
    pub fn other_value(&self, bucket: Bucket, key: &[u8]) -> Option<Option<&Bytes>> {
        let op = self.others.iter().rev().find(|op| op.bucket == bucket && op.key == key)?;
        Some(op.value.as_ref())
    }

    pub(crate) fn others(&self) -> &[Op] {
        &self.others
    }
}
