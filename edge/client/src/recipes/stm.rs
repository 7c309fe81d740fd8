//! Software transactional memory: reads and writes of several keys that take effect together, or
//! not at all.
//!
//! Source: etcd v3.7.1 client/v3/concurrency/stm.go.

use super::place::revision;
use crate::call::Client;
use crate::error::Error;
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, BTreeSet};

/// How the transactions of [`Stm`] may interfere with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// As `Serializable`; also, no key that is written may have changed since the first read.
    #[default]
    SerializableSnapshot,
    /// All reads see the revision of the first one, and none of the keys that were read may have
    /// changed.
    Serializable,
    /// None of the keys that were read may have changed. Reads may see different revisions.
    RepeatableReads,
    /// Nothing is checked.
    ReadCommitted,
}

/// One transaction. Reads are remembered and writes are collected; [`Stm::commit`] sends them in one
/// request, together with the comparisons that the isolation demands.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::{Isolation, Stm};
///
/// // Moves 10 from one account to the other.
/// let number = |value: Option<bytes::Bytes>| -> i64 {
///     value.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0)
/// };
/// let mut stm = Stm::new(&client, Isolation::Serializable);
/// loop {
///     let from = number(stm.get("account/1").await?);
///     let to = number(stm.get("account/2").await?);
///     stm.put("account/1", (from - 10).to_string());
///     stm.put("account/2", (to + 10).to_string());
///     // After a conflict, the transaction starts again.
///     if stm.commit().await?.is_some() {
///         return Ok(());
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    /// The keys that this attempt has read.
    reads: BTreeMap<Vec<u8>, Read>,
    /// The requests that write, by key.
    writes: BTreeMap<Vec<u8>, Request>,
    /// The revision of the first read, if all reads are to see it.
    base: Option<i64>,
    /// Keys that the last attempt has read, as they were when it failed.
    prefetched: BTreeMap<Vec<u8>, Read>,
}

/// A key as it was read.
#[derive(Clone, Debug)]
struct Read {
    /// The revision of the store at the time of the read.
    at: i64,
    found: Option<KeyValue>,
}

impl Read {
    fn mod_revision(&self) -> i64 {
        self.found.as_ref().map_or(0, |kv| kv.mod_revision)
    }
}

impl Stm {
    /// A transaction without reads and writes.
    #[must_use]
    pub fn new(client: &Client, isolation: Isolation) -> Stm {
        Stm {
            client: client.clone(),
            isolation,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            base: None,
            prefetched: BTreeMap::new(),
        }
    }

    /// The value of a key; `None` if there is no such key. A key that this transaction has written
    /// has its new value.
    ///
    /// # Errors
    /// When the read fails, also if its revision was compacted.
    pub async fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        match self.writes.get(key) {
            Some(Request::RequestPut(put)) => return Ok(Some(put.value.clone())),
            Some(_) => return Ok(None),
            None => {}
        }
        let read = self.read(key).await?;
        Ok(read.found.map(|kv| kv.value))
    }

    /// The revision at which a key was last changed, as this transaction has read it; 0 if there is
    /// no such key.
    ///
    /// # Errors
    /// As [`Stm::get`].
    pub async fn revision(&mut self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        Ok(self.read(key.as_ref()).await?.mod_revision())
    }

    /// Reads several keys with one request, so that [`Stm::get`] need not send one for each.
    ///
    /// # Errors
    /// As [`Stm::get`].
    pub async fn prefetch<K: AsRef<[u8]>>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), Error> {
        let keys: BTreeSet<Vec<u8>> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        let missing: Vec<_> = keys.into_iter().filter(|key| !self.is_known(key)).collect();
        if !missing.is_empty() {
            self.fetch(missing).await?;
        }
        Ok(())
    }

    /// Writes a key when the transaction is committed.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.put_request(pb::PutRequest { key, value, ..pb::PutRequest::default() });
    }

    /// As [`Stm::put`], for example with a lease. The request must contain the value.
    pub fn put_request(&mut self, request: pb::PutRequest) {
        self.writes.insert(request.key.to_vec(), Request::RequestPut(request));
    }

    /// Deletes a key when the transaction is committed.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        let name = key.to_vec();
        let request = pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() };
        self.writes.insert(name, Request::RequestDeleteRange(request));
    }

    /// Commits the transaction. `None` means that another one has interfered: nothing was written,
    /// and this one is empty again.
    ///
    /// # Errors
    /// When the request fails. The transaction may have been committed if the response was lost.
    pub async fn commit(&mut self) -> Result<Option<pb::TxnResponse>, Error> {
        let serializes = self.is_serializable();
        let keys: Vec<_> =
            if serializes { self.reads.keys().cloned().collect() } else { Vec::new() };
        let request = pb::TxnRequest {
            compare: self.comparisons(),
            success: self.writes.values().cloned().map(operation).collect(),
            // After a conflict, the next attempt needs these keys, probably.
            failure: keys.iter().map(|key| read_of(key, None, false)).collect(),
        };
        let response = self.client.txn(request).await?;
        self.reads.clear();
        self.writes.clear();
        self.base = None;
        if response.succeeded {
            return Ok(Some(response));
        }
        self.prefetched = keys.into_iter().zip(read_from(&response)).collect();
        Ok(None)
    }

    fn is_serializable(&self) -> bool {
        matches!(self.isolation, Isolation::SerializableSnapshot | Isolation::Serializable)
    }

    fn is_known(&self, key: &[u8]) -> bool {
        self.reads.contains_key(key)
            || self.prefetched.contains_key(key)
            || self.writes.contains_key(key)
    }

    async fn read(&mut self, key: &[u8]) -> Result<Read, Error> {
        // After a first read of another revision, the key must be read at that one.
        let fits = |read: &Read| self.base.is_none_or(|base| base == read.at);
        if let Some(read) = self.prefetched.remove(key).filter(fits) {
            self.remember(key.to_vec(), read);
        }
        if !self.reads.contains_key(key) {
            self.fetch(vec![key.to_vec()]).await?;
        }
        Ok(self.reads[key].clone())
    }

    /// Reads keys with one request.
    async fn fetch(&mut self, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        // The first read of a serializable transaction must see the latest revision.
        let is_serializable_read = !self.is_serializable() || self.base.is_some();
        let reads = keys.iter().map(|key| read_of(key, self.base, is_serializable_read));
        let request = pb::TxnRequest { success: reads.collect(), ..pb::TxnRequest::default() };
        let response = self.client.txn(request).await?;
        for (key, read) in keys.into_iter().zip(read_from(&response)) {
            self.remember(key, read);
        }
        Ok(())
    }

    fn remember(&mut self, key: Vec<u8>, read: Read) {
        if self.is_serializable() {
            self.base.get_or_insert(read.at);
        }
        self.reads.insert(key, read);
    }

    fn comparisons(&self) -> Vec<pb::Compare> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let unchanged = |(key, read): (&Vec<u8>, &Read)| {
            compare(key, CompareResult::Equal, read.mod_revision())
        };
        let mut all: Vec<_> = self.reads.iter().map(unchanged).collect();
        if let (Isolation::SerializableSnapshot, Some(base)) = (self.isolation, self.base) {
            let not_since = |key: &Vec<u8>| compare(key, CompareResult::Less, base + 1);
            all.extend(self.writes.keys().map(not_since));
        }
        all
    }
}

/// Compares the revision at which a key was last changed.
fn compare(key: &[u8], result: CompareResult, mod_revision: i64) -> pb::Compare {
    pb::Compare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..pb::Compare::default()
    }
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn read_of(key: &[u8], revision: Option<i64>, serializable: bool) -> pb::RequestOp {
    operation(Request::RequestRange(pb::RangeRequest {
        key: key.to_vec().into(),
        revision: revision.unwrap_or_default(),
        serializable,
        ..pb::RangeRequest::default()
    }))
}

/// What a transaction of reads has found.
fn read_from(response: &pb::TxnResponse) -> impl Iterator<Item = Read> {
    let at = revision(response.header.as_ref());
    response.responses.iter().map(move |one| match &one.response {
        Some(pb::response_op::Response::ResponseRange(range)) => {
            Read { at, found: range.kvs.first().cloned() }
        }
        _ => Read { at, found: None },
    })
}
