//! Calls whose stream or connection ends early: some are sent again, the others fail.

use super::run;
use super::server::{Hosts, Listener};
use crate::{Client, Error};
use h2::Reason;
use proto::etcdserverpb as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "a".into(), ..Default::default() }
}

async fn one() -> (Client, Listener) {
    let hosts = Arc::new(Hosts::default());
    let listener = hosts.listen("a");
    (hosts.client(&["a"]).await, listener)
}

fn start_put(client: &Client) -> JoinHandle<Result<pb::PutResponse, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.put(put()).await })
}

#[test]
fn a_write_whose_stream_was_refused_is_sent_again() {
    run(async {
        let (client, mut listener) = one().await;
        let call = start_put(&client);
        let mut server = listener.serve().await;
        server.call("KV/Put").await.reset(Reason::REFUSED_STREAM);
        let (again, _) = server.unary::<pb::PutRequest>("KV/Put").await;
        again.finish(&pb::PutResponse::default());
        call.await.unwrap().unwrap();
    });
}

#[test]
fn a_write_that_goaway_excludes_is_sent_again() {
    run(async {
        let (client, mut listener) = one().await;
        let call = start_put(&client);
        listener.accept().await.go_away_unprocessed().await;
        let mut server = listener.serve().await;
        let (again, _) = server.unary::<pb::PutRequest>("KV/Put").await;
        again.finish(&pb::PutResponse::default());
        call.await.unwrap().unwrap();
    });
}

#[test]
fn a_write_that_was_read_is_not_sent_again() {
    run(async {
        let (client, mut listener) = one().await;
        for end in 0..4 {
            let call = start_put(&client);
            let mut server = listener.serve().await;
            let (received, _) = server.unary::<pb::PutRequest>("KV/Put").await;
            match end {
                0 => drop(received),
                1 => received.reset(Reason::INTERNAL_ERROR),
                2 => received.fail(Code::Unavailable, "etcdserver: request timed out"),
                _ => drop(server),
            }
            let error = call.await.unwrap().unwrap_err();
            assert!(!matches!(error, Error::DeadlineExceeded(_)), "{end}: {error}");
            assert_eq!(listener.waiting(), 0, "{end}");
        }
    });
}

#[test]
fn a_read_that_is_cut_off_has_the_code_of_its_reset_and_is_not_sent_again() {
    run(async {
        let (client, mut listener) = one().await;
        let mut server = None;
        for (reason, code, name) in [
            (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted, "ENHANCE_YOUR_CALM"),
            (Reason::CANCEL, Code::Cancelled, "CANCEL"),
            (Reason::INTERNAL_ERROR, Code::Internal, "INTERNAL_ERROR"),
        ] {
            let client = client.clone();
            let call = tokio::spawn(async move { client.range(Default::default()).await });
            if server.is_none() {
                server = Some(listener.serve().await);
            }
            let server = server.as_mut().unwrap();
            let (mut received, _) = server.unary::<pb::RangeRequest>("KV/Range").await;
            received.answer_in_part(&pb::RangeResponse { count: 1 << 40, ..Default::default() });
            received.reset(reason);
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            let text = format!("stream terminated by RST_STREAM with error code: {name}");
            assert_eq!(error.message(), text);
            assert_eq!(server.waiting(), 0, "{name}");
        }
    });
}

#[test]
fn a_call_under_way_ends_well_after_goaway() {
    run(async {
        let (client, mut listener) = one().await;
        let call = start_put(&client);
        let mut server = listener.serve().await;
        let (received, _) = server.unary::<pb::PutRequest>("KV/Put").await;
        server.go_away();
        received.finish(&pb::PutResponse::default());
        call.await.unwrap().unwrap();
        // The next one needs another connection.
        let call = start_put(&client);
        let mut server = listener.serve().await;
        let (received, _) = server.unary::<pb::PutRequest>("KV/Put").await;
        received.finish(&pb::PutResponse::default());
        call.await.unwrap().unwrap();
    });
}

#[test]
fn answers_may_come_in_another_order_than_requests() {
    run(async {
        let (client, mut listener) = one().await;
        let calls: Vec<_> = (1..=3)
            .map(|revision| {
                let client = client.clone();
                let request = pb::RangeRequest { revision, ..Default::default() };
                tokio::spawn(async move { client.range(request).await })
            })
            .collect();
        let mut server = listener.serve().await;
        let mut received = Vec::new();
        for _ in 0..3 {
            received.push(server.unary::<pb::RangeRequest>("KV/Range").await);
        }
        for (call, request) in received.into_iter().rev() {
            call.finish(&pb::RangeResponse { count: request.revision, ..Default::default() });
        }
        for (call, count) in calls.into_iter().zip(1..) {
            assert_eq!(call.await.unwrap().unwrap().count, count);
        }
    });
}

#[test]
fn a_read_in_parts_ends_by_its_deadline_wherever_it_hangs() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        hosts.refuse("dead");
        hosts.drop_packets("hole");
        let mut stalled = hosts.listen("stalled");
        for name in ["dead", "hole", "stalled"] {
            let client = hosts.client(&[name]).await;
            let start = Instant::now();
            let call = tokio::spawn(async move { client.range_stream(Default::default()).await });
            let mut held = None;
            if name == "stalled" {
                let mut server = stalled.serve().await;
                let (mut call, _) = server.unary::<pb::RangeRequest>("KV/RangeStream").await;
                call.answer(&pb::RangeStreamResponse::default());
                held = Some((server, call));
            }
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::DeadlineExceeded(_)), "{name}: {error}");
            assert_eq!(start.elapsed().as_secs(), 5, "{name}");
            drop(held);
        }
    });
}

#[test]
fn a_keep_alive_that_is_not_answered_ends_by_its_deadline() {
    run(async {
        let (client, mut listener) = one().await;
        let start = Instant::now();
        let call = tokio::spawn(async move { client.keep_alive_once(7).await });
        let mut server = listener.serve().await;
        let mut held = server.call("Lease/LeaseKeepAlive").await;
        assert_eq!(held.expect::<pb::LeaseKeepAliveRequest>().await.unwrap().id, 7);
        held.open();
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded(_)), "{error}");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    });
}

#[test]
fn a_snapshot_without_a_connection_ends_by_its_deadline() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        hosts.refuse("dead");
        let client = hosts.client(&["dead"]).await;
        let Err(Error::DeadlineExceeded(status)) = client.snapshot().await else {
            panic!("opened")
        };
        assert!(status.message().contains("connection refused"), "{status}");
    });
}
