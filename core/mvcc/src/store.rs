//! The store, owned and changed by `state`. Readers have [`View`]s.
//!
//! Source: etcd v3.7 server/storage/mvcc/kvstore.go.

use crate::compaction::{Job, Slice};
use crate::cursor::decode;
use crate::error::{Error, RequestError};
use crate::hash::parse;
use crate::index::{Index, RestoredVersion, StoredVersion, VersionBatch, Walk};
use crate::snapshot::Snapshot;
use crate::view::View;
use crate::write::WriteTxn;
use backend::{Batch, Bucket, ReadView};
use bytes::Bytes;
use proto::{LeaseId, Revision};
use std::collections::VecDeque;

/// The key of bucket `meta` that holds the revision of the newest requested compaction.
pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// The key of bucket `meta` that holds the revision of the last finished compaction.
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

/// The writer's side of the store.
///
/// The changes of a batch are in the index at once. The batch must be pushed onto the overlay, and
/// the overlay's view [`attach`](Store::attach)ed, before the next batch is begun.
#[derive(Debug)]
pub struct Store {
    snapshot: Snapshot,
    /// The last finished compaction; none before the first one.
    finished: Option<i64>,
    /// The running compaction, and one that waits for it.
    jobs: VecDeque<Job>,
    /// Versions in the file that are not in the index. The next compaction drops them.
    unindexed: Vec<StoredVersion>,
}

/// The result of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The store.
    pub store: Store,
    /// The keys with a lease, in order of key, each with its lease. The caller checks that the
    /// lease exists.
    pub leases: Vec<(LeaseId, Bytes)>,
}

impl Store {
    /// Reads the file and builds the index. An unfinished compaction continues.
    ///
    /// # Errors
    /// If the file cannot be read or holds something that is not a version.
    pub fn restore(read: ReadView) -> Result<Restored, Error> {
        let finished = compact_revision(&read, FINISHED_COMPACT)?;
        let scheduled = compact_revision(&read, SCHEDULED_COMPACT)?;
        let (mut index, mut versions) = (Index::default(), VersionBatch::default());
        let (mut last, mut previous) = (1, None);
        let first = Revision { main: 1, sub: 0 };
        for pair in read.cursor(Bucket::Key, &first.to_bytes(), false)? {
            let (at, value) = pair?;
            let (revision, tombstone) = parse(&at)?;
            if previous.replace((revision, tombstone)) >= Some((revision, tombstone)) {
                return Err(Error::corrupt("the keys of the bucket `key` do not ascend", &at));
            }
            let kv = decode(&value)?;
            let stored = StoredVersion::new(revision, value.len(), tombstone)
                .ok_or_else(|| Error::corrupt("a version is too large", &at))?;
            let (create, version, lease) = (kv.create_revision, kv.version, kv.lease);
            versions.push(kv.key, RestoredVersion { at: stored, create, version, lease });
            if versions.is_full(&index) {
                versions.merge_into(&mut index);
            }
            last = revision.main;
        }
        versions.merge_into(&mut index);
        let compacted = finished.unwrap_or(-1);
        let current = last.max(compacted).max(scheduled.unwrap_or(0));
        let mut store = Store {
            snapshot: Snapshot { index, read, revision: current, compact_revision: compacted },
            finished,
            jobs: VecDeque::new(),
            unindexed: versions.into_unindexed(),
        };
        if let Some(scheduled) = scheduled.filter(|scheduled| *scheduled > compacted) {
            store.jobs.push_back(Job::new(scheduled));
            store.snapshot.compact_revision = scheduled;
        }
        let leases = leases(&store.snapshot.index);
        Ok(Restored { store, leases })
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

    /// Sets the snapshot of the buckets to read from. It must contain all changes of this store.
    pub fn attach(&mut self, read: ReadView) {
        self.snapshot.read = read;
    }

    /// A snapshot for readers. All changes must be attached.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.snapshot.clone())
    }

    /// Begins a transaction whose changes go into `batch`.
    pub fn write<'a>(&'a mut self, batch: &'a mut Batch) -> WriteTxn<'a> {
        WriteTxn::new(&mut self.snapshot, batch)
    }

    /// Begins a compaction: reads below `revision` fail from now on. [`Store::compaction_slice`]
    /// does the work.
    ///
    /// # Errors
    /// If the revision is already compacted or in the future.
    pub fn compact(&mut self, revision: i64, batch: &mut Batch) -> Result<(), RequestError> {
        if revision <= self.snapshot.compact_revision {
            return Err(RequestError::Compacted);
        }
        if revision > self.snapshot.revision {
            return Err(RequestError::FutureRevision);
        }
        if self.jobs.len() > 1 {
            // The new job drops everything that the waiting one would drop.
            self.jobs.pop_back();
        }
        self.jobs.push_back(Job::new(revision));
        self.snapshot.compact_revision = revision;
        put_revision(batch, SCHEDULED_COMPACT, revision);
        Ok(())
    }

    /// Whether a compaction is running.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The revision of the last finished compaction.
    #[must_use]
    pub fn finished_compaction(&self) -> Option<i64> {
        self.finished
    }

    /// Does a slice of the running compaction: takes superseded versions out of the index, or drops
    /// at most `max` of them from the file with `batch`. It reads no file.
    pub fn compaction_slice(&mut self, batch: &mut Batch, max: usize) -> Slice {
        let Some(job) = self.jobs.front_mut() else { return Slice::Idle };
        job.take_unindexed(&mut self.unindexed);
        let (dropped, is_done) = job.step(&mut self.snapshot.index, batch, max.max(1));
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
