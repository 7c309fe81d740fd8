//! Endpoints that hang, die, stop and come back.

use super::run;
use super::server::{Hosts, Server};
use crate::{Client, Error};
use proto::etcdserverpb as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "a".into(), ..Default::default() }
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "a".into(), ..Default::default() }
}

/// Answers one read.
async fn answer_read(server: &mut Server) {
    let (call, _) = server.unary::<pb::RangeRequest>("KV/Range").await;
    call.finish(&pb::RangeResponse::default());
}

async fn answer_put(server: &mut Server) {
    let (call, _) = server.unary::<pb::PutRequest>("KV/Put").await;
    call.finish(&pb::PutResponse::default());
}

/// Both connections of a client of two hosts.
async fn two() -> (Arc<Hosts>, Client, super::server::Listener, Server, Server) {
    let hosts = Arc::new(Hosts::default());
    let (mut a, mut b) = (hosts.listen("a"), hosts.listen("b"));
    let client = hosts.client(&["a", "b"]).await;
    let read = tokio::spawn({
        let client = client.clone();
        async move { (client.range(get()).await.unwrap(), client.range(get()).await.unwrap()) }
    });
    let (mut first, mut second) = (a.serve().await, b.serve().await);
    let mut left = 2;
    while left > 0 {
        tokio::select! {
            () = answer_read(&mut first) => left -= 1,
            () = answer_read(&mut second) => left -= 1,
        }
    }
    read.await.unwrap();
    (hosts, client, a, first, second)
}

#[test]
fn an_endpoint_that_hangs_in_any_way_delays_no_call() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        let mut silent = hosts.listen("silent");
        hosts.drop_packets("hole");
        hosts.refuse("dead");
        let mut good = hosts.listen("good");
        let client = hosts.client(&["silent", "hole", "dead", "good"]).await;
        let start = Instant::now();
        let serving = tokio::spawn(async move {
            let mut server = good.serve().await;
            for _ in 0..40 {
                answer_read(&mut server).await;
            }
            (good, server)
        });
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.range(get()).await })
            })
            .collect();
        let accepted = silent.accept().await;
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        drop((accepted, serving.await.unwrap()));
    });
}

#[test]
fn an_endpoint_counts_as_connected_after_its_settings() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        let mut silent = hosts.listen("silent");
        let client = hosts.client(&["silent"]).await;
        let call = tokio::spawn(async move { client.put(put()).await });
        let first = silent.accept().await;
        let Err(Error::DeadlineExceeded(status)) = call.await.unwrap() else { panic!("answered") };
        assert_eq!(
            status.message(),
            "latest balancer error: connection error: desc = \"error reading server preface: context \
         deadline exceeded\""
        );
        drop(first);
    });
}

#[test]
fn a_server_that_is_not_http2_is_not_connected() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        let (mut web, mut good) = (hosts.listen("web"), hosts.listen("good"));
        let client = hosts.client(&["web", "good"]).await;
        let call = tokio::spawn(async move { client.put(put()).await });
        web.accept().await.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let mut server = good.serve().await;
        answer_put(&mut server).await;
        call.await.unwrap().unwrap();
    });
}

#[test]
fn a_read_at_a_stopped_server_is_answered_by_another() {
    run(async {
        let (_hosts, client, _a, a, mut b) = two().await;
        let stopped = a.stop();
        for _ in 0..6 {
            let start = Instant::now();
            let (answer, ()) = tokio::join!(client.range(get()), answer_read(&mut b));
            answer.unwrap();
            assert!(start.elapsed() <= Duration::from_millis(600), "{:?}", start.elapsed());
        }
        drop(stopped);
    });
}

#[test]
fn writes_go_round_a_stopped_server_and_are_sent_once() {
    run(async {
        let (_hosts, client, _a, a, mut b) = two().await;
        let stopped = a.stop();
        let mut lost = 0;
        // One write may have been sent to the stopped server. It is not sent to another server, and
        // ends at its deadline.
        for _ in 0..8 {
            let mut call = Box::pin(client.put(put()));
            let start = Instant::now();
            tokio::select! {
                answer = &mut call => {
                    assert!(matches!(answer, Err(Error::DeadlineExceeded(_))));
                    lost += 1;
                }
                () = answer_put(&mut b) => {
                    call.await.unwrap();
                    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
                }
            }
        }
        assert_eq!((lost, b.waiting()), (1, 0));
        drop(stopped);
    });
}

#[test]
fn a_server_that_lives_again_is_used_again() {
    run(async {
        let (_hosts, client, mut listener, a, mut b) = two().await;
        let stopped = a.stop();
        for _ in 0..4 {
            let (answer, ()) = tokio::join!(client.range(get()), answer_read(&mut b));
            answer.unwrap();
        }
        // Because of the silence the client opened a new connection. The server's SETTINGS are
        // enough for it to be used again.
        let mut again = listener.serve().await;
        for _ in 0..4 {
            let call = client.put(put());
            let answered = async {
                tokio::select! {
                    () = answer_put(&mut again) => 1,
                    () = answer_put(&mut b) => 0,
                }
            };
            let (answer, by_again) = tokio::join!(call, answered);
            answer.unwrap();
            if by_again == 1 {
                return drop(stopped);
            }
        }
        panic!("the server that lives again was not used");
    });
}

#[test]
fn a_task_that_panics_is_an_error_of_its_endpoint() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        hosts.panic("bad");
        let client = hosts.client(&["bad"]).await;
        let Err(Error::DeadlineExceeded(status)) = client.range(get()).await else {
            panic!("answered")
        };
        assert_eq!(
            status.message(),
            "latest balancer error: connection error: desc = \"the client's task failed\""
        );
        let mut good = hosts.listen("good");
        let client = hosts.client(&["bad", "good"]).await;
        let answered = async {
            let mut server = good.serve().await;
            answer_read(&mut server).await;
            server
        };
        tokio::join!(client.range(get()), answered).0.unwrap();
    });
}

#[test]
fn a_member_that_was_down_is_connected_when_it_is_up() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        hosts.refuse("a");
        let client = hosts.client(&["a"]).await;
        let call = tokio::spawn(async move { client.put(put()).await });
        tokio::task::yield_now().await;
        let mut a = hosts.listen("a");
        let mut server = a.serve().await;
        answer_put(&mut server).await;
        call.await.unwrap().unwrap();
        assert_eq!(a.waiting(), 0);
    });
}
