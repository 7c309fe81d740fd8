//! Limits for each user of a running server.

use super::{ROOT_PASSWORD, Server, USER_PASSWORD, run};
use client::Client;
use proto::etcdserverpb as pb;

const REFUSED: &str = "retcd: user \"alice\" has too many open watches (--max-watches-per-user=2)";

/// A watch of the key `a`, which has an event already.
fn watch() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: "a".into(), start_revision: 1, ..Default::default() }
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "a".into(), ..Default::default() }
}

/// Why a new watch of `client` is refused, empty if it is not.
async fn create(client: &Client) -> String {
    client.watch(watch()).await.next().await.unwrap().response.cancel_reason
}

#[test]
fn a_user_has_as_many_watches_as_the_flag_allows() {
    let server = Server::start_with(&["--max-watches-per-user=2".to_owned()]);
    run(async {
        server.enable().await;
        let root = server.client(Some(("root", ROOT_PASSWORD))).await.unwrap();
        let one = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let two = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        root.put(put()).await.unwrap();
        let (mut first, mut second) = (one.watch(watch()).await, two.watch(watch()).await);
        assert_eq!(first.next().await.unwrap().response.events.len(), 1);
        assert_eq!(second.next().await.unwrap().response.events.len(), 1);
        assert_eq!(create(&two).await, REFUSED);
        assert_eq!(create(&root).await, "", "other users are not affected");
        let counted = "retcd_user_limit_refusals_total{what=\"watches\"} 1\n";
        assert!(server.metrics().contains(counted));
        drop(first);
        // The cancellation is under way.
        while create(&two).await == REFUSED {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_user_has_as_many_requests_in_progress_as_the_flag_allows() {
    let server = Server::start_with(&["--max-requests-per-user=1".to_owned()]);
    run(async {
        server.enable().await;
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        alice.put(put()).await.unwrap();
        let refused = "retcd: user \"alice\" has too many requests in progress \
                       (--max-requests-per-user=1)";
        // Together, until the server has two of them at the same time.
        loop {
            let (one, two) = tokio::join!(alice.put(put()), alice.put(put()));
            let results = [one, two];
            if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
                assert_eq!(error.message(), refused);
                assert!(results.iter().any(Result::is_ok), "one of them is served");
                break;
            }
        }
        alice.put(put()).await.unwrap();
        assert!(!server.metrics().contains("retcd_user_limit_refusals_total{what=\"requests\"} 0"));
    });
}

#[test]
fn the_requests_in_progress_of_a_user_have_as_many_bytes_as_the_flag_allows() {
    let server = Server::start_with(&["--max-request-bytes-per-user=1000".to_owned()]);
    run(async {
        server.enable().await;
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let of = |len: usize| pb::PutRequest { value: vec![7; len].into(), ..put() };
        let refused = "retcd: user \"alice\" has too many bytes of requests in progress \
                       (--max-request-bytes-per-user=1000)";
        assert_eq!(alice.put(of(1_000)).await.unwrap_err().message(), refused);
        alice.put(of(900)).await.unwrap();
        // Together, until the server has two of them at the same time.
        loop {
            let (one, two) = tokio::join!(alice.put(of(600)), alice.put(of(600)));
            let results = [one, two];
            if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
                assert_eq!(error.message(), refused);
                assert!(results.iter().any(Result::is_ok), "one of them is served");
                break;
            }
        }
        alice.put(of(900)).await.unwrap();
        let root = server.client(Some(("root", ROOT_PASSWORD))).await.unwrap();
        root.put(of(900)).await.unwrap();
        assert!(!server.metrics().contains("retcd_user_limit_refusals_total{what=\"bytes\"} 0"));
        assert!(server.metrics().contains("retcd_user_limit_refusals_total{what=\"bytes\"} "));
    });
}
