//! Requests to other members outside the streams: those of a member before it starts, and those
//! that it forwards to the leader.
//!
//! Source: etcd v3.7 etcdserver/cluster_util.go, lease/leasehttp/http.go, corrupt.go.

use crate::dial::{Dialer, To};
use crate::http1::{exchange, head};
use bytes::Bytes;
use cluster::Member;
use http::Response;
use http_body_util::Full;
use net::Url;
use prost::Message as _;
use proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use proto::{LeaseId, NodeId};
use std::fmt;
use std::time::Duration;
use wire::headers::CLUSTER;
use wire::{HashKvAnswer, HashKvQuery, PeerVersions, members_from_json};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why a request to another member failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteError {
    /// It could not be reached in time, or its answer could not be read.
    Unreachable(String),
    /// It has refused the request: the status and the text.
    Refused(u16, String),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::Unreachable(why) => f.write_str(why),
            RemoteError::Refused(status, text) => write!(f, "status {status}: {text}"),
        }
    }
}

impl std::error::Error for RemoteError {}

/// The members of a cluster, as one of them reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    /// The cluster's id.
    pub cluster: u64,
    /// The members.
    pub members: Vec<Member>,
}

/// Runs a request on a temporary runtime, for callers without one, such as the start.
///
/// # Errors
/// The errors of the request, and [`RemoteError::Unreachable`] if no runtime can be created.
pub fn blocking<T>(
    request: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RemoteError::Unreachable(error.to_string()))?;
    runtime.block_on(request)
}

/// The members, from the first URL that answers. Must be awaited on a runtime.
///
/// # Errors
/// The error of the last URL.
pub async fn fetch_members(
    dialer: &Dialer,
    urls: &[Url],
    time: Duration,
) -> Result<RemoteCluster, RemoteError> {
    let mut last = RemoteError::Unreachable("no URL is given".to_owned());
    for url in urls {
        match fetch_members_of(dialer, url, time).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                tracing::warn!(address = url.as_str(), %error, "failed to get cluster response");
                last = error;
            }
        }
    }
    Err(last)
}

async fn fetch_members_of(
    dialer: &Dialer,
    url: &Url,
    time: Duration,
) -> Result<RemoteCluster, RemoteError> {
    let answer = ask((dialer, url), ("GET", "/members"), &[], Bytes::new(), time).await?;
    let id = answer.headers().get(CLUSTER).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let cluster = cluster::parse_hex_id(id)
        .ok_or_else(|| RemoteError::Unreachable(format!("bad cluster ID {id:?}")))?
        .0;
    let members = members_from_json(answer.body()).map_err(bad)?;
    Ok(RemoteCluster { cluster, members })
}

/// The versions of a member, from the first of its URLs that answers.
///
/// # Errors
/// The error of the last URL.
pub async fn fetch_version(
    dialer: &Dialer,
    urls: &[Url],
    time: Duration,
) -> Result<PeerVersions, RemoteError> {
    let mut last = RemoteError::Unreachable("no URL is given".to_owned());
    for url in urls {
        let answer = ask((dialer, url), ("GET", "/version"), &[], Bytes::new(), time).await;
        match answer.and_then(|answer| PeerVersions::from_json(answer.body()).map_err(bad)) {
            Ok(versions) => return Ok(versions),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the leader to promote a learner. Returns the new list of members.
///
/// # Errors
/// [`RemoteError`].
pub async fn promote(
    dialer: &Dialer,
    url: &Url,
    member: NodeId,
    authorization: Option<String>,
    time: Duration,
) -> Result<Vec<Member>, RemoteError> {
    let path = format!("/members/promote/{member}");
    let headers: Vec<_> = authorization.into_iter().map(|token| ("Authorization", token)).collect();
    let answer = ask((dialer, url), ("POST", &path), &headers, Bytes::new(), time).await?;
    members_from_json(answer.body()).map_err(bad)
}

/// The hash of a member up to a revision.
///
/// # Errors
/// [`RemoteError`].
pub async fn hash_kv(
    dialer: &Dialer,
    url: &Url,
    cluster: u64,
    revision: i64,
    time: Duration,
) -> Result<HashKvAnswer, RemoteError> {
    let query = HashKvQuery { revision }.to_json();
    let headers =
        [("Content-Type", "application/json".to_owned()), (CLUSTER, format!("{cluster:x}"))];
    let answer =
        ask((dialer, url), ("GET", "/members/hashkv"), &headers, query.into(), time).await?;
    HashKvAnswer::from_json(answer.body()).map_err(bad)
}

/// Asks the leader to renew a lease. Returns its TTL in seconds.
///
/// # Errors
/// [`RemoteError`].
pub async fn renew_lease(
    dialer: &Dialer,
    url: &Url,
    lease: LeaseId,
    time: Duration,
) -> Result<i64, RemoteError> {
    let request = LeaseKeepAliveRequest { id: lease.0 }.encode_to_vec();
    let answer = ask((dialer, url), ("POST", "/leases"), &protobuf(), request.into(), time).await?;
    let answer = LeaseKeepAliveResponse::decode(answer.into_body()).map_err(bad)?;
    if answer.id != lease.0 {
        return Err(RemoteError::Unreachable(format!("lease {lease:x} is not renewed")));
    }
    Ok(answer.ttl)
}

/// Asks the leader for the remaining time of a lease.
///
/// # Errors
/// [`RemoteError`].
pub async fn lease_time_to_live(
    dialer: &Dialer,
    url: &Url,
    request: LeaseTimeToLiveRequest,
    time: Duration,
) -> Result<LeaseTimeToLiveResponse, RemoteError> {
    let request = LeaseInternalRequest { lease_time_to_live_request: Some(request) };
    let body = request.encode_to_vec().into();
    let answer = ask((dialer, url), ("POST", "/leases/internal"), &protobuf(), body, time).await?;
    let answer = LeaseInternalResponse::decode(answer.into_body()).map_err(bad)?;
    answer.lease_time_to_live_response.ok_or_else(|| bad("an answer without its content"))
}

fn protobuf() -> [(&'static str, String); 1] {
    [("Content-Type", "application/protobuf".to_owned())]
}

fn bad(error: impl fmt::Display) -> RemoteError {
    RemoteError::Unreachable(error.to_string())
}

async fn ask(
    to: To<'_>,
    (method, path): (&str, &str),
    headers: &[(&str, String)],
    body: Bytes,
    time: Duration,
) -> Result<Response<Bytes>, RemoteError> {
    let mut request = head(method, to.1, path).header("Connection", "close");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(body)).map_err(bad)?;
    let answer = exchange(to, request, ANSWER_BYTES_MAX, time).await;
    let answer = answer.map_err(RemoteError::Unreachable)?;
    if answer.status() == http::StatusCode::OK {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(answer.body()).trim_end().to_owned();
    Err(RemoteError::Refused(answer.status().as_u16(), text))
}
