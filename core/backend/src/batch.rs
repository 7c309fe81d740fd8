//! A batch: the changes that consecutive applied entries make, in memory.

use crate::bucket::Bucket;
use crate::meta;
use bytes::{Bytes, BytesMut};
use proto::{ConfState, EntryId, Revision};

/// The memory of an operation besides its key and value, in bytes.
const OP_BYTES: usize = 64;
/// Values of one batch share buffers of this size.
const BUFFER_BYTES: usize = 16 * 1024;

/// A version of a key, as stored in the bucket `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// The revision, which is the stored key.
    pub revision: Revision,
    /// Whether the version deletes the key.
    pub tombstone: bool,
    /// The stored value: an encoded `mvccpb.KeyValue`.
    pub value: Bytes,
}

/// A version that compaction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// The revision, which is the stored key.
    pub revision: Revision,
    /// Whether the version deletes the key.
    pub tombstone: bool,
}

/// A change in a bucket other than `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) bucket: Bucket,
    pub(crate) key: Bytes,
    /// `None` deletes the key.
    pub(crate) value: Option<Bytes>,
}

/// The changes of consecutive entries, with the id of the last one. They are one value, so a commit
/// cannot contain changes without the applied index that covers them.
///
/// - Revisions of versions ascend, within a batch and from batch to batch.
/// - The last operation on a key counts.
#[derive(Debug)]
pub struct Batch {
    applied: EntryId,
    versions: Vec<StoredVersion>,
    dropped: Vec<Dropped>,
    others: Vec<Op>,
    bytes: usize,
    buffer: BytesMut,
}

impl Batch {
    /// An empty batch for the entries up to `applied`. Index 0, for writes before the first entry,
    /// leaves the applied index of the file unchanged.
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

    /// The last entry of the batch.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Adds a version of a key.
    ///
    /// # Panics
    /// If the revision is not above that of the last version.
    pub fn put_version(&mut self, revision: Revision, tombstone: bool, value: Bytes) {
        assert!(
            self.versions.last().is_none_or(|last| last.revision < revision),
            "versions of a batch ascend"
        );
        self.bytes += OP_BYTES + value.len();
        self.versions.push(StoredVersion { revision, tombstone, value });
    }

    /// Encodes the value of a version: `write` appends to a buffer that the values of the batch
    /// share. Returns the appended bytes.
    pub fn encode(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.buffer.capacity() < len {
            self.buffer = BytesMut::with_capacity(len.max(BUFFER_BYTES));
        }
        write(&mut self.buffer);
        self.buffer.split().freeze()
    }

    /// Removes a version, for compaction.
    pub fn drop_version(&mut self, dropped: Dropped) {
        self.bytes += OP_BYTES;
        self.dropped.push(dropped);
    }

    /// Sets a key of a bucket other than `key`.
    ///
    /// # Panics
    /// For the bucket `key`, which is changed by versions only.
    pub fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        self.other(Op { bucket, key, value: Some(value) });
    }

    /// Deletes a key of a bucket other than `key`.
    ///
    /// # Panics
    /// For the bucket `key`, which is changed by versions only.
    pub fn delete(&mut self, bucket: Bucket, key: Bytes) {
        self.other(Op { bucket, key, value: None });
    }

    fn other(&mut self, op: Op) {
        assert!(op.bucket != Bucket::Key, "the bucket `key` is changed by versions only");
        self.bytes += OP_BYTES + op.key.len() + op.value.as_ref().map_or(0, Bytes::len);
        self.others.push(op);
    }

    /// Stores the raft configuration after the entries.
    pub fn conf_state(&mut self, conf_state: &ConfState) {
        let json = meta::conf_state_json(conf_state);
        self.put(Bucket::Meta, Bytes::from_static(meta::CONF_STATE), json);
    }

    /// The memory that the batch takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the batch changes only the applied index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.dropped.is_empty() && self.others.is_empty()
    }

    /// The versions, in order.
    #[must_use]
    pub fn versions(&self) -> &[StoredVersion] {
        &self.versions
    }

    /// The version that the batch adds at `revision`.
    #[must_use]
    pub fn version(&self, revision: Revision) -> Option<&StoredVersion> {
        let at = self.versions.binary_search_by_key(&revision, |version| version.revision).ok()?;
        self.versions.get(at)
    }

    /// The versions that compaction removes.
    #[must_use]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// The last change of a key in a bucket other than `key`: the value, or `Some(None)` if the key
    /// is deleted.
    #[must_use]
    pub fn other_value(&self, bucket: Bucket, key: &[u8]) -> Option<Option<&Bytes>> {
        let op = self.others.iter().rev().find(|op| op.bucket == bucket && op.key == key)?;
        Some(op.value.as_ref())
    }

    pub(crate) fn others(&self) -> &[Op] {
        &self.others
    }
}
