//! An immutable snapshot of the store, which any thread may read.

use crate::cursor::{At, RangeCursor, Wait, fetch, missing, resolve};
use crate::error::{Error, RequestError};
use crate::hash::HashKv;
use crate::history::HistoryCursor;
use crate::index::{Index, KeyEntry, StoredVersion, Walk};
use crate::range::{PastVersion, RangeQuery};
use crate::snapshot::Snapshot;
use auth::{KeyRange, Permitted};
use backend::{Lookup, ReadView};
use bytes::Bytes;

/// A snapshot of the store. A clone costs two reference counts.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Snapshot,
}

/// The fields of a live key that the index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The revision of the first put since the key was last deleted.
    pub create_revision: i64,
    /// The revision of the last put.
    pub mod_revision: i64,
    /// The number of puts since the key was last deleted.
    pub version: i64,
    /// The lease; 0 for none.
    pub lease: i64,
    pub(crate) stored: StoredVersion,
}

impl KeyInfo {
    pub(crate) fn of(entry: &KeyEntry<'_>) -> Option<KeyInfo> {
        let head = entry.head;
        head.is_live().then_some(KeyInfo {
            create_revision: head.create,
            mod_revision: head.at.main(),
            version: head.version,
            lease: head.lease,
            stored: head.at,
        })
    }
}

/// Iterates over the live keys of a range in a snapshot, using the index only.
#[derive(Debug)]
pub struct KeyWalk {
    walk: Walk,
}

impl KeyWalk {
    pub(crate) fn new(index: &Index, keys: &KeyRange) -> KeyWalk {
        let walk = match keys {
            KeyRange::One(key) => {
                let end = [key, &[0][..]].concat();
                Walk::new(index, key, Some(end.into()))
            }
            KeyRange::Span { from, end } => Walk::new(index, from, end.clone()),
        };
        KeyWalk { walk }
    }
}

impl Iterator for KeyWalk {
    type Item = (Bytes, KeyInfo);

    fn next(&mut self) -> Option<(Bytes, KeyInfo)> {
        loop {
            let entry = self.walk.entry()?;
            let found = KeyInfo::of(&entry).map(|info| (Bytes::copy_from_slice(entry.key), info));
            self.walk.advance();
            if found.is_some() {
                return found;
            }
        }
    }
}

impl View {
    pub(crate) fn new(snapshot: Snapshot) -> View {
        View { snapshot }
    }

    /// The revision of the newest change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.snapshot.revision
    }

    /// The revision below which versions are dropped or being dropped; −1 before the first
    /// compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.snapshot.compact_revision
    }

    /// The snapshot of all buckets: the file and the overlay.
    #[must_use]
    pub fn read(&self) -> &ReadView {
        &self.snapshot.read
    }

    /// The number of live keys.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.snapshot.index.sum().live
    }

    /// The number of keys in the index, including deleted ones that compaction has not removed.
    #[must_use]
    pub fn indexed_keys(&self) -> u64 {
        self.snapshot.index.sum().keys
    }

    /// Starts reading a range.
    ///
    /// # Errors
    /// If the revision is compacted or in the future.
    pub fn range(&self, query: &Permitted<RangeQuery>) -> Result<RangeCursor, RequestError> {
        let query = query.get();
        let at = resolve(query.revision, self.snapshot.revision, self.snapshot.compact_revision)?;
        Ok(RangeCursor::new(&self.snapshot.index, self.snapshot.read.versions(), query, at))
    }

    /// Checks that a revision can be read; 0 is the current one.
    ///
    /// # Errors
    /// If the revision is compacted or in the future.
    pub fn check_revision(&self, revision: i64) -> Result<(), RequestError> {
        resolve(revision, self.snapshot.revision, self.snapshot.compact_revision).map(drop)
    }

    /// The encoded key-value of a key at a revision (0 for the current one), waiting for the
    /// disk.
    ///
    /// # Errors
    /// If the file cannot be read. The inner error: if the revision cannot be read.
    pub fn get(
        &self,
        version: &Permitted<PastVersion>,
    ) -> Result<Result<Option<Bytes>, RequestError>, Error> {
        let PastVersion { key, revision } = version.get();
        let at = match resolve(*revision, self.snapshot.revision, self.snapshot.compact_revision) {
            Ok(at) => at,
            Err(error) => return Ok(Err(error)),
        };
        let Some(stored) = self.snapshot.index.get(key).and_then(|entry| live(&entry, at)) else {
            return Ok(Ok(None));
        };
        let value = self.snapshot.read.version(stored.revision(), false)?;
        value.map(|value| Ok(Some(value))).ok_or_else(|| missing(stored))
    }

    /// The live keys of a range with their index fields.
    #[must_use]
    pub fn walk(&self, keys: &Permitted<KeyRange>) -> KeyWalk {
        KeyWalk::new(&self.snapshot.index, keys.get())
    }

    /// The encoded key-value of a key found by [`View::walk`] of this view; `None` if that needs
    /// the disk and `wait` does not allow it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn fetch(&self, info: &KeyInfo, wait: Wait) -> Result<Option<Bytes>, Error> {
        match fetch(&mut self.snapshot.read.versions(), info.stored, wait)? {
            Lookup::Found(value) => Ok(Some(value)),
            Lookup::NeedsDisk => Ok(None),
            Lookup::Missing => Err(missing(info.stored)),
        }
    }

    /// Starts hashing the bucket `key` as of a revision (0 for the current one), as HashKV does.
    ///
    /// # Errors
    /// If the revision is compacted or in the future.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, RequestError> {
        HashKv::new(&self.snapshot, revision)
    }

    /// Starts reading the changes of the main revisions `from` to `to`, both included.
    ///
    /// # Errors
    /// If the file cannot be read. The inner error: if `from` is compacted.
    pub fn history(
        &self,
        from: i64,
        to: i64,
    ) -> Result<Result<HistoryCursor, RequestError>, Error> {
        if from < self.snapshot.compact_revision {
            return Ok(Err(RequestError::Compacted));
        }
        HistoryCursor::new(&self.snapshot.read, from, to.min(self.snapshot.revision)).map(Ok)
    }
}

fn live(entry: &KeyEntry<'_>, at: At) -> Option<StoredVersion> {
    entry.live_at(at.revision)
}
