//! Reads whose revision never goes back, although different members answer them.
//!
//! Source: etcd v3.7.1 client/v3/ordering/{kv,util}.go.

use crate::call::Client;
use crate::error::Error;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How often each endpoint may be asked for one response.
const ROUNDS_MAX: usize = 5;

/// A client that never returns an older state than it has returned before. Serializable reads are
/// answered from the state of any member, which may be behind; such an answer is dropped, and the
/// next endpoint is asked.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::OrderedClient;
/// use proto::etcdserverpb::{PutRequest, RangeRequest};
///
/// let ordered = OrderedClient::new(&client);
/// let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
/// ordered.put(put).await?;
/// // Any member may answer, but this client sees its own write.
/// let serializable = RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() };
/// ordered.range(serializable).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct OrderedClient {
    client: Client,
    /// The newest revision that was returned.
    seen: Arc<AtomicI64>,
}

impl OrderedClient {
    /// A client that has returned nothing yet.
    #[must_use]
    pub fn new(client: &Client) -> OrderedClient {
        OrderedClient::after(client, 0)
    }

    /// A client that returns no state older than this revision.
    #[must_use]
    pub fn after(client: &Client, revision: i64) -> OrderedClient {
        OrderedClient { client: client.clone(), seen: Arc::new(AtomicI64::new(revision)) }
    }

    /// The same order for requests of another client of the same servers.
    #[must_use]
    pub fn for_client(&self, client: &Client) -> OrderedClient {
        OrderedClient { client: client.clone(), seen: Arc::clone(&self.seen) }
    }

    /// The newest revision that was returned; 0 before the first response.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// As [`Client::range`].
    ///
    /// # Errors
    /// [`Error::NoGreaterRevision`] if no endpoint has the state that was returned last.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let revision = |response: &pb::RangeResponse| of(response.header.as_ref());
        self.in_order(|| self.client.range(request.clone()), revision).await
    }

    /// As [`Client::txn`]. A transaction that may write is sent once only; its response is always
    /// new.
    ///
    /// # Errors
    /// As [`OrderedClient::range`].
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let revision = |response: &pb::TxnResponse| of(response.header.as_ref());
        if only_reads(&request) {
            return self.in_order(|| self.client.txn(request.clone()), revision).await;
        }
        let response = self.client.txn(request).await?;
        self.see(revision(&response));
        Ok(response)
    }

    /// As [`Client::put`].
    ///
    /// # Errors
    /// When the request fails.
    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        let response = self.client.put(request).await?;
        self.see(of(response.header.as_ref()));
        Ok(response)
    }

    /// As [`Client::delete_range`].
    ///
    /// # Errors
    /// When the request fails.
    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        let response = self.client.delete_range(request).await?;
        self.see(of(response.header.as_ref()));
        Ok(response)
    }

    fn see(&self, revision: i64) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    async fn in_order<A, F>(
        &self,
        call: impl Fn() -> F,
        revision: impl Fn(&A) -> i64,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<A, Error>>,
    {
        // Responses that overtake each other are not ordered: each is compared with those that were
        // returned before its call.
        let seen = self.revision();
        for _ in 0..=ROUNDS_MAX * self.client.balancer.config.endpoints.len() {
            let response = call().await?;
            if revision(&response) >= seen {
                self.see(revision(&response));
                return Ok(response);
            }
        }
        Err(Error::NoGreaterRevision)
    }
}

fn of(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Whether no branch of a transaction writes.
fn only_reads(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| match &operation.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(nested)) => only_reads(nested),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    })
}
