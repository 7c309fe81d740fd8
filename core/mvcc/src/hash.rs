//! HashKV: the hash by which members compare what they hold up to a revision, whatever compaction
//! has done on each. It is computed in steps, so that it stalls nobody.
//!
//! Source: etcd v3.7 server/storage/mvcc/{hash,kvstore}.go.

use crate::cursor::{YIELD_BYTES, YIELD_KEYS, decode};
use crate::error::{Error, Reject};
use crate::index::{Index, Walk};
use crate::view::View;
use backend::{Bucket, Cursor};
use proto::Revision;

/// A hash, and what it says something about. Two are comparable if both revisions are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision that it presumes; −1 for none.
    pub compact_revision: i64,
    /// The newest revision in it.
    pub revision: i64,
}

/// The hash in the making.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    crc: u32,
    compact_revision: i64,
    revision: i64,
    /// Whether nothing at all is kept at `revision`: then old versions count, kept or not.
    keeps_nothing: bool,
}

impl Hasher {
    pub(crate) fn new(compact_revision: i64, revision: i64, keeps_nothing: bool) -> Hasher {
        let crc = crc32c::crc32c(Bucket::Key.name());
        Hasher { crc, compact_revision, revision, keeps_nothing }
    }

    /// Takes the next pair of the bucket. `is_kept` says whether compaction at the hash's
    /// revision keeps this version.
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
        // A tombstone at the compact revision: versions of etcd differ in whether it is there.
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

/// A hash that is being computed.
#[derive(Debug)]
pub struct HashKv {
    state: State,
    /// The store's revision when it was asked for.
    current: i64,
}

#[derive(Debug)]
enum State {
    /// Looking for a key that is live at the revision.
    Looking(Box<Work>, Walk),
    Hashing(Box<Work>),
    Done(RevisionHash),
}

#[derive(Debug)]
struct Work {
    view: View,
    hasher: Hasher,
    cursor: Option<Cursor>,
}

impl HashKv {
    pub(crate) fn new(view: &View, revision: i64) -> Result<HashKv, Reject> {
        let current = view.revision;
        if revision > 0 && revision < view.compact_revision {
            return Err(Reject::Compacted);
        }
        if revision > current {
            return Err(Reject::FutureRevision);
        }
        let revision = if revision == 0 { current } else { revision };
        let hasher = Hasher::new(view.compact_revision, revision, true);
        let walk = Walk::new(&view.index, b"", None);
        let work = Box::new(Work { view: view.clone(), hasher, cursor: None });
        Ok(HashKv { state: State::Looking(work, walk), current })
    }

    /// The store's revision when the hash was asked for.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// Works on for a while, waiting for the disk; the hash when it is done.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn step(&mut self) -> Result<Option<RevisionHash>, Error> {
        match &mut self.state {
            State::Done(hash) => return Ok(Some(*hash)),
            State::Looking(work, walk) => {
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
                let State::Looking(work, _) =
                    std::mem::replace(&mut self.state, State::Done(RevisionHash::NONE))
                else {
                    unreachable!("it was looking a moment ago")
                };
                self.state = State::Hashing(work);
            }
            State::Hashing(work) => {
                if let Some(hash) = work.step()? {
                    self.state = State::Done(hash);
                    return Ok(Some(hash));
                }
            }
        }
        Ok(None)
    }

    /// Works to the end, waiting for the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
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
            none => none.insert(self.view.read.cursor(Bucket::Key, b"", false)?),
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
            let index = &self.view.index;
            self.hasher.write(at, (&key, &value), || is_live_at(index, revision, at, &value))?;
            pairs += 1;
            bytes += key.len() + value.len();
        }
        Ok(None)
    }
}

/// Whether this version is what a reader at `revision` sees of its key.
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
