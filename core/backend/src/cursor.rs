//! A cursor over a bucket of a view, in key order: the file merged with the applied batches.

use crate::base::FileCursor;
use crate::batch::Dropped;
use crate::bucket::Bucket;
use crate::error::Error;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use proto::Revision;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

/// A cursor over a bucket. It keeps its snapshot alive, and the pages of the file that the snapshot
/// reaches cannot be reused: drop it soon.
#[derive(Debug)]
pub struct BucketCursor {
    base: Option<FileCursor>,
    applied: Applied,
}

#[derive(Debug)]
enum Applied {
    Key(Versions),
    Other(Merge),
}

impl BucketCursor {
    pub(crate) fn new(
        read: Arc<Snapshot>,
        base: Option<FileCursor>,
        bucket: Bucket,
        from: &[u8],
    ) -> BucketCursor {
        let applied = if bucket == Bucket::Key {
            Applied::Key(Versions::new(read, from))
        } else {
            Applied::Other(Merge::new(read.changed(bucket, from)))
        };
        BucketCursor { base, applied }
    }

    fn read(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        match &mut self.applied {
            Applied::Key(versions) => {
                // All versions in the file are older than those in the batches.
                while let Some(base) = &mut self.base {
                    match base.next()? {
                        Some((key, _)) if versions.is_dropped(&key) => {}
                        Some(pair) => return Ok(Some(pair)),
                        None => self.base = None,
                    }
                }
                Ok(versions.next())
            }
            Applied::Other(merge) => merge.next(self.base.as_mut()),
        }
    }
}

/// Keys and values. Errors are those of reading the file.
impl Iterator for BucketCursor {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The versions in the batches, and those that the batches drop.
#[derive(Debug)]
struct Versions {
    read: Arc<Snapshot>,
    from: Bytes,
    /// The index of the chunk, of its batch, and of the batch's version.
    at: (usize, usize, usize),
    dropped: Vec<Dropped>,
}

impl Versions {
    fn new(read: Arc<Snapshot>, from: &[u8]) -> Versions {
        let first = Revision::from_bytes(&pad(from)).map(|(revision, _)| revision);
        let chunks = &read.chunks;
        let chunk = match first {
            Ok(first) => chunks
                .partition_point(|chunk| chunk.first().is_some_and(|at| at <= first))
                .saturating_sub(1),
            Err(_) => 0,
        };
        let dropped = read.dropped(first.unwrap_or_default());
        Versions { read, from: Bytes::copy_from_slice(from), at: (chunk, 0, 0), dropped }
    }

    fn is_dropped(&self, key: &[u8]) -> bool {
        !self.dropped.is_empty()
            && Revision::from_bytes(key).is_ok_and(|(revision, tombstone)| {
                self.dropped.binary_search(&Dropped { revision, tombstone }).is_ok()
            })
    }

    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        loop {
            let (chunk, batch, version) = self.at;
            let batches = &self.read.chunks.get(chunk)?.batches;
            let Some(versions) = batches.get(batch).map(|batch| batch.versions()) else {
                self.at = (chunk + 1, 0, 0);
                continue;
            };
            let Some(found) = versions.get(version) else {
                self.at = (chunk, batch + 1, 0);
                continue;
            };
            self.at.2 += 1;
            let key = if found.tombstone {
                Bytes::copy_from_slice(&found.revision.to_tombstone_bytes())
            } else {
                Bytes::copy_from_slice(&found.revision.to_bytes())
            };
            let value = found.value.clone();
            if key >= self.from && !self.is_dropped(&key) {
                return Some((key, value));
            }
        }
    }
}

/// A complete revision key with the prefix `from`, because a seek may start at a part of a key.
fn pad(from: &[u8]) -> [u8; Revision::LEN] {
    let mut key = Revision::default().to_bytes();
    let len = from.len().min(key.len());
    key[..len].copy_from_slice(&from[..len]);
    key
}

/// The changes of a bucket other than `key`, merged with the file.
#[derive(Debug)]
struct Merge {
    changes: Peekable<btree_map::IntoIter<Bytes, Option<Bytes>>>,
    below: Option<(Bytes, Bytes)>,
}

impl Merge {
    fn new(changes: BTreeMap<Bytes, Option<Bytes>>) -> Merge {
        Merge { changes: changes.into_iter().peekable(), below: None }
    }

    fn next(&mut self, mut base: Option<&mut FileCursor>) -> Result<Option<(Bytes, Bytes)>, Error> {
        loop {
            if self.below.is_none()
                && let Some(base) = base.as_mut()
            {
                self.below = base.next()?;
            }
            let below = self.below.as_ref().map(|(key, _)| key);
            let change = match (self.changes.peek(), below) {
                (None, _) => return Ok(self.below.take()),
                (Some((key, _)), Some(below)) if below < key => return Ok(self.below.take()),
                (Some((key, _)), Some(below)) if below == key => {
                    self.below = None;
                    self.changes.next()
                }
                (Some(_), _) => self.changes.next(),
            };
            if let Some((key, Some(value))) = change {
                return Ok(Some((key, value)));
            }
        }
    }
}
