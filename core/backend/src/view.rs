//! Reading a snapshot: the file, and over it what was applied since.

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

/// A snapshot. A clone costs one reference count.
#[derive(Clone, Debug)]
pub struct ReadView {
    inner: Arc<Snapshot>,
}

impl ReadView {
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>, base: Option<bolt::View>) -> ReadView {
        ReadView { inner: Arc::new(Snapshot { chunks, base }) }
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
        if let Some(value) = self.inner.applied_version(revision) {
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
        match (self.inner.applied_value(bucket, key), &self.inner.base) {
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
        match (self.inner.applied_value(bucket, key), &self.inner.base) {
            (Some(Some(value)), _) => Ok(Lookup::Found(value)),
            (Some(None), _) | (None, None) => Ok(Lookup::Missing),
            (None, Some(base)) => base::try_get(base, bucket, key),
        }
    }

    /// The entry up to which everything is in the file; zeros in a fresh one.
    ///
    /// # Errors
    /// When the file cannot be read, or a number is not eight bytes long.
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

    /// The configuration that was applied last, if one was since etcd 3.5.
    ///
    /// # Errors
    /// When the file cannot be read, or the text is not that of a configuration.
    pub fn conf_state(&self) -> Result<Option<ConfState>, Error> {
        self.get(Bucket::Meta, meta::CONF_STATE)?
            .map(|json| meta::parse_conf_state(&json))
            .transpose()
    }

    /// A cursor over a bucket, from the key `from` on. It reads the file as it goes, waiting for
    /// the disk, and past the page cache unless `cached`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn cursor(&self, bucket: Bucket, from: &[u8], cached: bool) -> Result<BucketCursor, Error> {
        let base = self.inner.base.as_ref();
        let base = base.map(|base| FileCursor::new(base, bucket, from, cached)).transpose()?;
        Ok(BucketCursor::new(Arc::clone(&self.inner), base, bucket, from))
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
        if let Some(value) = self.read.inner.applied_version(revision) {
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
