//! A view: an immutable snapshot of the file and the applied batches over it.

use crate::base::{self, FileCursor};
use crate::bucket::Bucket;
use crate::cursor::BucketCursor;
use crate::error::Error;
use crate::meta;
use crate::snapshot::{Chunk, Snapshot};
use bolt::Lookup;
use bytes::Bytes;
use proto::{ConfState, EntryId, Index, Revision, Term};
use std::sync::Arc;

/// An immutable view. A clone costs one reference count.
#[derive(Clone, Debug)]
pub struct ReadView {
    inner: Arc<Snapshot>,
}

impl ReadView {
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>, base: Option<bolt::View>) -> ReadView {
        ReadView { inner: Arc::new(Snapshot { chunks, base }) }
    }

    /// A view of a file without batches.
    #[must_use]
    pub fn of_file(view: bolt::View) -> ReadView {
        ReadView::new(Vec::new(), Some(view))
    }

    /// The view of the file, without the batches.
    #[must_use]
    pub fn file(&self) -> Option<&bolt::View> {
        self.inner.base.as_ref()
    }

    /// The stored value of a version. May wait for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn version(&self, revision: Revision, tombstone: bool) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.inner.applied_version(revision) {
            return Ok(Some(value));
        }
        let Some(base) = &self.inner.base else { return Ok(None) };
        with_key(revision, tombstone, |key| base::get(base, Bucket::Key, key))
    }

    /// The stored value of a version, without waiting for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn try_version(&self, revision: Revision, tombstone: bool) -> Result<Lookup, Error> {
        if let Some(value) = self.inner.applied_version(revision) {
            return Ok(Lookup::Found(value));
        }
        let Some(base) = &self.inner.base else { return Ok(Lookup::Missing) };
        with_key(revision, tombstone, |key| base::try_get(base, Bucket::Key, key))
    }

    /// A reader for many versions.
    #[must_use]
    pub fn versions(&self) -> VersionReader {
        let base = self.inner.base.as_ref().map(|base| base.reader(Bucket::Key.name()));
        VersionReader { read: self.clone(), base }
    }

    /// The value of a key in any bucket. May wait for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if bucket == Bucket::Key {
            return match Revision::from_bytes(key) {
                Ok((revision, tombstone)) => self.version(revision, tombstone),
                Err(_) => Ok(None),
            };
        }
        match (self.inner.applied_value(bucket, key), &self.inner.base) {
            (Some(value), _) => Ok(value),
            (None, None) => Ok(None),
            (None, Some(base)) => base::get(base, bucket, key),
        }
    }

    /// The value of a key in any bucket, without waiting for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn try_get(&self, bucket: Bucket, key: &[u8]) -> Result<Lookup, Error> {
        if bucket == Bucket::Key {
            return match Revision::from_bytes(key) {
                Ok((revision, tombstone)) => self.try_version(revision, tombstone),
                Err(_) => Ok(Lookup::Missing),
            };
        }
        match (self.inner.applied_value(bucket, key), &self.inner.base) {
            (Some(Some(value)), _) => Ok(Lookup::Found(value)),
            (Some(None), _) | (None, None) => Ok(Lookup::Missing),
            (None, Some(base)) => base::try_get(base, bucket, key),
        }
    }

    /// The last applied entry; zeros before the first.
    ///
    /// # Errors
    /// If the file cannot be read, or a number is not eight bytes long.
    pub fn applied(&self) -> Result<EntryId, Error> {
        let number = |key: &'static [u8], what| -> Result<u64, Error> {
            match self.get(Bucket::Meta, key)? {
                None => Ok(0),
                Some(bytes) => {
                    let eight = bytes[..].try_into().map_err(|_| Error::Corrupt { what })?;
                    Ok(u64::from_be_bytes(eight))
                }
            }
        };
        Ok(EntryId {
            term: Term(number(meta::TERM, "meta/term is not 8 bytes")?),
            index: Index(number(meta::CONSISTENT_INDEX, "meta/consistent_index is not 8 bytes")?),
        })
    }

    /// The last applied raft configuration; `None` if none was applied since etcd 3.5.
    ///
    /// # Errors
    /// If the file cannot be read, or the value is not a configuration.
    pub fn conf_state(&self) -> Result<Option<ConfState>, Error> {
        self.get(Bucket::Meta, meta::CONF_STATE)?
            .map(|json| meta::parse_conf_state(&json))
            .transpose()
    }

    /// A cursor over a bucket that starts at the key `from`. It reads the file as it advances, may
    /// wait for the disk, and bypasses the page cache unless `cached`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn cursor(&self, bucket: Bucket, from: &[u8], cached: bool) -> Result<BucketCursor, Error> {
        let base = self.inner.base.as_ref();
        let base = base.map(|base| FileCursor::new(base, bucket, from, cached)).transpose()?;
        Ok(BucketCursor::new(Arc::clone(&self.inner), base, bucket, from))
    }
}

/// Reads versions and keeps the last page, so that reads of neighbours are cheap.
#[derive(Debug)]
pub struct VersionReader {
    read: ReadView,
    base: Option<bolt::Reader>,
}

impl VersionReader {
    /// The stored value of a put. May wait for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn put(&mut self, revision: Revision) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.read.inner.applied_version(revision) {
            return Ok(Some(value));
        }
        match &mut self.base {
            None => Ok(None),
            Some(base) => Ok(base.get(&revision.to_bytes())?),
        }
    }

    /// The stored value of a put, without waiting for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn try_put(&mut self, revision: Revision) -> Result<Lookup, Error> {
        if let Some(value) = self.read.inner.applied_version(revision) {
            return Ok(Lookup::Found(value));
        }
        match &mut self.base {
            None => Ok(Lookup::Missing),
            Some(base) => Ok(base.try_get(&revision.to_bytes())?),
        }
    }
}

fn with_key<T>(revision: Revision, tombstone: bool, read: impl FnOnce(&[u8]) -> T) -> T {
    if tombstone { read(&revision.to_tombstone_bytes()) } else { read(&revision.to_bytes()) }
}
