//! Compaction as a job in slices: each slice does bounded work between applies and writes a batch
//! of its own. A crash leaves whole slices; a restart continues with the versions that are left.
//!
//! A job has two phases. First it takes the superseded versions out of the index, in order of key.
//! Then it drops them from the file in order of revision, so that each page of the file is changed
//! by few commits. It reads nothing from the file, and the index leads it to the superseded
//! versions, so its work does not depend on how many keys there are.
//!
//! Source: etcd v3.7 server/storage/mvcc/{kvstore,kvstore_compaction}.go.

use crate::index::{Index, StoredVersion};
use backend::{Batch, Dropped};
use std::collections::BTreeSet;

/// Versions that a slice takes out of the index for each version that it may drop from the file:
/// the former costs less.
const TAKEN_PER_DROPPED: usize = 4;

/// The result of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// No compaction is under way.
    Idle,
    /// There is more to do. The number of versions that this slice dropped; it may be 0.
    More(usize),
    /// The compaction at `revision` is done; `finishedCompactRev` is in the batch.
    Finished {
        /// The compaction's revision.
        revision: i64,
        /// The number of versions that this slice dropped.
        dropped: usize,
    },
}

/// One compaction.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) revision: i64,
    /// Versions that are no longer in the index and still in the file.
    superseded: BTreeSet<StoredVersion>,
}

impl Job {
    pub(crate) fn new(revision: i64) -> Job {
        Job { revision, superseded: BTreeSet::new() }
    }

    /// Adds the versions of `unindexed` that the compaction drops: they are in the file only.
    pub(crate) fn take_unindexed(&mut self, unindexed: &mut Vec<StoredVersion>) {
        let main = self.revision;
        self.superseded.extend(unindexed.extract_if(.., |stored| stored.main() <= main));
    }

    /// Drops up to `max` versions. Returns how many, and whether the job is done.
    pub(crate) fn step(
        &mut self,
        index: &mut Index,
        batch: &mut Batch,
        max: usize,
    ) -> (usize, bool) {
        let superseded = &mut self.superseded;
        let take = max.saturating_mul(TAKEN_PER_DROPPED);
        index.take_superseded(self.revision, take, &mut |stored| {
            superseded.insert(stored);
        });
        if index.has_superseded(self.revision) {
            return (0, false);
        }
        let mut dropped = 0;
        while dropped < max
            && let Some(stored) = superseded.pop_first()
        {
            let (revision, tombstone) = (stored.revision(), stored.is_tombstone());
            batch.drop_version(Dropped { revision, tombstone });
            dropped += 1;
        }
        (dropped, superseded.is_empty())
    }
}
