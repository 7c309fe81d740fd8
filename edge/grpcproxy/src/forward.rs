//! Calls that are passed on as they are.
//!
//! Source: etcd server/proxy/grpcproxy/{auth,cluster,election,lease,lock,maintenance}.go @ v3.7.1.
//! There, the keep-alives of a stream are answered from those that the proxy's own client sends; here,
//! each goes to a server.

use crate::call::{Call, WAITING_MAX, answer, expired, is_over};
use crate::upstream::status;
use bytes::Bytes;
use client::Client;
use net::tasks::spawn_local;
use rpc::Status;
use rpc::body::{Reply, framed, stream};
use rpc::call::unknown_method;
use rpc::frame::{Messages, in_stream};
use rpc::queue::{Feeder, queue};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Requests of a stream that wait for their server.
const REQUESTS_MAX: usize = 1;

/// Whether a method has one request and one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unary,
    Stream,
}

/// The methods that are passed on.
const METHODS: [(&str, Shape); 42] = [
    ("/etcdserverpb.Lease/LeaseGrant", Shape::Unary),
    ("/etcdserverpb.Lease/LeaseRevoke", Shape::Unary),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Shape::Stream),
    ("/etcdserverpb.Lease/LeaseLeases", Shape::Unary),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Shape::Unary),
    ("/etcdserverpb.Cluster/MemberAdd", Shape::Unary),
    ("/etcdserverpb.Cluster/MemberRemove", Shape::Unary),
    ("/etcdserverpb.Cluster/MemberUpdate", Shape::Unary),
    ("/etcdserverpb.Cluster/MemberList", Shape::Unary),
    ("/etcdserverpb.Cluster/MemberPromote", Shape::Unary),
    ("/etcdserverpb.Maintenance/Alarm", Shape::Unary),
    ("/etcdserverpb.Maintenance/Status", Shape::Unary),
    ("/etcdserverpb.Maintenance/Defragment", Shape::Unary),
    ("/etcdserverpb.Maintenance/Hash", Shape::Unary),
    ("/etcdserverpb.Maintenance/HashKV", Shape::Unary),
    ("/etcdserverpb.Maintenance/Snapshot", Shape::Stream),
    ("/etcdserverpb.Maintenance/MoveLeader", Shape::Unary),
    ("/etcdserverpb.Maintenance/Downgrade", Shape::Unary),
    ("/etcdserverpb.Auth/AuthEnable", Shape::Unary),
    ("/etcdserverpb.Auth/AuthDisable", Shape::Unary),
    ("/etcdserverpb.Auth/AuthStatus", Shape::Unary),
    ("/etcdserverpb.Auth/Authenticate", Shape::Unary),
    ("/etcdserverpb.Auth/UserAdd", Shape::Unary),
    ("/etcdserverpb.Auth/UserGet", Shape::Unary),
    ("/etcdserverpb.Auth/UserList", Shape::Unary),
    ("/etcdserverpb.Auth/UserDelete", Shape::Unary),
    ("/etcdserverpb.Auth/UserChangePassword", Shape::Unary),
    ("/etcdserverpb.Auth/UserGrantRole", Shape::Unary),
    ("/etcdserverpb.Auth/UserRevokeRole", Shape::Unary),
    ("/etcdserverpb.Auth/RoleAdd", Shape::Unary),
    ("/etcdserverpb.Auth/RoleGet", Shape::Unary),
    ("/etcdserverpb.Auth/RoleList", Shape::Unary),
    ("/etcdserverpb.Auth/RoleDelete", Shape::Unary),
    ("/etcdserverpb.Auth/RoleGrantPermission", Shape::Unary),
    ("/etcdserverpb.Auth/RoleRevokePermission", Shape::Unary),
    ("/v3lockpb.Lock/Lock", Shape::Unary),
    ("/v3lockpb.Lock/Unlock", Shape::Unary),
    ("/v3electionpb.Election/Campaign", Shape::Unary),
    ("/v3electionpb.Election/Proclaim", Shape::Unary),
    ("/v3electionpb.Election/Leader", Shape::Unary),
    ("/v3electionpb.Election/Observe", Shape::Stream),
    ("/v3electionpb.Election/Resign", Shape::Unary),
];

/// The services with methods that are served.
const SERVICES: [&str; 8] = [
    "etcdserverpb.Auth",
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];

/// Passes a call on.
pub(crate) async fn forward(mut call: Call) -> Result<Reply, Status> {
    let path = call.head.uri.path();
    let Some((method, shape)) = METHODS.iter().find(|(method, _)| *method == path) else {
        return Err(unknown_method(path, &SERVICES));
    };
    match shape {
        Shape::Unary => {
            let request = call.request().await?;
            let response = call.client().forward(method, request).await;
            answer(&response.map_err(|error| status(&error))?)
        }
        Shape::Stream => Ok(forward_stream(call, method)),
    }
}

fn forward_stream(call: Call, method: &'static str) -> Reply {
    let (feeder, receiver) = queue();
    spawn_local("forwarded stream", async move {
        let (client, requires_leader) = (call.client(), call.requires_leader());
        let deadline = call.deadline;
        let (requests, outbox) = mpsc::channel(REQUESTS_MAX);
        let status = tokio::select! {
            status = receive(call.messages, requests) => status,
            status = send(&client, (method, requires_leader), outbox, &feeder) => status,
            status = expired(deadline) => status,
        };
        feeder.end(status);
    });
    stream(receiver)
}

/// Reads the requests of a client. Returns when the client breaks off.
async fn receive(
    mut messages: Messages<connection::RequestBody>,
    requests: mpsc::Sender<Bytes>,
) -> Status {
    loop {
        match messages.next().await {
            // An error means that the server has ended the stream, which the other side reports.
            Ok(Some(message)) => _ = requests.send(message).await,
            Ok(None) => break,
            Err(status) => return in_stream(status),
        }
    }
    drop(requests);
    std::future::pending().await
}

/// Sends the responses of a server to the client, as fast as that takes them. Returns how the stream
/// has ended.
async fn send(
    client: &Client,
    (method, requires_leader): (&'static str, bool),
    requests: mpsc::Receiver<Bytes>,
    feeder: &Feeder,
) -> Status {
    let passing = async {
        let requests = ReceiverStream::new(requests);
        let mut responses = client.forward_stream(method, requests, requires_leader).await?;
        while feeder.room(WAITING_MAX).await {
            match responses.next().await? {
                Some(response) => {
                    feeder.pieces(framed(response.len(), |to| to.shared(&response)));
                }
                None => break,
            }
        }
        Ok(())
    };
    tokio::select! {
        passed = passing => passed.map_or_else(|error| status(&error), |()| Status::OK),
        () = is_over(feeder) => Status::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The methods that `kv` and `watch` serve.
    const OWN_METHODS: [&str; 7] = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/DeleteRange",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Watch/Watch",
    ];

    #[test]
    fn every_method_of_etcds_services_is_served() {
        let pool = prost_reflect::DescriptorPool::decode(rpc::stubs::DESCRIPTORS).unwrap();
        let services = pool.services().filter(|it| SERVICES.contains(&it.full_name()));
        let all: Vec<String> = services
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|it| format!("/{}/{}", it.parent_service().full_name(), it.name()))
            .collect();
        assert_eq!(all.len(), METHODS.len() + OWN_METHODS.len());
        for path in all {
            let is_own = OWN_METHODS.contains(&&*path);
            let is_passed = METHODS.iter().any(|(method, _)| *method == path);
            assert!(is_own != is_passed, "{path}");
        }
    }
}
