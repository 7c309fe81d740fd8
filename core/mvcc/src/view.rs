//! An immutable snapshot of the store, which any thread may read.

use crate::cursor::{At, RangeCursor, Wait, fetch, missing, resolve};
use crate::error::{Error, Reject};
use crate::hash::HashKv;
use crate::history::History;
use crate::index::{Entry, Index, Stored, Walk};
use crate::range::{PastVersion, RangeQuery};
use auth::{KeyRange, Permitted};
use backend::{Lookup, ReadView};
use bytes::Bytes;

/// A snapshot of the store. A clone costs two reference counts.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) index: Index,
    pub(crate) read: ReadView,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

/// What the index knows of a key that is live.
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
    pub(crate) stored: Stored,
}

impl KeyInfo {
    pub(crate) fn of(entry: &Entry<'_>) -> Option<KeyInfo> {
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

/// The live keys of a range as of a snapshot, from the index alone.
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
    /// The revision of the newest change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which versions are gone or going; −1 before the first compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// What the file and the overlay hold of every bucket.
    #[must_use]
    pub fn read(&self) -> &ReadView {
        &self.read
    }

    /// The number of live keys.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.index.sum().live
    }

    /// The number of keys in the index, deleted ones that compaction has not removed included.
    #[must_use]
    pub fn indexed_keys(&self) -> u64 {
        self.index.sum().keys
    }

    /// Starts reading a range.
    ///
    /// # Errors
    /// When the revision is compacted, or in the future.
    pub fn range(&self, query: &Permitted<RangeQuery>) -> Result<RangeCursor, Reject> {
        let query = query.get();
        let at = resolve(query.revision, self.revision, self.compact_revision)?;
        Ok(RangeCursor::new(&self.index, self.read.versions(), query, at))
    }

    /// Whether a reader may ask for a revision; 0 is the current one.
    ///
    /// # Errors
    /// When it is compacted, or in the future.
    pub fn check_revision(&self, revision: i64) -> Result<(), Reject> {
        resolve(revision, self.revision, self.compact_revision).map(drop)
    }

    /// The encoded key-value of a key at a revision (0 for the current one), waiting for the
    /// disk.
    ///
    /// # Errors
    /// When the revision cannot be read, or the file.
    pub fn get(
        &self,
        version: &Permitted<PastVersion>,
    ) -> Result<Result<Option<Bytes>, Reject>, Error> {
        let PastVersion { key, revision } = version.get();
        let at = match resolve(*revision, self.revision, self.compact_revision) {
            Ok(at) => at,
            Err(reject) => return Ok(Err(reject)),
        };
        let Some(stored) = self.index.get(key).and_then(|entry| live(&entry, at)) else {
            return Ok(Ok(None));
        };
        let value = self.read.version(stored.revision(), false)?;
        value.map(|value| Ok(Some(value))).ok_or_else(|| missing(stored))
    }

    /// What the index knows of the live keys of a range.
    #[must_use]
    pub fn walk(&self, keys: &Permitted<KeyRange>) -> KeyWalk {
        KeyWalk::new(&self.index, keys.get())
    }

    /// The encoded key-value of what [`View::walk`] of this view found; `None`
    /// if that would need the disk and may not wait.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fetch(&self, info: &KeyInfo, wait: Wait) -> Result<Option<Bytes>, Error> {
        match fetch(&mut self.read.versions(), info.stored, wait)? {
            Lookup::Found(value) => Ok(Some(value)),
            Lookup::NeedsDisk => Ok(None),
            Lookup::Missing => Err(missing(info.stored)),
        }
    }

    /// Starts hashing the bucket `key` as of a revision (0 for the current one), as HashKV does.
    ///
    /// # Errors
    /// When the revision is compacted, or in the future.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Reject> {
        HashKv::new(self, revision)
    }

    /// Starts reading the changes of the main revisions `from` to `to`, both included.
    ///
    /// # Errors
    /// When `from` is compacted.
    pub fn history(&self, from: i64, to: i64) -> Result<Result<History, Reject>, Error> {
        if from < self.compact_revision {
            return Ok(Err(Reject::Compacted));
        }
        History::new(&self.read, from, to.min(self.revision)).map(Ok)
    }
}

fn live(entry: &Entry<'_>, at: At) -> Option<Stored> {
    entry.live_at(at.revision)
}
