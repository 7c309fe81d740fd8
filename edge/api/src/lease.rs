//! The Lease service.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{lease,quota}.go.

use crate::call::{Call, mismatch};
use crate::call_metrics::StreamCounters;
use crate::host::{Growth, Host};
use crate::requests::Requests;
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use rpc::body::{Reply, encoded, stream};
use rpc::queue::{Feeder, queue};
use rpc::{Error, Status};

pub(crate) async fn grant<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &LeaseGrantRequest| false).await?;
    if !service.host.fits_quota(Growth::Grant) {
        return Err(Error::NoSpace.into());
    }
    let span = service.request_span(&request);
    let request =
        InternalRaftRequest { lease_grant: Some(request), ..InternalRaftRequest::default() };
    span.proposed();
    let answer = service.host.propose(request).await;
    span.answered(&answer);
    let Answer::LeaseGrant(answer) = answer? else { return Err(mismatch()) };
    Ok(encoded(&LeaseGrantResponse {
        header: service.header_or_current(answer.revision),
        id: answer.id,
        ttl: answer.ttl_s,
        error: String::new(),
    }))
}

pub(crate) async fn revoke<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &LeaseRevokeRequest| false).await?;
    let span = service.request_span(&request);
    let request =
        InternalRaftRequest { lease_revoke: Some(request), ..InternalRaftRequest::default() };
    span.proposed();
    let answer = service.host.propose(request).await;
    span.answered(&answer);
    let Answer::LeaseRevoke { revision } = answer? else { return Err(mismatch()) };
    Ok(encoded(&LeaseRevokeResponse { header: service.header_or_current(revision) }))
}

pub(crate) async fn time_to_live<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &LeaseTimeToLiveRequest| false).await?;
    let missing = || LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() };
    let found = service.host.lease_time_to_live(request.id, request.keys).await?;
    let mut response = found.unwrap_or_else(missing);
    response.header = service.header();
    Ok(encoded(&response))
}

pub(crate) async fn leases<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, _) = call.request(|_: &LeaseLeasesRequest| false).await?;
    let leases = service.host.leases().await?;
    let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
    Ok(encoded(&LeaseLeasesResponse { header: service.header(), leases }))
}

pub(crate) fn keep_alive<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    call.check_stream()?;
    let (feeder, receiver) = queue();
    let deadline = call.deadline;
    let requires_leader = call.requires_leader();
    let (tally, requests) = call.into_stream(&feeder, "lease-keepalive");
    net::tasks::spawn_local("lease keep-alive stream", async move {
        let status = tokio::select! {
            ended = renew(&tally, requests, &feeder) => ended.err().unwrap_or(Status::OK),
            status = crate::cancellation::wait(&tally.service, deadline, requires_leader) => status,
        };
        tally.end(status.code);
        feeder.end(status);
    });
    Ok(stream(receiver))
}

/// Renews leases one after the other until the client closes its side.
async fn renew<H: Host>(
    tally: &StreamCounters<H>,
    mut requests: Requests<H>,
    feeder: &Feeder,
) -> Result<(), Status> {
    while let Some(request) = requests.next::<LeaseKeepAliveRequest>().await? {
        let id = request.id;
        // The header is taken before the renewal, so that a response never shows a lease alive at
        // a revision after its revocation.
        let header = tally.service.header();
        let span = tally.service.request_span(&request);
        let renewed = tally.service.host.lease_renew(id).await;
        drop(span);
        tally.service.audit_request(&request, renewed.as_ref().map(|_| ())).await;
        let ttl = renewed?;
        let answer = LeaseKeepAliveResponse { header, id, ttl };
        tally.sent(1, answer.encoded_len());
        feeder.encoded(&answer);
    }
    Ok(())
}
