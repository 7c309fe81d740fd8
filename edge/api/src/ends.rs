//! What ends a stream before its client does: the deadline that it came with, and the loss of a
//! leader where it requires one.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/interceptor.go monitorLeader.

use crate::host::Host;
use crate::shared::Shared;
use rpc::{Error, Status};
use tokio::time::Instant;

/// Waits for such an end; for ever if none is possible.
pub(crate) async fn early<H: Host>(
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
