//! A writing transaction: all its changes have one main revision. What it changed, its own later
//! reads see at once, readers with the next view.
//!
//! Source: etcd v3.7 server/storage/mvcc/kvstore_txn.go.

use crate::cursor::{Ranging, Step, decode, missing, resolve};
use crate::error::{Error, Reject};
use crate::event::{Event, EventKind};
use crate::index::{Head, Stored};
use crate::kv::KeyValue;
use crate::range::{DeleteRange, Put, RangeQuery};
use crate::store::Store;
use crate::view::{KeyInfo, KeyWalk};
use auth::{KeyRange, Permitted};
use backend::{Batch, Lookup, VersionReader};
use bytes::Bytes;
use proto::{LeaseId, Revision};

/// A writing transaction.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    batch: &'a mut Batch,
    reader: Option<VersionReader>,
    events: Vec<Event>,
    leases: Vec<LeaseChange>,
    ops: Ops,
}

/// A key that went from one lease to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// The key.
    pub key: Bytes,
    /// The lease that it had; 0 for none.
    pub old: LeaseId,
    /// The lease that it has; 0 for none.
    pub new: LeaseId,
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The store's revision after it: one more than before if it changed anything.
    pub revision: i64,
    /// The changes in order.
    pub events: Vec<Event>,
    /// The keys whose lease changed, in order.
    pub leases: Vec<LeaseChange>,
    /// How many operations it had.
    pub ops: Ops,
}

/// How many operations a transaction had.
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

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// The main revision of the change.
    pub revision: i64,
    /// What was there before, encoded, if it was asked for.
    pub prev: Option<Bytes>,
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteDone {
    /// The main revision of the change; the current one if nothing was changed.
    pub revision: i64,
    /// How many keys are gone.
    pub deleted: u64,
    /// What was there before, encoded and in order of key, if it was asked for.
    pub prevs: Vec<Bytes>,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store, batch: &'a mut Batch) -> WriteTxn<'a> {
        WriteTxn {
            store,
            batch,
            reader: None,
            events: Vec::new(),
            leases: Vec::new(),
            ops: Ops::default(),
        }
    }

    /// The revision that reads see: the current one, and one more after the first change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.current + i64::from(!self.events.is_empty())
    }

    /// The revision below which versions are gone or going; −1 before the first compaction.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.store.compacted
    }

    fn next(&self) -> Revision {
        Revision {
            main: self.store.current + 1,
            sub: i64::try_from(self.events.len()).unwrap_or(i64::MAX),
        }
    }

    /// Puts a key.
    ///
    /// # Errors
    /// When the file cannot be read; [`Reject::KeyNotFound`] when the value or the lease of a
    /// key that is not there was to be kept, and nothing is changed.
    pub fn put(&mut self, put: Permitted<Put>) -> Result<Result<PutDone, Reject>, Error> {
        let Put { key, value, lease, prev_kv } = put.into_inner();
        let mut prev = None;
        if prev_kv || value.is_none() || lease.is_none() {
            let info = self.store.index.get(&key).and_then(|entry| KeyInfo::of(&entry));
            if info.is_none() && (value.is_none() || lease.is_none()) {
                return Ok(Err(Reject::KeyNotFound));
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
        Ok(Ok(PutDone { revision: self.store.current + 1, prev }))
    }

    fn put_version(&mut self, key: &Bytes, value: &[u8], lease: i64) {
        let at = self.next();
        let batch = &mut *self.batch;
        let mut made = None;
        self.store.index.put(key, &mut |last| {
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
            Head {
                at: stored(at, len, false),
                create: kv.create_revision,
                version: kv.version,
                lease,
            }
        });
        let Some((encoded, create_revision, version, old_lease)) = made else {
            unreachable!("the index asks for the version that it is to hold")
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
    /// When the file cannot be read.
    pub fn delete_range(&mut self, range: Permitted<DeleteRange>) -> Result<DeleteDone, Error> {
        let DeleteRange { keys, prev_kv } = range.into_inner();
        self.ops.deletes += 1;
        let found: Vec<(Bytes, KeyInfo)> = match keys {
            KeyRange::One(key) => {
                let info = self.store.index.get(&key).and_then(|entry| KeyInfo::of(&entry));
                info.map(|info| (key, info)).into_iter().collect()
            }
            KeyRange::Span { .. } => KeyWalk::new(&self.store.index, &keys).collect(),
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
        let told = KeyValue { key, mod_revision: at.main, ..KeyValue::default() };
        let told = self.batch.encode(told.encoded_len(), |buffer| told.encode(buffer));
        self.store.index.put(key, &mut |_| Head::tombstone(stored(at, len, true)));
        self.note_lease(key, old_lease, 0);
        self.batch.put_version(at, true, encoded);
        self.events.push(Event {
            kind: EventKind::Delete,
            key: key.clone(),
            kv: told,
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
        let entry = self.store.index.get(&put.get().key);
        entry.is_some_and(|entry| KeyInfo::of(&entry).is_some())
    }

    /// What the index knows of the live keys of a range.
    #[must_use]
    pub fn walk(&self, keys: &Permitted<KeyRange>) -> KeyWalk {
        KeyWalk::new(&self.store.index, keys.get())
    }

    /// The encoded key-value of what [`WriteTxn::walk`] found, waiting for
    /// the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fetch(&mut self, info: &KeyInfo) -> Result<Bytes, Error> {
        match self.lookup(info.stored)? {
            Lookup::Found(value) => Ok(value),
            Lookup::Missing | Lookup::NeedsDisk => Err(missing(info.stored)),
        }
    }

    fn lookup(&mut self, stored: Stored) -> Result<Lookup, Error> {
        let revision = stored.revision();
        if let Some(version) = self.batch.version(revision) {
            return Ok(Lookup::Found(version.value.clone()));
        }
        let store = &*self.store;
        let reader = self.reader.get_or_insert_with(|| store.read.versions());
        Ok(reader.put(revision)?.map_or(Lookup::Missing, Lookup::Found))
    }

    /// Reads a range, waiting for the disk: the items, and how many keys it has, the limit left
    /// aside.
    ///
    /// # Errors
    /// When the file cannot be read, or the revision.
    pub fn range(
        &mut self,
        query: &Permitted<RangeQuery>,
    ) -> Result<Result<(Vec<Bytes>, u64), Reject>, Error> {
        self.ops.ranges += 1;
        let query = query.get();
        let at = match resolve(query.revision, self.revision(), self.store.compacted) {
            Ok(at) => at,
            Err(reject) => return Ok(Err(reject)),
        };
        let mut ranging = Ranging::new(&self.store.index, query, at);
        let mut items = Vec::new();
        loop {
            match ranging.next(&mut |stored| self.lookup(stored))? {
                Step::Item(item) => items.push(item),
                Step::Yield | Step::NeedsDisk => {}
                Step::End => return Ok(Ok((items, ranging.count().unwrap_or_default()))),
            }
        }
    }

    /// Ends the transaction; if it changed anything, the store's revision is one higher.
    pub fn end(self) -> Changes {
        if !self.events.is_empty() {
            self.store.current += 1;
        }
        Changes {
            revision: self.store.current,
            events: self.events,
            leases: self.leases,
            ops: self.ops,
        }
    }
}

fn stored(at: Revision, len: usize, tombstone: bool) -> Stored {
    let Some(stored) = Stored::new(at, len, tombstone) else {
        panic!("a request is below 2 GiB and changes fewer than 2^32 keys")
    };
    stored
}
