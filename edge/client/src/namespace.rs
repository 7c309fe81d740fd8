//! A client of the keys with a prefix, which its requests and responses do not contain, and the prefix
//! alone: it changes requests and responses.
//!
//! Source: etcd v3.7.1 client/v3/namespace.

use crate::call::Client;
use crate::error::Error;
use crate::range::{from_key, prefix_end};
use crate::watch::{WatchUpdate, Watcher};
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::mvccpb::KeyValue;
use tonic::Status;

/// A prefix that the keys of requests get, and that those of responses lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(Vec<u8>);

impl KeyPrefix {
    /// This prefix.
    #[must_use]
    pub fn new(prefix: impl Into<Vec<u8>>) -> KeyPrefix {
        KeyPrefix(prefix.into())
    }

    /// Adds the prefix to a range.
    ///
    /// # Errors
    /// When there is no key.
    pub fn enter_range(&self, request: &mut pb::RangeRequest) -> Result<(), Error> {
        must_have_key(&request.key, &request.range_end)?;
        self.enter(&mut request.key, &mut request.range_end);
        Ok(())
    }

    /// Removes the prefix from what was read.
    pub fn leave_range(&self, response: &mut pb::RangeResponse) {
        self.leave_all(&mut response.kvs);
    }

    /// Adds the prefix to a put.
    ///
    /// # Errors
    /// When there is no key.
    pub fn enter_put(&self, request: &mut pb::PutRequest) -> Result<(), Error> {
        must_have_key(&request.key, &[])?;
        request.key = self.inside(&request.key);
        Ok(())
    }

    /// Removes the prefix from what was replaced.
    pub fn leave_put(&self, response: &mut pb::PutResponse) {
        self.leave_all(&mut response.prev_kv);
    }

    /// Adds the prefix to a deletion.
    ///
    /// # Errors
    /// When there is no key.
    pub fn enter_delete(&self, request: &mut pb::DeleteRangeRequest) -> Result<(), Error> {
        must_have_key(&request.key, &request.range_end)?;
        self.enter(&mut request.key, &mut request.range_end);
        Ok(())
    }

    /// Removes the prefix from what was deleted.
    pub fn leave_delete(&self, response: &mut pb::DeleteRangeResponse) {
        self.leave_all(&mut response.prev_kvs);
    }

    /// Adds the prefix to a transaction and the transactions in it.
    ///
    /// # Errors
    /// When a put or a deletion has no key.
    pub fn enter_txn(&self, txn: &mut pb::TxnRequest) -> Result<(), Error> {
        for compare in &mut txn.compare {
            self.enter(&mut compare.key, &mut compare.range_end);
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => {
                    self.enter(&mut range.key, &mut range.range_end);
                }
                Some(Request::RequestPut(put)) => self.enter_put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.enter_delete(delete)?,
                Some(Request::RequestTxn(nested)) => self.enter_txn(nested)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Removes the prefix from the results of a transaction.
    pub fn leave_txn(&self, txn: &mut pb::TxnResponse) {
        for operation in &mut txn.responses {
            match &mut operation.response {
                Some(Response::ResponseRange(range)) => self.leave_range(range),
                Some(Response::ResponsePut(put)) => self.leave_put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.leave_delete(delete),
                Some(Response::ResponseTxn(nested)) => self.leave_txn(nested),
                None => {}
            }
        }
    }

    /// Removes the prefix from the keys of a lease. Keys without it are left out.
    pub fn leave_lease(&self, response: &mut pb::LeaseTimeToLiveResponse) {
        response.keys = response.keys.iter().filter_map(|key| self.outside(key)).collect();
    }

    /// Adds the prefix to a watch.
    pub fn enter_watch(&self, request: &mut pb::WatchCreateRequest) {
        self.enter(&mut request.key, &mut request.range_end);
    }

    /// Removes the prefix from the events of a watch.
    pub fn leave_watch(&self, response: &mut pb::WatchResponse) {
        for event in &mut response.events {
            self.leave_all(event.kv.iter_mut().chain(&mut event.prev_kv));
        }
    }

    /// A key with the prefix.
    fn inside(&self, key: &[u8]) -> Bytes {
        [&self.0, key].concat().into()
    }

    /// A key without the prefix; `None` if it does not have it.
    fn outside(&self, key: &Bytes) -> Option<Bytes> {
        key.starts_with(&self.0).then(|| key.slice(self.0.len()..))
    }

    /// Adds the prefix to both ends of a range. The end of all keys becomes that of the prefix.
    fn enter(&self, key: &mut Bytes, range_end: &mut Bytes) {
        *key = self.inside(key);
        if range_end[..] == from_key() {
            *range_end = prefix_end(&self.0).into();
        } else if !range_end.is_empty() {
            *range_end = self.inside(range_end);
        }
    }

    fn leave_all<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        for kv in kvs {
            // The server returns only keys that were asked for, so they have the prefix.
            kv.key = self.outside(&kv.key).unwrap_or_default();
        }
    }
}

/// A client that adds a prefix to all keys of its requests and removes it from the responses.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::Namespace;
/// use proto::etcdserverpb::{PutRequest, RangeRequest};
///
/// let app = Namespace::new(&client, "app/");
/// // The key is `app/color`.
/// app.put(PutRequest { key: "color".into(), value: "red".into(), ..PutRequest::default() }).await?;
/// let found = app.range(RangeRequest { key: "color".into(), ..RangeRequest::default() }).await?;
/// assert_eq!(found.kvs[0].key, "color");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Namespace {
    client: Client,
    prefix: KeyPrefix,
}

impl Namespace {
    /// The keys with this prefix.
    #[must_use]
    pub fn new(client: &Client, prefix: impl Into<Vec<u8>>) -> Namespace {
        Namespace { client: client.clone(), prefix: KeyPrefix::new(prefix) }
    }

    /// As [`Client::range`].
    ///
    /// # Errors
    /// When there is no key, or the request fails.
    pub async fn range(&self, mut request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.prefix.enter_range(&mut request)?;
        let mut response = self.client.range(request).await?;
        self.prefix.leave_range(&mut response);
        Ok(response)
    }

    /// As [`Client::put`].
    ///
    /// # Errors
    /// As [`Namespace::range`].
    pub async fn put(&self, mut request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        self.prefix.enter_put(&mut request)?;
        let mut response = self.client.put(request).await?;
        self.prefix.leave_put(&mut response);
        Ok(response)
    }

    /// As [`Client::delete_range`].
    ///
    /// # Errors
    /// As [`Namespace::range`].
    pub async fn delete_range(
        &self,
        mut request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        self.prefix.enter_delete(&mut request)?;
        let mut response = self.client.delete_range(request).await?;
        self.prefix.leave_delete(&mut response);
        Ok(response)
    }

    /// As [`Client::txn`], with the transactions in it.
    ///
    /// # Errors
    /// As [`Namespace::range`].
    pub async fn txn(&self, mut request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.prefix.enter_txn(&mut request)?;
        let mut response = self.client.txn(request).await?;
        self.prefix.leave_txn(&mut response);
        Ok(response)
    }

    /// As [`Client::lease_time_to_live`]. Keys of the lease outside the namespace are left out.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let mut response = self.client.lease_time_to_live(request).await?;
        self.prefix.leave_lease(&mut response);
        Ok(response)
    }

    /// As [`Client::watch`].
    pub async fn watch(&self, mut request: pb::WatchCreateRequest) -> NamespaceWatcher {
        self.prefix.enter_watch(&mut request);
        NamespaceWatcher { prefix: self.prefix.clone(), watcher: self.client.watch(request).await }
    }
}

/// Without this check, a request without a key would mean the key that equals the prefix.
fn must_have_key(key: &[u8], range_end: &[u8]) -> Result<(), Error> {
    if key.is_empty() && range_end.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided").into());
    }
    Ok(())
}

/// One watch of a [`Namespace`]. Dropping it cancels it.
#[derive(Debug)]
pub struct NamespaceWatcher {
    prefix: KeyPrefix,
    watcher: Watcher,
}

impl NamespaceWatcher {
    /// As [`Watcher::next`].
    pub async fn next(&mut self) -> Option<WatchUpdate> {
        let mut update = self.watcher.next().await?;
        self.prefix.leave_watch(&mut update.response);
        Some(update)
    }
}
