//! The database file and its writer: opens it with all buckets of etcd, and commits a prefix of the
//! overlay in one transaction.

use crate::batch::{Batch, Dropped};
use crate::bucket::Bucket;
use crate::error::Error;
use crate::meta;
use crate::view::ReadView;
use bytes::Bytes;
use proto::{EntryId, Revision};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vfs::Vfs;

/// The writer of the database file.
#[derive(Debug)]
pub struct Backend {
    db: bolt::Db,
    /// The last entry whose changes are in the file. Invariant: the index never decreases.
    applied: EntryId,
}

impl Backend {
    /// Opens or creates the file at `path`, and creates missing buckets.
    ///
    /// # Errors
    /// As [`bolt::Db::open`]; [`Error::Corrupt`] if the applied entry cannot be read.
    pub fn open(vfs: &dyn Vfs, path: &Path, options: bolt::Options) -> Result<Backend, Error> {
        let read_only = options.read_only;
        let mut db = bolt::Db::open(vfs, path, options)?;
        let view = db.view();
        let lacks = |bucket: &Bucket| !view.has_bucket(bucket.name());
        if !read_only && Bucket::ALL.iter().any(lacks) {
            let mut tx = db.begin();
            for bucket in Bucket::ALL.into_iter().filter(lacks) {
                tx.create_bucket(bucket.name())?;
            }
            tx.commit()?;
        }
        let applied = ReadView::of_file(db.view()).applied()?;
        Ok(Backend { db, applied })
    }

    /// The view of the last commit.
    #[must_use]
    pub fn view(&self) -> bolt::View {
        self.db.view()
    }

    /// How many states of the file are in use by readers.
    #[must_use]
    pub fn open_views(&self) -> usize {
        self.db.open_views()
    }

    /// The last entry whose changes are in the file.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Commits batches, in the order in which they were applied, with the id of their last entry:
    /// all of them or none. Returns the new view. A commit without batches only gives back a
    /// bounded part of unused space.
    ///
    /// # Errors
    /// If the file cannot be read or written. After a failed write all later commits fail.
    ///
    /// # Panics
    /// If the entry of a batch is older than that of the file.
    pub fn commit(&mut self, batches: &[Arc<Batch>]) -> Result<bolt::View, Error> {
        self.commit_observed(batches, &mut || {})
    }

    /// As [`Backend::commit`]. Calls `writing` when the new pages are built and are written, unless
    /// nothing has changed.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    ///
    /// # Panics
    /// As [`Backend::commit`].
    pub fn commit_observed(
        &mut self,
        batches: &[Arc<Batch>],
        writing: &mut dyn FnMut(),
    ) -> Result<bolt::View, Error> {
        let mut applied = self.applied;
        for batch in batches.iter().map(|batch| batch.applied()).filter(|id| id.index.0 > 0) {
            assert!(applied.index <= batch.index, "the applied index never decreases");
            applied = batch;
        }
        let mut tx = self.db.begin();
        tx.apply(Bucket::Key.name(), KeyOps::new(batches))?;
        let mut others: BTreeMap<Bucket, BTreeMap<Bytes, Option<Bytes>>> = BTreeMap::new();
        for op in batches.iter().flat_map(|batch| batch.others()) {
            others.entry(op.bucket).or_default().insert(op.key.clone(), op.value.clone());
        }
        if applied != self.applied {
            let meta = others.entry(Bucket::Meta).or_default();
            let number = |number: u64| Some(Bytes::copy_from_slice(&number.to_be_bytes()));
            meta.insert(meta::CONSISTENT_INDEX.into(), number(applied.index.0));
            if applied.term.0 > 0 {
                meta.insert(meta::TERM.into(), number(applied.term.0));
            }
        }
        for (bucket, ops) in others {
            tx.apply(bucket.name(), ops.into_iter())?;
        }
        let view = tx.commit_observed(writing)?;
        self.applied = applied;
        Ok(view)
    }
}

/// The changes of the bucket `key` in key order: added versions, which ascend through the batches,
/// merged with dropped versions. A version that is both added and dropped is dropped.
struct KeyOps<'a> {
    batches: &'a [Arc<Batch>],
    at: (usize, usize),
    dropped: std::iter::Peekable<std::vec::IntoIter<Dropped>>,
}

impl<'a> KeyOps<'a> {
    fn new(batches: &'a [Arc<Batch>]) -> KeyOps<'a> {
        let mut dropped: Vec<Dropped> =
            batches.iter().flat_map(|batch| batch.dropped().iter().copied()).collect();
        dropped.sort_unstable();
        dropped.dedup();
        KeyOps { batches, at: (0, 0), dropped: dropped.into_iter().peekable() }
    }

    fn next_version(&mut self) -> Option<(Dropped, Bytes)> {
        loop {
            let versions = self.batches.get(self.at.0)?.versions();
            if let Some(version) = versions.get(self.at.1) {
                let (revision, tombstone) = (version.revision, version.tombstone);
                return Some((Dropped { revision, tombstone }, version.value.clone()));
            }
            self.at = (self.at.0 + 1, 0);
        }
    }
}

impl Iterator for KeyOps<'_> {
    type Item = (Bytes, Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let version = self.next_version();
        let dropped = self.dropped.peek().copied();
        match (version, dropped) {
            (None, None) => None,
            (Some((at, value)), None) => {
                self.at.1 += 1;
                Some((key_of(at), Some(value)))
            }
            (Some((at, value)), Some(dropped)) if at < dropped => {
                self.at.1 += 1;
                Some((key_of(at), Some(value)))
            }
            (version, Some(dropped)) => {
                self.dropped.next();
                if version.is_some_and(|(at, _)| at == dropped) {
                    self.at.1 += 1;
                }
                Some((key_of(dropped), None))
            }
        }
    }
}

fn key_of(at: Dropped) -> Bytes {
    let revision: Revision = at.revision;
    if at.tombstone {
        Bytes::copy_from_slice(&revision.to_tombstone_bytes())
    } else {
        Bytes::copy_from_slice(&revision.to_bytes())
    }
}
