//! Reads and writes of keys, with the cache of reads.
//!
//! Source: etcd server/proxy/grpcproxy/kv.go @ v3.7.1.

use crate::cache::{CacheKey, ReadId, Span};
use crate::call::{Call, answer};
use crate::layers::Received;
use crate::shared::Proxy;
use crate::upstream::status;
use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use rpc::body::Reply;
use rpc::frame::decode;
use rpc::{Error, Status};
use std::rc::Rc;

const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// A read under way, which ends when this is dropped.
struct ReadGuard {
    proxy: Rc<Proxy>,
    id: ReadId,
    answered: Option<(CacheKey, Bytes)>,
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        self.proxy.with_cache(|cache| cache.end_read(self.id, self.answered.take()));
    }
}

/// A write under way. However it ends, the responses with its keys are removed from the cache.
struct WriteGuard {
    proxy: Rc<Proxy>,
    spans: Vec<Span>,
}

impl WriteGuard {
    fn new(proxy: &Rc<Proxy>, spans: Vec<Span>) -> WriteGuard {
        WriteGuard { proxy: Rc::clone(proxy), spans }
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.proxy.with_cache(|cache| self.spans.iter().for_each(|span| cache.invalidate(span)));
    }
}

async fn receive<M: Message + Default>(call: &mut Call) -> Result<Received<M>, Status> {
    let bytes = call.request().await?;
    Ok(Received { message: decode(bytes.clone())?, bytes })
}

/// Reads keys. A serializable read may be answered from the cache; every response is kept for later
/// serializable reads.
pub(crate) async fn range(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::RangeRequest> = receive(&mut call).await?;
    let request = &received.message;
    let key = CacheKey {
        token: call.token(),
        request: if request.serializable {
            received.bytes.clone()
        } else {
            pb::RangeRequest { serializable: true, ..request.clone() }.encode_to_vec().into()
        },
    };
    let proxy = Rc::clone(&call.proxy);
    if request.serializable {
        let metrics = &proxy.metrics.store.proxy;
        if proxy.with_cache(|cache| cache.is_compacted(request.revision)) {
            metrics.cache_hits.inc();
            return Err(Error::Compacted.into());
        }
        if let Some(response) = proxy.with_cache(|cache| cache.get(&key)) {
            metrics.cache_hits.inc();
            return answer(&response);
        }
        metrics.cache_misses.inc();
    }
    let (revision, client) = (request.revision, call.client());
    if revision != 0 {
        let response = proxy.layers.range(&client, received).await;
        let response = response.map_err(|error| status(&error))?;
        proxy.with_cache(|cache| cache.add_old(key, revision, response.clone()));
        return answer(&response);
    }
    let span = Span::new(&request.key, &request.range_end);
    let id = proxy.with_cache(|cache| cache.begin_read(span));
    let mut guard = ReadGuard { proxy: Rc::clone(&proxy), id, answered: None };
    let response = proxy.layers.range(&client, received).await;
    let response = response.map_err(|error| status(&error))?;
    guard.answered = Some((key, response.clone()));
    answer(&response)
}

/// Writes a key.
pub(crate) async fn put(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::PutRequest> = receive(&mut call).await?;
    let span = Span::new(&received.message.key, &Bytes::new());
    let _guard = WriteGuard::new(&call.proxy, vec![span]);
    let response = call.proxy.layers.put(&call.client(), received).await;
    answer(&response.map_err(|error| status(&error))?)
}

/// Deletes keys.
pub(crate) async fn delete_range(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::DeleteRangeRequest> = receive(&mut call).await?;
    let span = Span::new(&received.message.key, &received.message.range_end);
    let _guard = WriteGuard::new(&call.proxy, vec![span]);
    let response = call.proxy.layers.delete_range(&call.client(), received).await;
    answer(&response.map_err(|error| status(&error))?)
}

/// Executes a transaction.
pub(crate) async fn txn(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::TxnRequest> = receive(&mut call).await?;
    let _guard = WriteGuard::new(&call.proxy, spans(&received.message));
    let response = call.proxy.layers.txn(&call.client(), received).await;
    answer(&response.map_err(|error| status(&error))?)
}

/// The keys that a transaction may write, and those that it compares: its result may tell the client
/// that they have changed.
fn spans(txn: &pb::TxnRequest) -> Vec<Span> {
    let compared = txn.compare.iter().map(|it| Span::new(&it.key, &it.range_end));
    let mut spans: Vec<Span> = compared.collect();
    for operation in txn.success.iter().chain(&txn.failure) {
        match &operation.request {
            Some(Request::RequestPut(put)) => spans.push(Span::new(&put.key, &Bytes::new())),
            Some(Request::RequestDeleteRange(delete)) => {
                spans.push(Span::new(&delete.key, &delete.range_end));
            }
            Some(Request::RequestTxn(nested)) => spans.extend(self::spans(nested)),
            Some(Request::RequestRange(_)) | None => {}
        }
    }
    spans
}

/// Compacts the history.
pub(crate) async fn compact(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::CompactionRequest> = receive(&mut call).await?;
    let response = call.client().forward(COMPACT, received.bytes).await;
    let response = response.map_err(|error| status(&error))?;
    call.proxy.with_cache(|cache| cache.compact(received.message.revision));
    answer(&response)
}

/// The remaining time of a lease. Its keys lose the prefix of the namespace.
pub(crate) async fn lease_time_to_live(mut call: Call) -> Result<Reply, Status> {
    let received: Received<pb::LeaseTimeToLiveRequest> = receive(&mut call).await?;
    let response = call.client().lease_time_to_live(received.message).await;
    let mut response = response.map_err(|error| status(&error))?;
    if let Some(prefix) = &call.proxy.layers.prefix {
        prefix.leave_lease(&mut response);
    }
    answer(&response.encode_to_vec().into())
}
