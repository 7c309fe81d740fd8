//! Reads in order: old states are dropped, and writes are sent once.

use super::run;
use super::server::{Hosts, Listener, Server};
use crate::{Error, OrderedClient};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use std::sync::Arc;

async fn one() -> (Arc<OrderedClient>, Listener) {
    let hosts = Arc::new(Hosts::default());
    let listener = hosts.listen("a");
    (Arc::new(OrderedClient::new(&hosts.client(&["a"]).await)), listener)
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

fn range() -> pb::RangeRequest {
    pb::RangeRequest { key: "a".into(), serializable: true, ..pb::RangeRequest::default() }
}

async fn serve_range(server: &mut Server, revision: i64) {
    let (call, _) = server.unary::<pb::RangeRequest>("KV/Range").await;
    let header = header(revision);
    call.finish(&pb::RangeResponse { header, ..pb::RangeResponse::default() });
}

#[test]
fn a_read_that_is_older_than_a_write_is_repeated() {
    run(async {
        let (client, mut listener) = one().await;
        let reader = Arc::clone(&client);
        let task = tokio::spawn(async move {
            reader.put(pb::PutRequest { key: "a".into(), ..Default::default() }).await.unwrap();
            reader.range(range()).await.unwrap().header.unwrap().revision
        });
        let mut server = listener.serve().await;
        let (put, _) = server.unary::<pb::PutRequest>("KV/Put").await;
        put.finish(&pb::PutResponse { header: header(9), ..pb::PutResponse::default() });
        for revision in [7, 8, 9] {
            serve_range(&mut server, revision).await;
        }
        assert_eq!(task.await.unwrap(), 9);
        assert_eq!(client.revision(), 9);
    });
}

#[test]
fn a_read_gives_up_after_five_rounds_and_the_next_one_tries_again() {
    run(async {
        let (client, mut listener) = one().await;
        let reader = Arc::clone(&client);
        let task = tokio::spawn(async move {
            reader.range(range()).await.unwrap();
            let error = reader.range(range()).await.unwrap_err();
            assert!(matches!(error, Error::NoGreaterRevision));
            assert_eq!(
                error.to_string(),
                "etcdclient: no cluster members have a revision higher than the previously \
                 received revision"
            );
            reader.range(range()).await.unwrap();
        });
        let mut server = listener.serve().await;
        serve_range(&mut server, 9).await;
        for _ in 0..6 {
            serve_range(&mut server, 8).await;
        }
        serve_range(&mut server, 9).await;
        task.await.unwrap();
    });
}

#[test]
fn only_a_transaction_of_reads_is_repeated() {
    run(async {
        let (client, mut listener) = one().await;
        let txn = |request| pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(request) }],
            ..pb::TxnRequest::default()
        };
        let reads = txn(Request::RequestTxn(txn(Request::RequestRange(range()))));
        let writes = txn(Request::RequestTxn(txn(Request::RequestPut(pb::PutRequest::default()))));
        let sender = Arc::clone(&client);
        let task = tokio::spawn(async move {
            let revision = |response: pb::TxnResponse| response.header.unwrap().revision;
            let mut seen = Vec::new();
            for request in [reads.clone(), reads, writes] {
                seen.push(revision(sender.txn(request).await.unwrap()));
            }
            seen
        });
        let mut server = listener.serve().await;
        for revision in [5, 4, 6, 3] {
            let (call, _) = server.unary::<pb::TxnRequest>("KV/Txn").await;
            let header = header(revision);
            call.finish(&pb::TxnResponse { header, ..pb::TxnResponse::default() });
        }
        // A server does not answer a write with an old revision; if it did, the write would not be
        // sent again.
        assert_eq!(task.await.unwrap(), [5, 6, 3]);
        assert_eq!(client.revision(), 6);
    });
}
