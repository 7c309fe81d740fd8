//! Compaction as a job: slices of bounded work between applies, each a batch of its own, so that
//! it pauses nobody and a restart finds either a slice or nothing of it.
//!
//! Source: etcd v3.7 server/storage/mvcc/{kvstore,kvstore_compaction}.go.

use crate::cursor::decode;
use crate::error::Error;
use crate::hash::{Hasher, StoredHash, parse};
use crate::index::{Index, Walk};
use backend::{Batch, Bucket, Dropped, ReadView};
use proto::Revision;

/// How far a slice got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// There was nothing to do: no compaction is under way.
    Idle,
    /// There is more to do. The number of versions that were dropped.
    More(usize),
    /// The compaction at `revision` is done; `finishedCompactRev` is in the batch.
    Finished {
        /// The compaction's revision.
        revision: i64,
        /// The number of versions that the last slice dropped.
        dropped: usize,
    },
}

/// One compaction.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) revision: i64,
    /// The compact revision before it.
    previous: i64,
    /// Whether the previous compaction had finished when this one was asked for: only then does
    /// its hash cover everything since.
    hashes: bool,
    hasher: Option<Hasher>,
    next: Revision,
    has_begun: bool,
}

impl Job {
    pub(crate) fn new(revision: i64, previous: i64, hashes: bool) -> Job {
        let next = Revision::default();
        Job { revision, previous, hashes, hasher: None, next, has_begun: false }
    }

    /// Goes through up to `max` versions; true when the last one is behind it.
    pub(crate) fn step(
        &mut self,
        index: &mut Index,
        read: &ReadView,
        batch: &mut Batch,
        max: usize,
    ) -> Result<(usize, bool), Error> {
        if !self.has_begun {
            self.begin(index);
        }
        let mut cursor = read.cursor(Bucket::Key, &self.next.to_bytes(), false)?;
        let mut dropped = 0;
        for _ in 0..max {
            let Some((stored_at, value)) = cursor.next().transpose()? else {
                return Ok((dropped, true));
            };
            let at = parse(&stored_at)?;
            let (revision, tombstone) = at;
            if revision.main > self.revision {
                return Ok((dropped, true));
            }
            self.next = Revision { main: revision.main, sub: revision.sub.saturating_add(1) };
            let key = decode(&value)?.key;
            let kept = index.get(key).and_then(|entry| entry.kept_at(self.revision));
            let is_kept = kept.is_some_and(|stored| stored.revision() == revision);
            if let Some(hasher) = &mut self.hasher {
                hasher.write(at, (&stored_at, &value), || Ok(is_kept))?;
            }
            if !is_kept {
                batch.drop_version(Dropped { revision, tombstone });
                index.compact_key(key, self.revision);
                dropped += 1;
            }
        }
        Ok((dropped, false))
    }

    fn begin(&mut self, index: &Index) {
        self.has_begun = true;
        if self.hashes {
            let mut walk = Walk::new(index, b"", None);
            let mut keeps_nothing = true;
            while let Some(entry) = walk.entry() {
                if entry.kept_at(self.revision).is_some() {
                    keeps_nothing = false;
                    break;
                }
                walk.advance();
            }
            self.hasher = Some(Hasher::new(self.previous, self.revision, keeps_nothing));
        }
    }

    /// The hash made on the way, if it covers everything.
    pub(crate) fn hash(&self) -> Option<StoredHash> {
        self.hasher.as_ref().map(Hasher::finish)
    }
}
