//! A mirror between two servers that follow a script.

use super::batch::batches;
use super::{Mirror, MirrorOptions};
use crate::Error;
use crate::tests::run;
use crate::tests::server::{Hosts, Listener};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};
use std::sync::Arc;
use tonic::Code;

fn kv(key: &str, mod_revision: i64) -> KeyValue {
    let (key, value) = (key.to_string().into(), format!("of {mod_revision}").into());
    KeyValue { key, value, mod_revision, ..KeyValue::default() }
}

fn event(kind: EventType, key: &str, mod_revision: i64) -> Event {
    Event { r#type: kind.into(), kv: Some(kv(key, mod_revision)), ..Event::default() }
}

fn options(prefix: &str, dest_prefix: &str) -> MirrorOptions {
    MirrorOptions { dest_prefix: dest_prefix.into(), ..MirrorOptions::of_prefix(prefix) }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

/// Operations as `put KEY` and `del KEY`.
fn shown(operations: &[pb::RequestOp]) -> Vec<String> {
    let show = |operation: &pb::RequestOp| match operation.request.as_ref().unwrap() {
        Request::RequestPut(put) => format!("put {}", String::from_utf8_lossy(&put.key)),
        Request::RequestDeleteRange(del) => format!("del {}", String::from_utf8_lossy(&del.key)),
        other @ (Request::RequestRange(_) | Request::RequestTxn(_)) => {
            panic!("{other:?} is not an operation of a mirror")
        }
    };
    operations.iter().map(show).collect()
}

/// A mirror, its source and its destination.
async fn start(options: MirrorOptions) -> (Arc<Mirror>, Listener, Listener) {
    let hosts = Arc::new(Hosts::default());
    let (source, destination) = (hosts.listen("source"), hosts.listen("destination"));
    let (from, to) = (hosts.client(&["source"]).await, hosts.client(&["destination"]).await);
    (Arc::new(Mirror::new(from, to, options)), source, destination)
}

#[test]
fn each_revision_is_a_transaction_and_a_large_one_is_spread() {
    let put = |key: &str, revision| event(EventType::Put, key, revision);
    let events = vec![
        put("a/1", 4),
        put("a/2", 4),
        event(EventType::Delete, "a/1", 5),
        put("a/1", 6),
        put("a/2", 6),
        put("a/3", 6),
    ];
    let options = MirrorOptions { txn_ops_max: 2, ..options("a/", "z/") };
    let batches: Vec<_> = batches(events, &options).iter().map(|batch| shown(batch)).collect();
    let expected =
        [vec!["put z/1", "put z/2"], vec!["del z/1"], vec!["put z/1", "put z/2"], vec!["put z/3"]];
    assert_eq!(batches, expected);
}

#[test]
fn only_the_first_occurrence_of_the_prefix_is_replaced() {
    assert_eq!(options("a", "bb").renamed(b"aXa"), b"bbXa");
    assert_eq!(options("a", "").renamed(b"aa"), b"a");
    assert_eq!(options("", "root/").renamed(b"a"), b"root/a");
}

#[test]
fn a_copy_reads_all_pages_at_the_revision_of_the_first_one() {
    run(async {
        let (mirror, mut source, mut destination) = start(options("a", "z")).await;
        let copy = tokio::spawn({
            let mirror = Arc::clone(&mirror);
            async move { mirror.copy().await }
        });
        let mut source = source.serve().await;
        let (call, first) = source.unary::<pb::RangeRequest>("KV/Range").await;
        assert_eq!((&first.key[..], &first.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!(first.revision, 0);
        let page = |key, more, revision| pb::RangeResponse {
            header: header(revision),
            kvs: vec![kv(key, 3)],
            more,
            count: if more { 2 } else { 1 },
        };
        call.finish(&page("a1", true, 7));
        let mut destination = destination.serve().await;
        let (call, put) = destination.unary::<pb::PutRequest>("KV/Put").await;
        assert_eq!((&put.key[..], &put.value[..], put.lease), (&b"z1"[..], &b"of 3"[..], 0));
        call.finish(&pb::PutResponse::default());

        let (call, second) = source.unary::<pb::RangeRequest>("KV/Range").await;
        assert_eq!((&second.key[..], second.revision), (&b"a1\0"[..], 7));
        call.finish(&page("a2", false, 9));
        let (call, put) = destination.unary::<pb::PutRequest>("KV/Put").await;
        assert_eq!(put.key, "z2");
        call.finish(&pb::PutResponse::default());
        assert_eq!(copy.await.unwrap().unwrap(), 7);
        assert_eq!((mirror.copied(), mirror.total()), (2, 2));
    });
}

#[test]
fn a_put_that_fails_ends_the_copy() {
    run(async {
        let (mirror, mut source, mut destination) = start(MirrorOptions::of_prefix("")).await;
        let copy = tokio::spawn(async move { mirror.copy().await });
        let mut source = source.serve().await;
        let (call, request) = source.unary::<pb::RangeRequest>("KV/Range").await;
        assert_eq!((&request.key[..], &request.range_end[..]), (&[0][..], &[0][..]));
        let page = pb::RangeResponse {
            header: header(7),
            kvs: vec![kv("a", 3)],
            ..pb::RangeResponse::default()
        };
        call.finish(&page);
        let mut destination = destination.serve().await;
        destination
            .call("KV/Put")
            .await
            .fail(Code::PermissionDenied, "etcdserver: permission denied");
        let error = copy.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "etcdserver: permission denied");
    });
}

#[test]
fn changes_follow_in_order_until_the_watch_ends() {
    run(async {
        let (mirror, mut source, mut destination) = start(options("a", "")).await;
        let follow = tokio::spawn({
            let mirror = Arc::clone(&mirror);
            async move { mirror.follow(8).await }
        });
        let mut source = source.serve().await;
        let mut watch = source.call("Watch/Watch").await;
        let request: pb::WatchRequest = watch.expect().await.unwrap();
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
            panic!("{request:?} creates nothing")
        };
        assert_eq!((&create.key[..], &create.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!(create.start_revision, 8);
        let response = |events| pb::WatchResponse {
            header: header(9),
            events,
            ..pb::WatchResponse::default()
        };
        watch.answer(&pb::WatchResponse { created: true, ..response(vec![]) });
        let put = |key, revision| event(EventType::Put, key, revision);
        let delete = event(EventType::Delete, "a1", 9);
        watch.answer(&response(vec![put("a1", 8), put("a2", 8), delete]));

        let mut destination = destination.serve().await;
        for expected in [&["put 1", "put 2"][..], &["del 1"]] {
            let (call, txn) = destination.unary::<pb::TxnRequest>("KV/Txn").await;
            assert_eq!(shown(&txn.success), expected);
            assert!(txn.compare.is_empty() && txn.failure.is_empty());
            call.finish(&pb::TxnResponse::default());
        }
        let compacted =
            pb::WatchResponse { canceled: true, compact_revision: 20, ..response(vec![]) };
        watch.answer(&compacted);
        let error: Error = follow.await.unwrap();
        assert_eq!(error.to_string(), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(mirror.copied(), 3);
    });
}
