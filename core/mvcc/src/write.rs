//! A write transaction. All its changes have one main revision. Its own reads see them at once,
//! readers see them in the next view.
//!
//! Source: etcd v3.7 server/storage/mvcc/kvstore_txn.go.

use crate::cursor::{Ranging, Step, decode, missing, resolve};
use crate::error::{Error, RequestError};
use crate::event::{Event, EventKind};
use crate::index::{NewestVersion, StoredVersion};
use crate::kv::KeyValue;
use crate::range::{DeleteRange, Put, RangeQuery};
use crate::snapshot::Snapshot;
use crate::view::{KeyInfo, KeyWalk};
use auth::{KeyRange, Permitted};
use backend::{Batch, Lookup, VersionReader};
use bytes::Bytes;
use proto::{LeaseId, Revision};

/// A write transaction.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    snapshot: &'a mut Snapshot,
    batch: &'a mut Batch,
    reader: Option<VersionReader>,
    events: Vec<Event>,
    leases: Vec<LeaseChange>,
    ops: Ops,
}

/// A change of the lease of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// The key.
    pub key: Bytes,
    /// The lease before; 0 for none.
    pub old: LeaseId,
    /// The lease after; 0 for none.
    pub new: LeaseId,
}

/// The result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The store's revision afterwards: increased by one if anything was changed.
    pub revision: i64,
    /// The changes in order.
    pub events: Vec<Event>,
    /// The keys whose lease changed, in order.
    pub leases: Vec<LeaseChange>,
    /// The operations of the transaction, counted.
    pub ops: Ops,
}

/// Operations, counted by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    /// Ranges.
    pub ranges: u64,
    /// Puts.
    pub puts: u64,
    /// Deletions of ranges.
    pub deletes: u64,
    /// Bytes of keys and values put.
    pub put_bytes: u64,
}

/// The result of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// The main revision of the change.
    pub revision: i64,
    /// The previous key-value, encoded, if it was asked for.
    pub prev: Option<Bytes>,
}

/// The result of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteDone {
    /// The main revision of the change; the current one if nothing was changed.
    pub revision: i64,
    /// The number of deleted keys.
    pub deleted: u64,
    /// The previous key-values, encoded and in order of key, if they were asked for.
    pub prevs: Vec<Bytes>,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(snapshot: &'a mut Snapshot, batch: &'a mut Batch) -> WriteTxn<'a> {
        WriteTxn {
            snapshot,
            batch,
            reader: None,
            events: Vec::new(),
            leases: Vec::new(),
            ops: Ops::default(),
        }
    }

    /// The revision that reads of this transaction see: the current one, or one more after the
    /// first change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.snapshot.revision + i64::from(!self.events.is_empty())
    }

    /// The revision below which versions are dropped or being dropped; −1 before the first
    /// compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.snapshot.compact_revision
    }

    fn next(&self) -> Revision {
        Revision {
            main: self.snapshot.revision + 1,
            sub: i64::try_from(self.events.len()).unwrap_or(i64::MAX),
        }
    }

    /// Puts a key.
    ///
    /// # Errors
    /// If the file cannot be read. The inner error is [`RequestError::KeyNotFound`] if the value or
    /// the lease should be kept and the key does not exist; then nothing is changed.
    pub fn put(&mut self, put: Permitted<Put>) -> Result<Result<PutDone, RequestError>, Error> {
        let Put { key, value, lease, prev_kv } = put.into_inner();
        let mut prev = None;
        if prev_kv || value.is_none() || lease.is_none() {
            let info = self.snapshot.index.get(&key).and_then(|entry| KeyInfo::of(&entry));
            if info.is_none() && (value.is_none() || lease.is_none()) {
                return Ok(Err(RequestError::KeyNotFound));
            }
            prev = info.map(|info| self.fetch(&info)).transpose()?;
        }
        let kept = prev.as_deref().map(decode).transpose()?.unwrap_or_default();
        let value = value.as_deref().unwrap_or(kept.value);
        let lease = lease.map_or(kept.lease, |lease| lease.0);
        self.ops.puts += 1;
        self.ops.put_bytes += (key.len() + value.len()) as u64;
        self.put_version(&key, value, lease);
        let prev = prev.filter(|_| prev_kv);
        Ok(Ok(PutDone { revision: self.snapshot.revision + 1, prev }))
    }

    fn put_version(&mut self, key: &Bytes, value: &[u8], lease: i64) {
        let at = self.next();
        let batch = &mut *self.batch;
        let mut made = None;
        self.snapshot.index.put(key, &mut |last| {
            let live = last.filter(|head| head.is_live());
            let kv = KeyValue {
                key,
                create_revision: live.map_or(at.main, |head| head.create),
                mod_revision: at.main,
                version: live.map_or(1, |head| head.version.saturating_add(1)),
                value,
                lease,
            };
            let len = kv.encoded_len();
            let encoded = batch.encode(len, |buffer| kv.encode(buffer));
            let old_lease = live.map_or(0, |head| head.lease);
            made = Some((encoded, kv.create_revision, kv.version, old_lease));
            NewestVersion {
                at: stored(at, len, false),
                create: kv.create_revision,
                version: kv.version,
                lease,
            }
        });
        let Some((encoded, create_revision, version, old_lease)) = made else {
            unreachable!("the index calls `make` exactly once")
        };
        self.note_lease(key, old_lease, lease);
        self.batch.put_version(at, false, encoded.clone());
        self.events.push(Event {
            kind: EventKind::Put,
            key: key.clone(),
            kv: encoded,
            mod_revision: at.main,
            create_revision,
            version,
        });
    }

    /// Deletes the live keys of a range, in order of key.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn delete_range(&mut self, range: Permitted<DeleteRange>) -> Result<DeleteDone, Error> {
        let DeleteRange { keys, prev_kv } = range.into_inner();
        self.ops.deletes += 1;
        let found: Vec<(Bytes, KeyInfo)> = match keys {
            KeyRange::One(key) => {
                let info = self.snapshot.index.get(&key).and_then(|entry| KeyInfo::of(&entry));
                info.map(|info| (key, info)).into_iter().collect()
            }
            KeyRange::Span { .. } => KeyWalk::new(&self.snapshot.index, &keys).collect(),
        };
        let mut prevs = Vec::new();
        if prev_kv {
            for (_, info) in &found {
                prevs.push(self.fetch(info)?);
            }
        }
        for (key, info) in &found {
            self.delete(key, info.lease);
        }
        Ok(DeleteDone { revision: self.revision(), deleted: found.len() as u64, prevs })
    }

    fn delete(&mut self, key: &Bytes, old_lease: i64) {
        let at = self.next();
        let tombstone = KeyValue { key, ..KeyValue::default() };
        let len = tombstone.encoded_len();
        let encoded = self.batch.encode(len, |buffer| tombstone.encode(buffer));
        let notified = KeyValue { key, mod_revision: at.main, ..KeyValue::default() };
        let notified = self.batch.encode(notified.encoded_len(), |buffer| notified.encode(buffer));
        self.snapshot.index.put(key, &mut |_| NewestVersion::tombstone(stored(at, len, true)));
        self.note_lease(key, old_lease, 0);
        self.batch.put_version(at, true, encoded);
        self.events.push(Event {
            kind: EventKind::Delete,
            key: key.clone(),
            kv: notified,
            mod_revision: at.main,
            create_revision: 0,
            version: 0,
        });
    }

    fn note_lease(&mut self, key: &Bytes, old: i64, new: i64) {
        if old != new {
            let (old, new) = (LeaseId(old), LeaseId(new));
            self.leases.push(LeaseChange { key: key.clone(), old, new });
        }
    }

    /// Whether the key of a put exists, so that its value or lease can be kept.
    #[must_use]
    pub fn has_key_of(&self, put: &Permitted<Put>) -> bool {
        let entry = self.snapshot.index.get(&put.get().key);
        entry.is_some_and(|entry| KeyInfo::of(&entry).is_some())
    }

    /// The live keys of a range with their index fields.
    #[must_use]
    pub fn walk(&self, keys: &Permitted<KeyRange>) -> KeyWalk {
        KeyWalk::new(&self.snapshot.index, keys.get())
    }

    /// The encoded key-value of a key found by [`WriteTxn::walk`], waiting for the disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn fetch(&mut self, info: &KeyInfo) -> Result<Bytes, Error> {
        match self.lookup(info.stored)? {
            Lookup::Found(value) => Ok(value),
            Lookup::Missing | Lookup::NeedsDisk => Err(missing(info.stored)),
        }
    }

    fn lookup(&mut self, stored: StoredVersion) -> Result<Lookup, Error> {
        let revision = stored.revision();
        if let Some(version) = self.batch.version(revision) {
            return Ok(Lookup::Found(version.value.clone()));
        }
        let read = &self.snapshot.read;
        let reader = self.reader.get_or_insert_with(|| read.versions());
        Ok(reader.put(revision)?.map_or(Lookup::Missing, Lookup::Found))
    }

    /// Reads a range, waiting for the disk. Returns the items, and the number of keys in the range
    /// regardless of the limit.
    ///
    /// # Errors
    /// If the file cannot be read. The inner error: if the revision cannot be read.
    pub fn range(
        &mut self,
        query: &Permitted<RangeQuery>,
    ) -> Result<Result<(Vec<Bytes>, u64), RequestError>, Error> {
        self.ops.ranges += 1;
        let query = query.get();
        let at = match resolve(query.revision, self.revision(), self.snapshot.compact_revision) {
            Ok(at) => at,
            Err(error) => return Ok(Err(error)),
        };
        let mut ranging = Ranging::new(&self.snapshot.index, query, at);
        let mut items = Vec::new();
        loop {
            match ranging.next(&mut |stored| self.lookup(stored))? {
                Step::Item(item) => items.push(item),
                Step::Yield | Step::NeedsDisk => {}
                Step::End => return Ok(Ok((items, ranging.count().unwrap_or_default()))),
            }
        }
    }

    /// Ends the transaction. If it changed anything, the store's revision increases by one.
    pub fn end(self) -> Changes {
        if !self.events.is_empty() {
            self.snapshot.revision += 1;
        }
        Changes {
            revision: self.snapshot.revision,
            events: self.events,
            leases: self.leases,
            ops: self.ops,
        }
    }
}

fn stored(at: Revision, len: usize, tombstone: bool) -> StoredVersion {
    let Some(stored) = StoredVersion::new(at, len, tombstone) else {
        panic!("a version is below 2 GiB and a transaction changes fewer than 2^32 keys")
    };
    stored
}
