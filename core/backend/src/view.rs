//! Reading a snapshot: the file, and over it what was applied since.

use crate::base;
use crate::batch::Dropped;
use crate::bucket::Bucket;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::overlay::Chunk;
use bytes::Bytes;
use proto::Revision;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a read that does not wait for the disk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The value.
    Found(Bytes),
    /// There is none.
    Missing,
    /// It is not in memory: ask again where waiting is allowed.
    NeedsDisk,
}

impl From<bolt::Lookup> for Lookup {
    fn from(lookup: bolt::Lookup) -> Lookup {
        match lookup {
            bolt::Lookup::Found(value) => Lookup::Found(value),
            bolt::Lookup::Missing => Lookup::Missing,
            bolt::Lookup::NeedsDisk => Lookup::NeedsDisk,
        }
    }
}

/// A snapshot. A clone costs one reference count.
#[derive(Clone, Debug)]
pub struct ReadView {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chunks: Vec<Arc<Chunk>>,
    base: Option<bolt::View>,
}

impl ReadView {
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>, base: Option<bolt::View>) -> ReadView {
        ReadView { inner: Arc::new(Inner { chunks, base }) }
    }

    /// A snapshot of a file alone.
    #[must_use]
    pub fn of_file(view: bolt::View) -> ReadView {
        ReadView::new(Vec::new(), Some(view))
    }

    /// The file's own view, without what was applied since.
    #[must_use]
    pub fn file(&self) -> Option<&bolt::View> {
        self.inner.base.as_ref()
    }

    /// The stored value of a version, waiting for the disk if need be.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn version(&self, revision: Revision, tombstone: bool) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.applied_version(revision) {
            return Ok(Some(value));
        }
        let Some(base) = &self.inner.base else { return Ok(None) };
        with_key(revision, tombstone, |key| base::get(base, Bucket::Key, key))
    }

    /// The stored value of a version, from memory only.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn try_version(&self, revision: Revision, tombstone: bool) -> Result<Lookup, Error> {
        if let Some(value) = self.applied_version(revision) {
            return Ok(Lookup::Found(value));
        }
        let Some(base) = &self.inner.base else { return Ok(Lookup::Missing) };
        with_key(revision, tombstone, |key| base::try_get(base, Bucket::Key, key))
    }

    fn applied_version(&self, revision: Revision) -> Option<Bytes> {
        let chunks = &self.inner.chunks;
        let behind =
            chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first <= revision));
        Some(chunks[behind.checked_sub(1)?].version(revision)?.value.clone())
    }

    /// A reader for many versions.
    #[must_use]
    pub fn versions(&self) -> VersionReader {
        let base = self.inner.base.as_ref().map(|base| base.reader(Bucket::Key.name()));
        VersionReader { read: self.clone(), base }
    }

    /// The value of a key of any bucket, waiting for the disk if need be.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if bucket == Bucket::Key {
            return match Revision::from_bytes(key) {
                Ok((revision, tombstone)) => self.version(revision, tombstone),
                Err(_) => Ok(None),
            };
        }
        match (self.applied_value(bucket, key), &self.inner.base) {
            (Some(value), _) => Ok(value),
            (None, None) => Ok(None),
            (None, Some(base)) => base::get(base, bucket, key),
        }
    }

    /// The value of a key of any bucket, from memory only.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn try_get(&self, bucket: Bucket, key: &[u8]) -> Result<Lookup, Error> {
        if bucket == Bucket::Key {
            return match Revision::from_bytes(key) {
                Ok((revision, tombstone)) => self.try_version(revision, tombstone),
                Err(_) => Ok(Lookup::Missing),
            };
        }
        match (self.applied_value(bucket, key), &self.inner.base) {
            (Some(Some(value)), _) => Ok(Lookup::Found(value)),
            (Some(None), _) | (None, None) => Ok(Lookup::Missing),
            (None, Some(base)) => base::try_get(base, bucket, key),
        }
    }

    /// The newest word of the batches on a key of a bucket other than `key`.
    fn applied_value(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        self.inner
            .chunks
            .iter()
            .rev()
            .filter(|chunk| chunk.has_others)
            .flat_map(|chunk| chunk.batches.iter().rev())
            .find_map(|batch| batch.other_value(bucket, key).map(|value| value.cloned()))
    }

    /// A cursor over a bucket, from the key `from` on. It reads the file as it goes, waiting for
    /// the disk, and past the page cache unless `cached`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn cursor(&self, bucket: Bucket, from: &[u8], cached: bool) -> Result<Cursor, Error> {
        let base = self.inner.base.as_ref();
        let base = base.map(|base| base::Cursor::new(base, bucket, from, cached)).transpose()?;
        Ok(Cursor::new(self.clone(), base, bucket, from))
    }

    pub(crate) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.inner.chunks
    }

    /// The versions from `from` on that the batches drop, in order.
    pub(crate) fn dropped(&self, from: Revision) -> Vec<Dropped> {
        let with = self.inner.chunks.iter().filter(|chunk| chunk.has_dropped);
        let batches = with.flat_map(|chunk| &chunk.batches);
        let dropped = batches.flat_map(|batch| batch.dropped()).copied();
        let mut all: Vec<Dropped> = dropped.filter(|dropped| dropped.revision >= from).collect();
        all.sort_unstable();
        all
    }

    /// The last word of the batches on the keys of a bucket other than `key`, from `from` on.
    pub(crate) fn changed(&self, bucket: Bucket, from: &[u8]) -> BTreeMap<Bytes, Option<Bytes>> {
        let with = self.inner.chunks.iter().filter(|chunk| chunk.has_others);
        let batches = with.flat_map(|chunk| &chunk.batches);
        batches
            .flat_map(|batch| batch.others())
            .filter(|op| op.bucket == bucket && op.key >= from)
            .map(|op| (op.key.clone(), op.value.clone()))
            .collect()
    }
}

/// Reads versions; it remembers the last page, so that neighbours cost little.
#[derive(Debug)]
pub struct VersionReader {
    read: ReadView,
    base: Option<bolt::Reader>,
}

impl VersionReader {
    /// The stored value of a put, waiting for the disk if need be.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn put(&mut self, revision: Revision) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.read.applied_version(revision) {
            return Ok(Some(value));
        }
        match &mut self.base {
            None => Ok(None),
            Some(base) => Ok(base.get(&revision.to_bytes())?),
        }
    }

    /// The stored value of a put, from memory only.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn try_put(&mut self, revision: Revision) -> Result<Lookup, Error> {
        if let Some(value) = self.read.applied_version(revision) {
            return Ok(Lookup::Found(value));
        }
        match &mut self.base {
            None => Ok(Lookup::Missing),
            Some(base) => Ok(base.try_get(&revision.to_bytes())?.into()),
        }
    }
}

fn with_key<T>(revision: Revision, tombstone: bool, read: impl FnOnce(&[u8]) -> T) -> T {
    if tombstone { read(&revision.to_tombstone_bytes()) } else { read(&revision.to_bytes()) }
}
