//! The Cluster service: so far only `MemberList`.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/member.go.

use crate::call::Call;
use crate::host::Host;
use proto::etcdserverpb::{MemberListRequest, MemberListResponse};
use rpc::Status;
use rpc::body::{Reply, encoded};

pub(crate) async fn member_list<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberListRequest| false).await?;
    let members = service.host.members(request.linearizable).await?;
    // Headers of this service carry no revision.
    Ok(encoded(&MemberListResponse { header: service.header_at(0), members }))
}
