//! What is done to requests about keys on their way to a server: the prefix of the namespace, and the
//! order of reads. Without both, requests and responses are passed on as bytes.
//!
//! Source: etcd server/etcdmain/grpc_proxy.go @ v3.7.1 (`newGRPCProxyServer`).

use bytes::Bytes;
use client::{Client, Error, KeyPrefix, OrderedClient};
use prost::Message as _;
use proto::etcdserverpb as pb;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";

/// A request, decoded and as it was received.
pub(crate) struct Received<M> {
    pub(crate) message: M,
    pub(crate) bytes: Bytes,
}

/// The layers.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) prefix: Option<KeyPrefix>,
    order: Option<OrderedClient>,
}

/// The way of one kind of request: as bytes, or through the layers.
macro_rules! layered {
    ($self:ident, $received:ident, $client:ident, $method:ident, $call:ident, $enter:ident, $leave:ident) => {{
        if $self.prefix.is_none() && $self.order.is_none() {
            return $client.forward($method, $received.bytes).await;
        }
        let mut request = $received.message;
        if let Some(prefix) = &$self.prefix {
            prefix.$enter(&mut request)?;
        }
        let mut response = match &$self.order {
            Some(order) => order.for_client($client).$call(request).await?,
            None => $client.$call(request).await?,
        };
        if let Some(prefix) = &$self.prefix {
            prefix.$leave(&mut response);
        }
        Ok(response.encode_to_vec().into())
    }};
}

impl Layers {
    /// The layers of requests to the servers of `client`. `order` is the revision that reads must have
    /// reached, if they need an order.
    pub(crate) fn new(client: &Client, namespace: Vec<u8>, order: Option<i64>) -> Layers {
        Layers {
            prefix: (!namespace.is_empty()).then(|| KeyPrefix::new(namespace)),
            order: order.map(|revision| OrderedClient::after(client, revision)),
        }
    }

    pub(crate) async fn range(
        &self,
        client: &Client,
        received: Received<pb::RangeRequest>,
    ) -> Result<Bytes, Error> {
        layered!(self, received, client, RANGE, range, enter_range, leave_range)
    }

    pub(crate) async fn put(
        &self,
        client: &Client,
        received: Received<pb::PutRequest>,
    ) -> Result<Bytes, Error> {
        layered!(self, received, client, PUT, put, enter_put, leave_put)
    }

    pub(crate) async fn delete_range(
        &self,
        client: &Client,
        received: Received<pb::DeleteRangeRequest>,
    ) -> Result<Bytes, Error> {
        layered!(self, received, client, DELETE_RANGE, delete_range, enter_delete, leave_delete)
    }

    pub(crate) async fn txn(
        &self,
        client: &Client,
        received: Received<pb::TxnRequest>,
    ) -> Result<Bytes, Error> {
        layered!(self, received, client, TXN, txn, enter_txn, leave_txn)
    }
}
