//! Whether the cluster has a leader, for streams that must end when it has none.
//!
//! The member at the other end of a stream that requires a leader ends it when it loses its leader. So
//! a stream is kept open, with a watch on it that never has an event.
//!
//! Source: etcd server/proxy/grpcproxy/leader.go @ v3.7.1, where a broken connection counts as a lost
//! leader, too, and the streams of clients are not ended, since their header is looked for in the
//! wrong place.

use bytes::Bytes;
use client::{Client, Forwarded};
use prost::Message as _;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use std::time::Duration;
use tokio::sync::watch;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// The key that is watched. That of etcd.
const KEY: &[u8] = b"__lostleader";
/// The pause before another stream is opened. That of etcd.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known about the leader. It is there until a member says that it is not.
#[derive(Clone, Debug)]
pub(crate) struct Leader(watch::Receiver<bool>);

impl Leader {
    /// The knowledge, and its source.
    pub(crate) fn new() -> (watch::Sender<bool>, Leader) {
        let (sender, receiver) = watch::channel(true);
        (sender, Leader(receiver))
    }

    pub(crate) fn is_lost(&self) -> bool {
        !*self.0.borrow()
    }

    /// Waits until the leader is lost; for ever without one to look after.
    pub(crate) async fn lost(leader: Option<Leader>) {
        if let Some(Leader(mut receiver)) = leader
            && receiver.wait_for(|has_leader| !has_leader).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Keeps the knowledge up to date.
pub(crate) async fn follow(client: Client, has_leader: watch::Sender<bool>) {
    loop {
        let Err(error) = watch_leader(&client, &has_leader).await;
        if error.message() == rpc::Error::NoLeader.text() {
            has_leader.send_replace(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches on one stream until it ends.
async fn watch_leader(
    client: &Client,
    has_leader: &watch::Sender<bool>,
) -> Result<std::convert::Infallible, client::Error> {
    let create = pb::WatchCreateRequest {
        key: KEY.into(),
        // No key has this revision.
        start_revision: i64::MAX - 2,
        ..Default::default()
    };
    let request_union = Some(RequestUnion::CreateRequest(create));
    let request: Bytes = pb::WatchRequest { request_union }.encode_to_vec().into();
    let (requests, outbox) = tokio::sync::mpsc::channel(1);
    // There is room for one, and the other end is here.
    let queued = requests.try_send(request);
    assert!(queued.is_ok(), "a new queue has room");
    let outbox = tokio_stream::wrappers::ReceiverStream::new(outbox);
    let mut responses: Forwarded = client.forward_stream(WATCH, outbox, true).await?;
    while responses.next().await?.is_some() {
        has_leader.send_replace(true);
    }
    Err(client::Error::Http("the stream has ended".to_owned()))
}
