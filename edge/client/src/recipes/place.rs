//! The place of a contender: its key, the transaction that enters it, and the wait for the keys
//! before it.
//!
//! Source: etcd v3.7.1 client/v3/concurrency/key.go.

use super::session::Session;
use crate::call::Client;
use crate::error::Error;
use crate::range::prefix_end;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;

/// The key of a contender, and the revision at which it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Vec<u8>,
    pub(super) created: i64,
}

impl Place {
    /// The key that the session has under a prefix.
    pub(super) fn key(session: &Session, prefix: &[u8]) -> Vec<u8> {
        let lease = session.lease();
        let sign = if lease < 0 { "-" } else { "" };
        [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat()
    }

    /// The comparison that the key has not been deleted since it was created.
    pub(super) fn is_held(&self) -> pb::Compare {
        pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Create.into(),
            key: self.key.clone().into(),
            target_union: Some(pb::compare::TargetUnion::CreateRevision(self.created)),
            ..pb::Compare::default()
        }
    }

    /// Puts the key, unless the session has it already, in one transaction with these requests.
    pub(super) async fn enter(
        session: &Session,
        prefix: &[u8],
        value: &[u8],
        more: &[Request],
    ) -> Result<(Place, pb::TxnResponse), Error> {
        let mut place = Place { key: Place::key(session, prefix), created: 0 };
        let with_more = |first| {
            let requests = std::iter::once(first).chain(more.iter().cloned());
            requests.map(|request| pb::RequestOp { request: Some(request) }).collect()
        };
        let put = pb::PutRequest {
            key: place.key.clone().into(),
            value: value.to_vec().into(),
            lease: session.lease(),
            ..pb::PutRequest::default()
        };
        let request = pb::TxnRequest {
            compare: vec![place.is_held()],
            success: with_more(Request::RequestPut(put)),
            failure: with_more(Request::RequestRange(one(&place.key))),
        };
        let response = session.client().txn(request).await?;
        place.created = match found(&response, 0) {
            Some(own) => own.create_revision,
            None => revision(response.header.as_ref()),
        };
        Ok((place, response))
    }

    /// Waits until all keys of the prefix that were created earlier are deleted.
    pub(super) async fn is_first(&self, client: &Client, prefix: &[u8]) -> Result<(), Error> {
        let mut latest = by_creation(prefix, SortOrder::Descend);
        latest.max_create_revision = self.created - 1;
        loop {
            let response = client.range(latest.clone()).await?;
            let Some(earlier) = response.kvs.into_iter().next() else { return Ok(()) };
            let request = pb::WatchCreateRequest {
                key: earlier.key,
                start_revision: revision(response.header.as_ref()) + 1,
                ..pb::WatchCreateRequest::default()
            };
            let mut changes = client.watch(request).await;
            while let Some(update) = changes.next().await {
                if let Some(error) = update.error {
                    return Err(error);
                }
                let is_deletion =
                    |event: &proto::mvccpb::Event| event.r#type() == EventType::Delete;
                if update.response.events.iter().any(is_deletion) {
                    break;
                }
            }
        }
    }
}

/// A range of one key.
pub(super) fn one(key: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_vec().into(), ..pb::RangeRequest::default() }
}

/// The key of a prefix that was created first or last.
pub(super) fn by_creation(prefix: &[u8], order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..pb::RangeRequest::default()
    }
}

/// The first key-value that an operation of a transaction has found.
pub(super) fn found(response: &pb::TxnResponse, operation: usize) -> Option<&KeyValue> {
    match &response.responses.get(operation)?.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
