//! A client of the keys with a prefix, which its requests and responses do not contain.
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
    prefix: Vec<u8>,
}

impl Namespace {
    /// The keys with this prefix.
    #[must_use]
    pub fn new(client: &Client, prefix: impl Into<Vec<u8>>) -> Namespace {
        Namespace { client: client.clone(), prefix: prefix.into() }
    }

    /// As [`Client::range`].
    ///
    /// # Errors
    /// When there is no key, or the request fails.
    pub async fn range(&self, mut request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        must_have_key(&request.key, &request.range_end)?;
        self.enter(&mut request.key, &mut request.range_end);
        let mut response = self.client.range(request).await?;
        self.leave_all(&mut response.kvs);
        Ok(response)
    }

    /// As [`Client::put`].
    ///
    /// # Errors
    /// As [`Namespace::range`].
    pub async fn put(&self, mut request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        must_have_key(&request.key, &[])?;
        request.key = self.inside(&request.key);
        let mut response = self.client.put(request).await?;
        self.leave_all(&mut response.prev_kv);
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
        must_have_key(&request.key, &request.range_end)?;
        self.enter(&mut request.key, &mut request.range_end);
        let mut response = self.client.delete_range(request).await?;
        self.leave_all(&mut response.prev_kvs);
        Ok(response)
    }

    /// As [`Client::txn`], with the transactions in it.
    ///
    /// # Errors
    /// As [`Namespace::range`].
    pub async fn txn(&self, mut request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.enter_txn(&mut request)?;
        let mut response = self.client.txn(request).await?;
        self.leave_txn(&mut response);
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
        response.keys = response.keys.iter().filter_map(|key| self.outside(key)).collect();
        Ok(response)
    }

    /// As [`Client::watch`].
    pub async fn watch(&self, mut request: pb::WatchCreateRequest) -> NamespaceWatcher {
        self.enter(&mut request.key, &mut request.range_end);
        NamespaceWatcher { namespace: self.clone(), watcher: self.client.watch(request).await }
    }

    /// A key with the prefix.
    fn inside(&self, key: &[u8]) -> Bytes {
        [&self.prefix, key].concat().into()
    }

    /// A key without the prefix; `None` if it does not have it.
    fn outside(&self, key: &Bytes) -> Option<Bytes> {
        key.starts_with(&self.prefix).then(|| key.slice(self.prefix.len()..))
    }

    /// Adds the prefix to both ends of a range. The end of all keys becomes that of the prefix.
    fn enter(&self, key: &mut Bytes, range_end: &mut Bytes) {
        *key = self.inside(key);
        if range_end[..] == from_key() {
            *range_end = prefix_end(&self.prefix).into();
        } else if !range_end.is_empty() {
            *range_end = self.inside(range_end);
        }
    }

    fn enter_txn(&self, txn: &mut pb::TxnRequest) -> Result<(), Error> {
        for compare in &mut txn.compare {
            self.enter(&mut compare.key, &mut compare.range_end);
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => {
                    self.enter(&mut range.key, &mut range.range_end);
                }
                Some(Request::RequestPut(put)) => {
                    must_have_key(&put.key, &[])?;
                    put.key = self.inside(&put.key);
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    must_have_key(&delete.key, &delete.range_end)?;
                    self.enter(&mut delete.key, &mut delete.range_end);
                }
                Some(Request::RequestTxn(nested)) => self.enter_txn(nested)?,
                None => {}
            }
        }
        Ok(())
    }

    fn leave_all<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        for kv in kvs {
            // The server returns only keys that were asked for, so they have the prefix.
            kv.key = self.outside(&kv.key).unwrap_or_default();
        }
    }

    fn leave_txn(&self, txn: &mut pb::TxnResponse) {
        for operation in &mut txn.responses {
            match &mut operation.response {
                Some(Response::ResponseRange(range)) => self.leave_all(&mut range.kvs),
                Some(Response::ResponsePut(put)) => self.leave_all(&mut put.prev_kv),
                Some(Response::ResponseDeleteRange(delete)) => self.leave_all(&mut delete.prev_kvs),
                Some(Response::ResponseTxn(nested)) => self.leave_txn(nested),
                None => {}
            }
        }
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
    namespace: Namespace,
    watcher: Watcher,
}

impl NamespaceWatcher {
    /// As [`Watcher::next`].
    pub async fn next(&mut self) -> Option<WatchUpdate> {
        let mut update = self.watcher.next().await?;
        for event in &mut update.response.events {
            self.namespace.leave_all(event.kv.iter_mut().chain(&mut event.prev_kv));
        }
        Some(update)
    }
}
