//! The Cluster service.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/member.go.

use crate::call::Call;
use crate::host::Host;
use net::Url;
use proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use rpc::body::{Reply, encoded};
use rpc::{Error, Status};

// Headers of this service carry no revision.

pub(crate) async fn member_list<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberListRequest| false).await?;
    let members = service.host.members(request.linearizable).await?;
    Ok(encoded(&MemberListResponse { header: service.header_at(0), members }))
}

pub(crate) async fn member_add<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberAddRequest| false).await?;
    let peer_urls = checked_urls(&request.peer_ur_ls)?;
    service.host.require_admin().await?;
    let (member, members) = service.host.member_add(peer_urls, request.is_learner).await?;
    let header = service.header_at(0);
    Ok(encoded(&MemberAddResponse { header, member: Some(member), members }))
}

pub(crate) async fn member_remove<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberRemoveRequest| false).await?;
    let members = service.host.member_remove(request.id).await?;
    Ok(encoded(&MemberRemoveResponse { header: service.header_at(0), members }))
}

pub(crate) async fn member_update<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberUpdateRequest| false).await?;
    // etcd does not check the URLs here, and its members panic when they apply an invalid one.
    checked_urls(&request.peer_ur_ls)?;
    let members = service.host.member_update(request.id, request.peer_ur_ls).await?;
    Ok(encoded(&MemberUpdateResponse { header: service.header_at(0), members }))
}

pub(crate) async fn member_promote<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &MemberPromoteRequest| false).await?;
    let members = service.host.member_promote(request.id).await?;
    Ok(encoded(&MemberPromoteResponse { header: service.header_at(0), members }))
}

/// Parses and sorts the URLs. There must be at least one.
fn checked_urls(texts: &[String]) -> Result<Vec<String>, Status> {
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| Url::parse(text)).collect();
    let mut urls: Vec<String> = match urls {
        Ok(urls) if !urls.is_empty() => urls.iter().map(Url::to_string).collect(),
        Ok(_) | Err(_) => return Err(Error::MemberBadUrls.into()),
    };
    urls.sort_unstable();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_and_sorted_as_by_etcd() {
        let urls = |texts: &[&str]| {
            checked_urls(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(urls(&[" http://b:1", "http://a:2"]).unwrap(), ["http://a:2", "http://b:1"]);
        for bad in [
            &[][..],
            &[""],
            &["localhost:2380"],
            &["http://a"],
            &["http://a:1/path"],
            &["ftp://a:1"],
            &["http://a:1", "x"],
        ] {
            let status = urls(bad).unwrap_err();
            assert_eq!(status, Status::from(Error::MemberBadUrls), "{bad:?}");
        }
    }
}
