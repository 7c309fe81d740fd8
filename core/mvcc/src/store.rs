//! The store: what `state` owns and changes. Readers have [`View`]s.
//!
//! Source: etcd v3.7 server/storage/mvcc/kvstore.go.

use crate::compaction::{Job, Slice};
use crate::cursor::decode;
use crate::error::{Error, Reject};
use crate::hash::parse;
use crate::index::{Found, Index, Run, Stored, Walk};
use crate::view::View;
use crate::write::WriteTxn;
use backend::{Batch, Bucket, ReadView};
use bytes::Bytes;
use proto::{LeaseId, Revision};
use std::collections::VecDeque;

/// The keys of bucket `meta` that are compaction's: a revision each.
pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// See [`SCHEDULED_COMPACT`].
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

/// The writer's side of the store.
///
/// - `current` is at least 1, at least the compact revision, and the main revision of the newest
///   version in the index.
/// - What a batch changed is in the index at once; it must be pushed onto the overlay and
///   [`Store::attach`]ed before the next batch is begun.
#[derive(Debug)]
pub struct Store {
    pub(crate) index: Index,
    pub(crate) read: ReadView,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    /// `finishedCompactRev`; none as long as the key is not in the file.
    finished: Option<i64>,
    /// The compaction under way, and one that waits for it.
    jobs: VecDeque<Job>,
    /// Versions of the file that the index left out; the next compaction drops them.
    unindexed: Vec<Stored>,
}

/// What a restored store has to tell.
#[derive(Debug)]
pub struct Restored {
    /// The store.
    pub store: Store,
    /// The keys that have a lease, in order of key, each with its lease. Whether that lease
    /// exists is the caller's to check.
    pub leases: Vec<(LeaseId, Bytes)>,
}

impl Store {
    /// Reads everything that the file holds and builds the index. A compaction that had not
    /// finished is under way again.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what is no version.
    pub fn restore(read: ReadView) -> Result<Restored, Error> {
        let finished = compact_revision(&read, FINISHED_COMPACT)?;
        let scheduled = compact_revision(&read, SCHEDULED_COMPACT)?;
        let (mut index, mut run) = (Index::default(), Run::default());
        let (mut last, mut previous) = (1, None);
        let first = Revision { main: 1, sub: 0 };
        for pair in read.cursor(Bucket::Key, &first.to_bytes(), false)? {
            let (at, value) = pair?;
            let (revision, tombstone) = parse(&at)?;
            if previous.replace((revision, tombstone)) >= Some((revision, tombstone)) {
                return Err(Error::corrupt("the keys of the bucket `key` do not ascend", &at));
            }
            let kv = decode(&value)?;
            let stored = Stored::new(revision, value.len(), tombstone)
                .ok_or_else(|| Error::corrupt("a version is too large", &at))?;
            let (create, version, lease) = (kv.create_revision, kv.version, kv.lease);
            run.push(kv.key, Found { at: stored, create, version, lease });
            if run.is_full(&index) {
                run.merge_into(&mut index);
            }
            last = revision.main;
        }
        run.merge_into(&mut index);
        let compacted = finished.unwrap_or(-1);
        let current = last.max(compacted).max(scheduled.unwrap_or(0));
        let mut store = Store {
            index,
            read,
            current,
            compacted,
            finished,
            jobs: VecDeque::new(),
            unindexed: run.into_unindexed(),
        };
        if let Some(scheduled) = scheduled.filter(|scheduled| *scheduled > compacted) {
            store.jobs.push_back(Job::new(scheduled));
            store.compacted = scheduled;
        }
        let leases = leases(&store.index);
        Ok(Restored { store, leases })
    }

    /// The revision of the newest change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The revision below which versions are gone or going; −1 before the first compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// Reads through this snapshot from now on. It holds all that this store has changed.
    pub fn attach(&mut self, read: ReadView) {
        self.read = read;
    }

    /// A snapshot for readers. Everything must be attached.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            index: self.index.clone(),
            read: self.read.clone(),
            revision: self.current,
            compact_revision: self.compacted,
        }
    }

    /// Begins a transaction whose changes go into `batch`.
    pub fn write<'a>(&'a mut self, batch: &'a mut Batch) -> WriteTxn<'a> {
        WriteTxn::new(self, batch)
    }

    /// Begins a compaction: readers are refused below `revision` at once; the work is done by
    /// [`Store::compaction_slice`].
    ///
    /// # Errors
    /// When the revision is compacted already, or in the future.
    pub fn compact(&mut self, revision: i64, batch: &mut Batch) -> Result<(), Reject> {
        if revision <= self.compacted {
            return Err(Reject::Compacted);
        }
        if revision > self.current {
            return Err(Reject::FutureRevision);
        }
        if self.jobs.len() > 1 {
            // The new one drops what the waiting one would have dropped.
            self.jobs.pop_back();
        }
        self.jobs.push_back(Job::new(revision));
        self.compacted = revision;
        put_revision(batch, SCHEDULED_COMPACT, revision);
        Ok(())
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The revision of the last compaction that has finished.
    #[must_use]
    pub fn finished_compaction(&self) -> Option<i64> {
        self.finished
    }

    /// Does a slice of the compaction that is under way: takes some superseded versions out of the
    /// index, or drops at most `max` of them from the file with `batch`. It reads no file.
    pub fn compaction_slice(&mut self, batch: &mut Batch, max: usize) -> Slice {
        let Some(job) = self.jobs.front_mut() else { return Slice::Idle };
        job.take_unindexed(&mut self.unindexed);
        let (dropped, is_done) = job.step(&mut self.index, batch, max.max(1));
        if !is_done {
            return Slice::More(dropped);
        }
        let revision = job.revision;
        self.jobs.pop_front();
        self.finished = Some(revision);
        put_revision(batch, FINISHED_COMPACT, revision);
        Slice::Finished { revision, dropped }
    }
}

fn put_revision(batch: &mut Batch, key: &'static [u8], main: i64) {
    let value = Bytes::copy_from_slice(&Revision { main, sub: 0 }.to_bytes());
    batch.put(Bucket::Meta, Bytes::from_static(key), value);
}

fn compact_revision(read: &ReadView, key: &'static [u8]) -> Result<Option<i64>, Error> {
    let Some(value) = read.get(Bucket::Meta, key)? else { return Ok(None) };
    let (revision, _) = Revision::from_bytes(&value)
        .map_err(|_| Error::corrupt("a compaction's revision in the bucket `meta`", key))?;
    Ok(Some(revision.main))
}

fn leases(index: &Index) -> Vec<(LeaseId, Bytes)> {
    let mut leases = Vec::new();
    let mut walk = Walk::new(index, b"", None);
    while let Some(entry) = walk.entry() {
        if entry.head.lease != 0 {
            leases.push((LeaseId(entry.head.lease), Bytes::copy_from_slice(entry.key)));
        }
        walk.advance();
    }
    leases
}
