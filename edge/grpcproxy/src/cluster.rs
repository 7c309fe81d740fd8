//! The list of members: the registered proxies, or this one, so that clients do not bypass them.
//!
//! Source: etcd server/proxy/grpcproxy/cluster.go @ v3.7.1.

use crate::call::{Call, answer};
use crate::forward::forward;
use crate::registry::Registered;
use prost::Message as _;
use proto::etcdserverpb as pb;
use rpc::Status;
use rpc::body::Reply;
use rpc::frame::decode;

/// Lists the members. If the proxy advertises no address, the cluster's own list is passed on.
pub(crate) async fn member_list(mut call: Call) -> Result<Reply, Status> {
    let Some(own) = call.proxy.advertised.clone() else { return forward(call).await };
    let request = call.request().await?;
    let _: pb::MemberListRequest = decode(request)?;
    let registered = call.proxy.registry.borrow();
    let all =
        if registered.is_empty() { vec![own] } else { registered.values().cloned().collect() };
    let members = all.into_iter().map(member).collect();
    answer(&pb::MemberListResponse { header: None, members }.encode_to_vec().into())
}

fn member(proxy: Registered) -> pb::Member {
    pb::Member { name: proxy.name, client_ur_ls: vec![proxy.address], ..Default::default() }
}
