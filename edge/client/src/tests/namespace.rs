//! A namespace adds its prefix to requests and removes it from responses.

use super::run;
use super::server::{Hosts, Listener};
use crate::{Namespace, WatchUpdate};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::mvccpb::{Event, KeyValue};
use std::sync::Arc;

async fn one(prefix: &[u8]) -> (Namespace, Listener) {
    let hosts = Arc::new(Hosts::default());
    let listener = hosts.listen("a");
    (Namespace::new(&hosts.client(&["a"]).await, prefix), listener)
}

fn kv(key: &str) -> KeyValue {
    KeyValue { key: key.to_string().into(), ..KeyValue::default() }
}

#[test]
fn ranges_stay_within_the_prefix() {
    run(async {
        let (app, mut listener) = one(b"app/").await;
        let task = tokio::spawn(async move {
            for (key, end) in [("a", ""), ("a", "c"), ("a", "\0"), ("", "\0")] {
                let request = pb::RangeRequest {
                    key: key.into(),
                    range_end: end.into(),
                    ..pb::RangeRequest::default()
                };
                let found = app.range(request).await.unwrap();
                assert_eq!(found.kvs, [kv("a"), kv("b")]);
            }
            // Without a key, the key that equals the prefix would be meant.
            let error = app.range(pb::RangeRequest::default()).await.unwrap_err();
            assert_eq!(error.to_string(), "etcdserver: key is not provided");
            app.put(pb::PutRequest::default()).await.unwrap_err();
            app.delete_range(pb::DeleteRangeRequest::default()).await.unwrap_err();
        });
        let mut server = listener.serve().await;
        let mut asked = Vec::new();
        for _ in 0..4 {
            let (call, request) = server.unary::<pb::RangeRequest>("KV/Range").await;
            asked.push((request.key, request.range_end));
            let kvs = vec![kv("app/a"), kv("app/b")];
            call.finish(&pb::RangeResponse { kvs, ..pb::RangeResponse::default() });
        }
        let expected = [("app/a", ""), ("app/a", "app/c"), ("app/a", "app0"), ("app/", "app0")];
        assert_eq!(asked, expected.map(|(key, end)| (key.into(), end.into())));
        task.await.unwrap();
        assert_eq!(server.waiting(), 0);
    });
}

#[test]
fn a_prefix_of_the_last_bytes_has_no_end() {
    run(async {
        let (app, mut listener) = one(b"\xff").await;
        let all = pb::RangeRequest {
            key: "a".into(),
            range_end: "\0".into(),
            ..pb::RangeRequest::default()
        };
        let task = tokio::spawn(async move { app.range(all).await.unwrap() });
        let mut server = listener.serve().await;
        let (call, request) = server.unary::<pb::RangeRequest>("KV/Range").await;
        assert_eq!((&request.key[..], &request.range_end[..]), (&b"\xffa"[..], &b"\0"[..]));
        call.finish(&pb::RangeResponse::default());
        task.await.unwrap();
    });
}

#[test]
fn writes_return_the_earlier_keys_without_the_prefix() {
    run(async {
        let (app, mut listener) = one(b"app/").await;
        let task = tokio::spawn(async move {
            let put = pb::PutRequest { key: "a".into(), prev_kv: true, ..Default::default() };
            assert_eq!(app.put(put).await.unwrap().prev_kv, Some(kv("a")));
            let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
            assert_eq!(app.delete_range(delete).await.unwrap().prev_kvs, [kv("a")]);
            let lease = pb::LeaseTimeToLiveRequest { id: 1, keys: true };
            assert_eq!(app.lease_time_to_live(lease).await.unwrap().keys, ["a"]);
        });
        let mut server = listener.serve().await;
        let (call, request) = server.unary::<pb::PutRequest>("KV/Put").await;
        assert_eq!(request.key, "app/a");
        let prev_kv = Some(kv("app/a"));
        call.finish(&pb::PutResponse { prev_kv, ..pb::PutResponse::default() });
        let (call, request) = server.unary::<pb::DeleteRangeRequest>("KV/DeleteRange").await;
        assert_eq!(request.key, "app/a");
        let prev_kvs = vec![kv("app/a")];
        call.finish(&pb::DeleteRangeResponse { prev_kvs, ..pb::DeleteRangeResponse::default() });
        let method = "Lease/LeaseTimeToLive";
        let (call, _) = server.unary::<pb::LeaseTimeToLiveRequest>(method).await;
        let keys = vec!["app/a".into(), "other/a".into(), "ap".into()];
        call.finish(&pb::LeaseTimeToLiveResponse { keys, ..Default::default() });
        task.await.unwrap();
    });
}

#[test]
fn a_transaction_has_the_prefix_in_all_its_parts() {
    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }
    let (range, put) = (
        |key: &str| {
            let key = key.to_string().into();
            Request::RequestRange(pb::RangeRequest { key, ..Default::default() })
        },
        |key: &str| {
            let key = key.to_string().into();
            Request::RequestPut(pb::PutRequest { key, ..Default::default() })
        },
    );
    let txn = |prefix: &str| {
        let key = |name: &str| format!("{prefix}{name}");
        let nested =
            pb::TxnRequest { failure: vec![op(range(&key("d")))], ..pb::TxnRequest::default() };
        pb::TxnRequest {
            compare: vec![pb::Compare { key: key("a").into(), ..Default::default() }],
            success: vec![op(put(&key("b"))), op(Request::RequestTxn(nested))],
            failure: vec![op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key("c").into(),
                ..Default::default()
            }))],
        }
    };
    let answer = |prefix: &str| {
        let response = |response| pb::ResponseOp { response: Some(response) };
        let kvs = vec![kv(&format!("{prefix}d"))];
        let range = Response::ResponseRange(pb::RangeResponse { kvs, ..Default::default() });
        let nested = pb::TxnResponse { responses: vec![response(range)], ..Default::default() };
        let responses = vec![response(Response::ResponseTxn(nested))];
        pb::TxnResponse { responses, ..pb::TxnResponse::default() }
    };
    run(async {
        let (app, mut listener) = one(b"app/").await;
        let sent = txn("");
        let task = tokio::spawn(async move {
            let empty = pb::TxnRequest { success: vec![op(put(""))], ..Default::default() };
            app.txn(empty).await.unwrap_err();
            app.txn(sent).await.unwrap()
        });
        let mut server = listener.serve().await;
        let (call, request) = server.unary::<pb::TxnRequest>("KV/Txn").await;
        assert_eq!(request, txn("app/"));
        call.finish(&answer("app/"));
        assert_eq!(task.await.unwrap(), answer(""));
    });
}

#[test]
fn a_watch_has_the_prefix_and_its_events_do_not() {
    run(async {
        let (app, mut listener) = one(b"app/").await;
        let request = pb::WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..pb::WatchCreateRequest::default()
        };
        let mut watcher = app.watch(request).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        let request = call.expect::<pb::WatchRequest>().await.unwrap();
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
            panic!("no watch")
        };
        assert_eq!((&create.key[..], &create.range_end[..]), (&b"app/\0"[..], &b"app0"[..]));
        call.answer(&pb::WatchResponse { created: true, ..Default::default() });
        let event = |prefix: &str| {
            let key = kv(&format!("{prefix}a"));
            Event { kv: Some(key.clone()), prev_kv: Some(key), ..Event::default() }
        };
        call.answer(&pb::WatchResponse { events: vec![event("app/")], ..Default::default() });
        loop {
            let WatchUpdate { response, error } = watcher.next().await.unwrap();
            assert!(error.is_none());
            if !response.created {
                assert_eq!(response.events, [event("")]);
                break;
            }
        }
    });
}
