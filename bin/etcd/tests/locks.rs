//! The lock and election services of a running server: who waits, and what ends a wait.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use bytes::Bytes;
use client::{Client, Config, Watcher};
use proto::etcdserverpb as pb;
use proto::mvccpb::event::EventType;
use proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use rpc::stubs::v3electionpb::election_client::ElectionClient;
use rpc::stubs::v3lockpb::lock_client::LockClient;
use server::Server;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request};

async fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Client, Channel) -> F) {
    let server = Server::start(&[]);
    let client = Client::connect(Config::new(vec![server.address.clone()])).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), test(client, channel)).await.unwrap();
}

async fn grant(client: &Client, id: i64) {
    client.lease_grant(pb::LeaseGrantRequest { id, ttl: 600 }).await.unwrap();
}

/// A watch of the keys of a name.
async fn keys(client: &Client, name: &str) -> Watcher {
    let (key, range_end) = (format!("{name}/").into(), format!("{name}0").into());
    let request =
        pb::WatchCreateRequest { key, range_end, start_revision: 1, ..Default::default() };
    client.watch(request).await
}

/// Waits until a key of a watch is put or deleted.
async fn until(keys: &mut Watcher, kind: EventType, key: &str) {
    loop {
        let update = keys.next().await.unwrap();
        let is_it = |event: &proto::mvccpb::Event| {
            event.r#type() == kind && event.kv.as_ref().unwrap().key == key
        };
        if update.response.events.iter().any(is_it) {
            return;
        }
    }
}

#[tokio::test]
async fn a_lock_goes_to_the_next_that_still_waits() {
    with_server(|client, channel| async move {
        for lease in 1..=3 {
            grant(&client, lease).await;
        }
        let mut keys = keys(&client, "l").await;
        let lock = |lease| {
            let mut locks = LockClient::new(channel.clone());
            async move { locks.lock(LockRequest { name: "l".into(), lease }).await }
        };
        let first = lock(1).await.unwrap().into_inner();
        assert_eq!(first.key, "l/1");
        let second = tokio::spawn(lock(2));
        until(&mut keys, EventType::Put, "l/2").await;
        let third = tokio::spawn(lock(3));
        until(&mut keys, EventType::Put, "l/3").await;
        // Its client leaves, and its key with it.
        second.abort();
        until(&mut keys, EventType::Delete, "l/2").await;
        assert!(!third.is_finished());
        let mut locks = LockClient::new(channel.clone());
        locks.unlock(UnlockRequest { key: first.key }).await.unwrap();
        let third = third.await.unwrap().unwrap().into_inner();
        assert_eq!(third.key, "l/3");
        // A deadline ends the wait in the same way.
        let mut request = Request::new(LockRequest { name: "l".into(), lease: 2 });
        request.set_timeout(Duration::from_millis(50));
        let status = locks.lock(request).await.unwrap_err();
        assert!([Code::Cancelled, Code::DeadlineExceeded].contains(&status.code()), "{status}");
        until(&mut keys, EventType::Delete, "l/2").await;
    })
    .await;
}

#[tokio::test]
async fn an_election_passes_on_and_its_observers_see_each_value() {
    with_server(|client, channel| async move {
        grant(&client, 1).await;
        grant(&client, 2).await;
        let mut keys = keys(&client, "e").await;
        let mut elections = ElectionClient::new(channel.clone());
        let name = Bytes::from_static(b"e");
        let request = LeaderRequest { name: name.clone() };
        let status = elections.leader(request.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, "election: no leader"));
        let mut observed = elections.observe(request).await.unwrap().into_inner();
        let campaign = |value: &'static str, lease| {
            let (mut elections, name) = (elections.clone(), name.clone());
            async move {
                let request = CampaignRequest { name, lease, value: value.into() };
                elections.campaign(request).await.unwrap().into_inner().leader.unwrap()
            }
        };
        let first = campaign("one", 1).await;
        let rev = first.rev;
        assert_eq!(first, LeaderKey { name: name.clone(), key: "e/1".into(), rev, lease: 1 });
        let mut saw = async |value: &str| {
            let kv = observed.message().await.unwrap().unwrap().kv.unwrap();
            assert_eq!(kv.value, value);
        };
        saw("one").await;
        let second = tokio::spawn(campaign("two", 2));
        until(&mut keys, EventType::Put, "e/2").await;
        let proclaim = ProclaimRequest { leader: Some(first.clone()), value: "eins".into() };
        elections.proclaim(proclaim.clone()).await.unwrap();
        saw("eins").await;
        assert!(!second.is_finished());
        elections.resign(ResignRequest { leader: Some(first) }).await.unwrap();
        assert_eq!(second.await.unwrap().key, "e/2");
        saw("two").await;
        let status = elections.proclaim(proclaim).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, "election: not leader"));
    })
    .await;
}
