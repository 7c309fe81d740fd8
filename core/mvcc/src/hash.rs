//! HashKV: the hash with which members compare their data up to a revision, independent of the
//! progress of compaction on each member. It is computed in steps, so that other work can run
//! between them.
//!
//! Source: etcd v3.7 server/storage/mvcc/{hash,kvstore}.go.

use crate::cursor::{YIELD_BYTES, YIELD_KEYS, decode};
use crate::error::{Error, RequestError};
use crate::index::{Index, Walk};
use crate::snapshot::Snapshot;
use backend::{Bucket, BucketCursor};
use proto::Revision;

/// A hash and the data that it covers. Two hashes are comparable if both revisions are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision that the hash assumes; −1 for none.
    pub compact_revision: i64,
    /// The newest revision that the hash covers.
    pub revision: i64,
}

/// The state of the computation.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    crc: u32,
    compact_revision: i64,
    revision: i64,
    /// Whether no key is live at `revision`. Then superseded versions are hashed, too, as etcd
    /// does.
    keeps_nothing: bool,
}

impl Hasher {
    pub(crate) fn new(compact_revision: i64, revision: i64, keeps_nothing: bool) -> Hasher {
        let crc = crc32c::crc32c(Bucket::Key.name());
        Hasher { crc, compact_revision, revision, keeps_nothing }
    }

    /// Adds the next pair of the bucket. `is_kept` says whether a compaction at the hash's revision
    /// keeps this version.
    pub(crate) fn write(
        &mut self,
        at: (Revision, bool),
        pair: (&[u8], &[u8]),
        is_kept: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let (revision, tombstone) = at;
        if revision.main > self.revision {
            return Ok(());
        }
        // Versions of etcd differ in whether compaction drops a tombstone at the compact revision.
        if tombstone && revision.main == self.compact_revision {
            return Ok(());
        }
        if revision.main <= self.compact_revision && !self.keeps_nothing && !is_kept()? {
            return Ok(());
        }
        self.crc = crc32c::crc32c_append(self.crc, pair.0);
        self.crc = crc32c::crc32c_append(self.crc, pair.1);
        Ok(())
    }

    pub(crate) fn finish(&self) -> RevisionHash {
        RevisionHash {
            hash: self.crc,
            compact_revision: self.compact_revision,
            revision: self.revision,
        }
    }
}

/// A hash that is computed in steps.
#[derive(Debug)]
pub struct HashKv {
    phase: HashPhase,
    /// The store's revision when the hash was requested.
    current: i64,
}

#[derive(Debug)]
enum HashPhase {
    /// Searching for a key that is live at the revision.
    Searching(Box<Work>, Walk),
    Hashing(Box<Work>),
    Done(RevisionHash),
}

#[derive(Debug)]
struct Work {
    snapshot: Snapshot,
    hasher: Hasher,
    cursor: Option<BucketCursor>,
}

impl HashKv {
    pub(crate) fn new(snapshot: &Snapshot, revision: i64) -> Result<HashKv, RequestError> {
        let current = snapshot.revision;
        if revision > 0 && revision < snapshot.compact_revision {
            return Err(RequestError::Compacted);
        }
        if revision > current {
            return Err(RequestError::FutureRevision);
        }
        let revision = if revision == 0 { current } else { revision };
        let hasher = Hasher::new(snapshot.compact_revision, revision, true);
        let walk = Walk::new(&snapshot.index, b"", None);
        let work = Box::new(Work { snapshot: snapshot.clone(), hasher, cursor: None });
        Ok(HashKv { phase: HashPhase::Searching(work, walk), current })
    }

    /// The store's revision when the hash was requested.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// Does one step, waiting for the disk. Returns the hash when it is done.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn step(&mut self) -> Result<Option<RevisionHash>, Error> {
        match &mut self.phase {
            HashPhase::Done(hash) => return Ok(Some(*hash)),
            HashPhase::Searching(work, walk) => {
                let revision = work.hasher.revision;
                let mut looked = 0;
                while let Some(entry) = walk.entry() {
                    if entry.live_at(revision).is_some() {
                        work.hasher.keeps_nothing = false;
                        break;
                    }
                    if looked == YIELD_KEYS {
                        return Ok(None);
                    }
                    looked += 1;
                    walk.advance();
                }
                let HashPhase::Searching(work, _) =
                    std::mem::replace(&mut self.phase, HashPhase::Done(RevisionHash::NONE))
                else {
                    unreachable!("the phase was `Searching` above")
                };
                self.phase = HashPhase::Hashing(work);
            }
            HashPhase::Hashing(work) => {
                if let Some(hash) = work.step()? {
                    self.phase = HashPhase::Done(hash);
                    return Ok(Some(hash));
                }
            }
        }
        Ok(None)
    }

    /// Computes the hash to the end, waiting for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn run(mut self) -> Result<RevisionHash, Error> {
        loop {
            if let Some(hash) = self.step()? {
                return Ok(hash);
            }
        }
    }
}

impl RevisionHash {
    const NONE: RevisionHash = RevisionHash { hash: 0, compact_revision: 0, revision: 0 };
}

impl Work {
    fn step(&mut self) -> Result<Option<RevisionHash>, Error> {
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            none => none.insert(self.snapshot.read.cursor(Bucket::Key, b"", false)?),
        };
        let revision = self.hasher.revision;
        let (mut pairs, mut bytes) = (0, 0);
        while pairs < YIELD_KEYS && bytes < YIELD_BYTES {
            let Some((key, value)) = cursor.next().transpose()? else {
                return Ok(Some(self.hasher.finish()));
            };
            let at = parse(&key)?;
            if at.0.main > revision {
                return Ok(Some(self.hasher.finish()));
            }
            let index = &self.snapshot.index;
            self.hasher.write(at, (&key, &value), || is_live_at(index, revision, at, &value))?;
            pairs += 1;
            bytes += key.len() + value.len();
        }
        Ok(None)
    }
}

/// Whether a reader at `revision` sees this version of its key.
fn is_live_at(
    index: &Index,
    revision: i64,
    at: (Revision, bool),
    value: &[u8],
) -> Result<bool, Error> {
    let key = decode(value)?.key;
    let live = index.get(key).and_then(|entry| entry.live_at(revision));
    Ok(live.is_some_and(|stored| stored.revision() == at.0))
}

pub(crate) fn parse(key: &[u8]) -> Result<(Revision, bool), Error> {
    Revision::from_bytes(key)
        .map_err(|_| Error::corrupt("a key of the bucket `key` is not a revision", key))
}
