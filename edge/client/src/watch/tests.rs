//! Watches against a server that follows a script: its streams break, stall and answer late.

use super::{RESPONSES_MAX, update::WatchUpdate};
use crate::Client;
use crate::tests::run;
use crate::tests::server::{Call, Hosts, Listener};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use std::sync::Arc;

async fn one() -> (Client, Listener) {
    let hosts = Arc::new(Hosts::default());
    let listener = hosts.listen("a");
    (hosts.client(&["a"]).await, listener)
}

fn key(key: &'static str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), start_revision, ..Default::default() }
}

fn answer(watch_id: i64, revision: i64, events: &[i64]) -> pb::WatchResponse {
    let event = |mod_revision: &i64| proto::mvccpb::Event {
        kv: Some(proto::mvccpb::KeyValue { mod_revision: *mod_revision, ..Default::default() }),
        ..Default::default()
    };
    pb::WatchResponse {
        header: Some(pb::ResponseHeader { revision, ..Default::default() }),
        watch_id,
        events: events.iter().map(event).collect(),
        ..Default::default()
    }
}

fn created(watch_id: i64, revision: i64) -> pb::WatchResponse {
    pb::WatchResponse { created: true, ..answer(watch_id, revision, &[]) }
}

fn revisions(update: &WatchUpdate) -> Vec<i64> {
    let revision = |event: &proto::mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
    update.response.events.iter().map(revision).collect()
}

/// Expects a request to create a watch. Returns its key and start revision.
async fn expect_create(call: &mut Call) -> (String, i64) {
    let request: pb::WatchRequest = call.expect().await.expect("a request");
    let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
        panic!("{request:?} creates nothing")
    };
    (String::from_utf8(create.key.to_vec()).unwrap(), create.start_revision)
}

async fn expect_cancel(call: &mut Call) -> i64 {
    let request: pb::WatchRequest = call.expect().await.expect("a request");
    let Some(RequestUnion::CancelRequest(cancel)) = request.request_union else {
        panic!("{request:?} cancels nothing")
    };
    cancel.watch_id
}

async fn expect_progress(call: &mut Call) {
    let request: pb::WatchRequest = call.expect().await.expect("a request");
    assert!(matches!(request.request_union, Some(RequestUnion::ProgressRequest(_))));
}

#[test]
fn progress_moves_no_watch_that_is_not_created() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut x = hub.watch(key("x", 0)).await;
        hub.request_progress();
        let mut a = hub.watch(key("a", 1)).await;
        let mut b = hub.watch(key("b", 1)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        assert_eq!(expect_create(&mut call).await, ("x".to_string(), 0));
        expect_progress(&mut call).await;
        call.answer(&created(0, 5));
        call.answer(&answer(-1, 5, &[]));
        assert_eq!(expect_create(&mut call).await, ("a".to_string(), 1));
        call.answer(&answer(-1, 5, &[]));
        call.answer(&created(1, 5));
        assert_eq!(expect_create(&mut call).await, ("b".to_string(), 1));
        call.answer(&answer(1, 5, &[2, 4]));
        call.answer(&created(2, 5));
        call.answer(&answer(2, 5, &[3, 5]));
        assert_eq!(revisions(&a.next().await.unwrap()), [2, 4]);
        assert_eq!(revisions(&b.next().await.unwrap()), [3, 5]);
        assert!(x.next().await.unwrap().is_progress() && x.next().await.unwrap().is_progress());
    });
}

#[test]
fn a_watch_dropped_while_it_is_created_is_cancelled_at_the_server() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut kept = hub.watch(key("kept", 0)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 5));
        let dropped = hub.watch(key("dropped", 0)).await;
        expect_create(&mut call).await;
        drop(dropped);
        // An answer for all watches arrives after the reader was dropped and before the creation
        // is answered.
        call.answer(&answer(-1, 5, &[]));
        call.answer(&created(1, 5));
        assert_eq!(expect_cancel(&mut call).await, 1);
        call.answer(&pb::WatchResponse { canceled: true, ..answer(1, 5, &[]) });
        call.answer(&answer(0, 6, &[6]));
        assert!(kept.next().await.unwrap().is_progress());
        assert_eq!(revisions(&kept.next().await.unwrap()), [6]);
    });
}

#[test]
fn a_live_watch_that_is_dropped_while_events_come_is_cancelled() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let watch = hub.watch(key("a", 0)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 5));
        call.answer(&answer(0, 6, &[6]));
        drop(watch);
        assert_eq!(expect_cancel(&mut call).await, 0);
    });
}

#[test]
fn watches_resume_after_what_was_delivered_when_the_stream_breaks() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut now = hub.watch(key("now", 0)).await;
        let mut old = hub.watch(key("old", 3)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 9));
        expect_create(&mut call).await;
        call.answer(&created(1, 9));
        call.answer(&answer(1, 9, &[3, 4]));
        call.answer(&pb::WatchResponse { fragment: true, ..answer(1, 9, &[6, 7]) });
        assert_eq!(revisions(&old.next().await.unwrap()), [3, 4]);
        drop((call, server));
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        assert_eq!(expect_create(&mut call).await, ("now".to_string(), 10));
        call.answer(&created(0, 12));
        assert_eq!(expect_create(&mut call).await, ("old".to_string(), 5));
        call.answer(&created(1, 12));
        call.answer(&answer(0, 12, &[11]));
        call.answer(&pb::WatchResponse { fragment: true, ..answer(1, 12, &[6]) });
        call.answer(&answer(1, 12, &[7]));
        assert_eq!(revisions(&now.next().await.unwrap()), [11]);
        assert_eq!(revisions(&old.next().await.unwrap()), [6, 7]);
    });
}

#[test]
fn a_stream_that_is_given_an_id_twice_is_opened_anew() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut a = hub.watch(key("a", 1)).await;
        let _b = hub.watch(key("b", 1)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 5));
        expect_create(&mut call).await;
        call.answer(&created(0, 5));
        // Nothing more is sent on the broken stream.
        assert!(call.expect::<pb::WatchRequest>().await.is_none());
        let mut call = server.call("Watch/Watch").await;
        assert_eq!(expect_create(&mut call).await, ("a".to_string(), 1));
        call.answer(&created(3, 5));
        call.answer(&answer(3, 5, &[2]));
        assert_eq!(revisions(&a.next().await.unwrap()), [2]);
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_stream_and_not_the_requests() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut slow = hub.watch(key("slow", 1)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 1));
        // 64 KiB each: with the window of 4 MiB, the server's sending ends soon after the queue is
        // full.
        let mut sent = 0;
        let mut large = answer(0, 1, &[1]);
        large.events[0].kv.as_mut().unwrap().value = vec![7; 64 << 10].into();
        while sent < 10 * RESPONSES_MAX && call.answer_within_window(&large).await {
            sent += 1;
        }
        assert!(sent < 3 * RESPONSES_MAX, "{sent} responses were read");
        // Another watch is created and the slow one is cancelled although nothing is read.
        let _other = hub.watch(key("other", 1)).await;
        assert_eq!(expect_create(&mut call).await.0, "other");
        for _ in 0..RESPONSES_MAX {
            assert_eq!(revisions(&slow.next().await.unwrap()), [1]);
        }
        drop(slow);
        assert_eq!(expect_cancel(&mut call).await, 0);
    });
}

#[test]
fn a_refused_stream_ends_its_watches_with_its_error() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut a = hub.watch(key("a", 1)).await;
        let mut server = listener.serve().await;
        server.call("Watch/Watch").await.fail(tonic::Code::Unauthenticated, "etcdserver: no");
        assert_eq!(a.next().await.unwrap().error.unwrap().to_string(), "etcdserver: no");
        assert!(a.next().await.is_none());
    });
}

#[test]
fn the_end_of_a_watch_says_why() {
    run(async {
        let (client, mut listener) = one().await;
        let mut watch = client.watch(key("a", 1)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(0, 9));
        call.answer(&pb::WatchResponse {
            canceled: true,
            compact_revision: 3,
            ..answer(0, 9, &[])
        });
        let error = watch.next().await.unwrap().error.unwrap();
        assert_eq!(error.to_string(), "etcdserver: mvcc: required revision has been compacted");
        assert!(watch.next().await.is_none());
    });
}

#[test]
fn a_hub_without_watches_ends_its_stream() {
    run(async {
        let (client, mut listener) = one().await;
        let hub = client.watch(key("a", 1)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        drop(hub);
        call.answer(&created(0, 9));
        while call.expect::<pb::WatchRequest>().await.is_some() {}
    });
}

#[test]
fn a_task_that_fails_is_the_error_of_its_watches() {
    run(async {
        let (answers, receiver) = tokio::sync::mpsc::channel(1);
        let mut watcher = super::Watcher {
            header: Default::default(),
            answers: receiver,
            created: None,
            dropped: Arc::default(),
            ended: false,
        };
        drop(answers);
        let error = watcher.next().await.unwrap().error.unwrap();
        assert_eq!(error.message(), "the client's task for watches has failed");
        assert!(watcher.next().await.is_none());
    });
}

#[test]
fn a_watcher_knows_when_the_server_has_its_watch() {
    run(async {
        let (client, mut listener) = one().await;
        let mut hub = client.watch_hub();
        let mut first = hub.watch(key("a", 0)).await;
        let mut second = hub.watch(key("b", 0)).await;
        let mut server = listener.serve().await;
        let mut call = server.call("Watch/Watch").await;
        expect_create(&mut call).await;
        call.answer(&created(1, 5));
        assert!(first.created().await && first.created().await);
        expect_create(&mut call).await;
        tokio::select! {
            biased;
            _ = second.created() => panic!("the server has not answered"),
            () = tokio::task::yield_now() => {}
        }
        let refused = pb::WatchResponse { canceled: true, ..created(-1, 5) };
        call.answer(&refused);
        assert!(!second.created().await);
        assert!(second.next().await.unwrap().error.is_some());
    });
}
