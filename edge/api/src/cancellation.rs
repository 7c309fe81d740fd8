//! The reasons to end a stream before its client does: its deadline has passed, or it requires a
//! leader and the member has lost it.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/interceptor.go monitorLeader.

use crate::host::Host;
use crate::shared::Shared;
use rpc::{Error, Status};
use tokio::time::Instant;

/// Waits until the stream must end; for ever if it has no deadline and requires no leader.
pub(crate) async fn wait<H: Host>(
    service: &Shared<H>,
    deadline: Option<Instant>,
    requires_leader: bool,
) -> Status {
    let over = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let leaderless = async {
        if requires_leader {
            service.leader_lost().await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = over => Status::deadline_exceeded(),
        () = leaderless => Error::NoLeader.into(),
    }
}
