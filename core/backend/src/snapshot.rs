//! The snapshot behind a view: batches in chunks, over a view of the file.

use crate::batch::{Batch, Dropped, StoredVersion};
use crate::bucket::Bucket;
use bytes::Bytes;
use proto::Revision;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Batches in a chunk. A new view costs a reference count per chunk; the push after it copies the
/// last chunk.
pub(crate) const CHUNK: usize = 64;

/// Consecutive batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) batches: Vec<Arc<Batch>>,
    /// The revision of the first version of each batch; for a batch without versions, the revision
    /// after the last version before it. Invariant: ascending.
    firsts: Vec<Revision>,
    /// Whether any batch changes a bucket other than `key`.
    pub(crate) has_others: bool,
    /// Whether any batch drops versions.
    pub(crate) has_dropped: bool,
}

impl Chunk {
    pub(crate) fn first(&self) -> Option<Revision> {
        self.firsts.first().copied()
    }

    pub(crate) fn version(&self, revision: Revision) -> Option<&StoredVersion> {
        let behind = self.firsts.partition_point(|first| *first <= revision);
        self.batches.get(behind.checked_sub(1)?)?.version(revision)
    }

    pub(crate) fn push(&mut self, batch: Arc<Batch>, first: Revision) {
        self.has_others |= !batch.others().is_empty();
        self.has_dropped |= !batch.dropped().is_empty();
        self.batches.push(batch);
        self.firsts.push(first);
    }

    /// Drops the oldest batches.
    pub(crate) fn forget(&mut self, batches: usize) {
        self.batches.drain(..batches);
        self.firsts.drain(..batches);
    }
}

/// The batches of an overlay at one moment, and the view of the file below them.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) chunks: Vec<Arc<Chunk>>,
    pub(crate) base: Option<bolt::View>,
}

impl Snapshot {
    /// The value of a version in the batches.
    pub(crate) fn applied_version(&self, revision: Revision) -> Option<Bytes> {
        let chunks = &self.chunks;
        let behind =
            chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first <= revision));
        Some(chunks[behind.checked_sub(1)?].version(revision)?.value.clone())
    }

    /// The value that the newest batch with the key gives it, in a bucket other than `key`; `None`
    /// inside if that batch deletes it.
    pub(crate) fn applied_value(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        self.chunks
            .iter()
            .rev()
            .filter(|chunk| chunk.has_others)
            .flat_map(|chunk| chunk.batches.iter().rev())
            .find_map(|batch| batch.other_value(bucket, key).map(|value| value.cloned()))
    }

    /// The versions from `from` on that the batches drop, in order.
    pub(crate) fn dropped(&self, from: Revision) -> Vec<Dropped> {
        let with = self.chunks.iter().filter(|chunk| chunk.has_dropped);
        let batches = with.flat_map(|chunk| &chunk.batches);
        let dropped = batches.flat_map(|batch| batch.dropped()).copied();
        let mut all: Vec<Dropped> = dropped.filter(|dropped| dropped.revision >= from).collect();
        all.sort_unstable();
        all
    }

    /// The keys from `from` on that the batches change, in a bucket other than `key`, with the
    /// newest values; `None` deletes.
    pub(crate) fn changed(&self, bucket: Bucket, from: &[u8]) -> BTreeMap<Bytes, Option<Bytes>> {
        let with = self.chunks.iter().filter(|chunk| chunk.has_others);
        let batches = with.flat_map(|chunk| &chunk.batches);
        batches
            .flat_map(|batch| batch.others())
            .filter(|op| op.bucket == bucket && op.key >= from)
            .map(|op| (op.key.clone(), op.value.clone()))
            .collect()
    }
}
