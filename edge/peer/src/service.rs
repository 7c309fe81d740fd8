//! The endpoints of the peer port.
//!
//! Source: etcd v3.7 rafthttp/http.go, etcdhttp/peer.go, lease/leasehttp/http.go, corrupt.go.

use crate::limits::TEXT_BYTES_MAX;
use crate::probe::format_time;
use crate::shared::Shared;
use crate::snapshot_receive::{self, Reception};
use crate::start;
use crate::writer::StreamWriter;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response};
use net::plain::{BodyError, Handler, PlainBody, PlainRequest};
use prost::Message as _;
use proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use proto::{LeaseId, NodeId};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::headers::CLUSTER;
use wire::{HashKvAnswer, PeerHeaders, PeerRefusal, Received, decode_message, hash_kv_query};

/// An error of the member, with its HTTP status and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRefusal {
    /// The HTTP status.
    pub status: u16,
    /// The text, without the line feed that follows it.
    pub text: String,
}

/// The member behind the endpoints besides those of raft. [`Handler::answer`] answers `/members`,
/// `/version` and unknown paths.
pub trait PeerHost: Handler {
    /// Promotes a learner, if this member leads. Returns the new list of members in the form of
    /// `/members`.
    fn promote(
        &self,
        member: NodeId,
        authorization: Option<String>,
    ) -> impl Future<Output = Result<String, HostRefusal>>;
    /// The hash up to a revision; 0 for the current one.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKvAnswer, HostRefusal>>;
    /// Renews a lease, if this member leads. Returns its TTL in seconds.
    fn renew_lease(&self, lease: LeaseId) -> impl Future<Output = Result<i64, HostRefusal>>;
    /// The remaining time of a lease, if this member leads.
    fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<LeaseTimeToLiveResponse, HostRefusal>>;
    /// Whether a downgrade is enabled, by a linearizable read.
    fn downgrade_enabled(&self) -> impl Future<Output = Result<bool, HostRefusal>>;
}

/// Serves the peer port.
#[derive(Debug)]
pub struct PeerService<H> {
    shared: Arc<Shared>,
    host: Arc<H>,
    reception: Reception,
}

impl<H: PeerHost> Handler for PeerService<H> {
    async fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Bytes> {
        self.host.answer(method, path, query).await
    }

    async fn serve(&self, request: PlainRequest) -> Response<PlainBody> {
        let path = request.head.uri.path().to_owned();
        match &*path {
            "/raft" => self.whole(self.raft(request).await),
            "/raft/snapshot" => self.whole(self.snapshot(request).await),
            "/raft/probing" => probing(&request).map(PlainBody::whole),
            path if path.starts_with("/raft/stream/") => self.stream(&request),
            "/members/hashkv" => self.hash_kv(request).await.map(PlainBody::whole),
            "/leases" => self.renew(request).await.map(PlainBody::whole),
            "/leases/internal" => self.time_to_live(request).await.map(PlainBody::whole),
            "/downgrade/enabled" => self.downgrade(&request).await.map(PlainBody::whole),
            path if path.starts_with("/members/promote/") => {
                self.promote(&request).await.map(PlainBody::whole)
            }
            _ => {
                let query = request.head.uri.query().unwrap_or("");
                let answer = self.host.answer(&request.head.method, &path, query).await;
                let names_cluster = path == "/members" && answer.status().is_success();
                let answer = if names_cluster { self.with_cluster(answer) } else { answer };
                answer.map(PlainBody::whole)
            }
        }
    }
}

fn text(status: u16, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{text}\n")));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn content(kind: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn not_allowed(method: &'static str) -> Response<Bytes> {
    let mut response = text(405, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    response
}

fn refused(refusal: &HostRefusal) -> Response<Bytes> {
    text(refusal.status, &refusal.text)
}

/// A result of `/raft` and `/raft/snapshot`.
type Posted = Result<(), PostRefusal>;

enum PostRefusal {
    Method,
    Peer(PeerRefusal),
}

impl From<PeerRefusal> for PostRefusal {
    fn from(refusal: PeerRefusal) -> PostRefusal {
        PostRefusal::Peer(refusal)
    }
}

impl<H: PeerHost> PeerService<H> {
    pub(crate) fn new(shared: Arc<Shared>, host: Arc<H>) -> PeerService<H> {
        PeerService { shared, host, reception: Reception::default() }
    }

    fn headers(request: &PlainRequest) -> PeerHeaders {
        PeerHeaders::read(|name| request.header(name).map(str::to_owned))
    }

    /// The response to a message: 204, or the refusal.
    fn whole(&self, posted: Posted) -> Response<PlainBody> {
        let response = match posted {
            Ok(()) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = http::StatusCode::NO_CONTENT;
                response
            }
            Err(PostRefusal::Method) => not_allowed("POST"),
            Err(PostRefusal::Peer(refusal)) => {
                tracing::debug!(%refusal, "refused a message of a peer");
                let mut response = text(refusal.status(), &refusal.to_string());
                if refusal.status() == 500 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            }
        };
        self.with_cluster(response).map(PlainBody::whole)
    }

    fn with_cluster(&self, mut response: Response<Bytes>) -> Response<Bytes> {
        let id = format!("{:x}", self.shared.local.cluster);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(HeaderName::from_static("x-etcd-cluster-id"), id);
        }
        response
    }

    /// Makes the checks that apply to messages and snapshots, in etcd's order. Also records the
    /// sender's URLs, so that it can be answered.
    fn check_post(&self, request: &PlainRequest) -> Result<PeerHeaders, PostRefusal> {
        if request.head.method != Method::POST {
            return Err(PostRefusal::Method);
        }
        let headers = Self::headers(request);
        self.shared.local().check_compatible(&headers).inspect_err(|refusal| {
            self.warn_incompatible(&headers, refusal);
        })?;
        start::add_remote(&self.shared, &headers);
        Ok(headers)
    }

    async fn raft(&self, mut request: PlainRequest) -> Posted {
        let headers = self.check_post(&request)?;
        let failures = |from: &str| {
            let peers = &self.shared.counters.metrics.raft.peers;
            peers.received_failures.with_label_values(&[from]).inc();
        };
        let from = headers.from.as_deref().unwrap_or("");
        let body = self.read_body(&mut request).await.inspect_err(|_| failures(from))?;
        let len = body.0.len() as u64;
        let received = decode_message(body.0).map_err(|error| {
            tracing::warn!("local-member-id" = format!("{:x}", self.shared.local.member), from, %error, "failed to unmarshal Raft message");
            failures(from);
            PeerRefusal::Unmarshalling
        })?;
        let message = match received {
            Received::Message(message) => *message,
            // Raft drops these, too.
            Received::LinkHeartbeat | Received::Refused(_) => return Ok(()),
        };
        if matches!(message.body, raft::Body::Snapshot(_)) {
            // A message with a snapshot must come to `/raft/snapshot`, with its database.
            return Err(PeerRefusal::Processing.into());
        }
        let name = format!("{:x}", message.from);
        self.shared.receive(message).map_err(|_| PeerRefusal::Processing)?;
        let received = &self.shared.counters.metrics.raft.peers.received_bytes;
        received.with_label_values(&[&name]).inc_by(len);
        Ok(())
    }

    /// Reads the body. Also returns the guard that counts its bytes against
    /// [`BODIES_BYTES_MAX`](crate::limits::BODIES_BYTES_MAX).
    async fn read_body(
        &self,
        request: &mut PlainRequest,
    ) -> Result<(Bytes, Vec<crate::shared::BodyBytes>), PeerRefusal> {
        let (mut read, mut held) = (bytes::BytesMut::new(), Vec::new());
        let whole = async {
            while let Some(chunk) = request.chunk().await? {
                if read.len() + chunk.len() > self.shared.message_bytes_max() {
                    return Err(BodyError::TooLarge);
                }
                held.push(self.shared.take_body(chunk.len()).ok_or(BodyError::TooLarge)?);
                read.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let whole = tokio::time::timeout(net::limits::BODY_TIME_MAX, whole).await;
        match whole {
            Ok(Ok(())) => Ok((read.freeze(), held)),
            Ok(Err(error)) => {
                tracing::warn!("local-member-id" = format!("{:x}", self.shared.local.member), %error, "failed to read Raft message");
                Err(PeerRefusal::Reading)
            }
            Err(_) => Err(PeerRefusal::Reading),
        }
    }

    async fn snapshot(&self, mut request: PlainRequest) -> Posted {
        self.check_post(&request)?;
        Ok(snapshot_receive::receive(&self.shared, &self.reception, &mut request).await?)
    }

    fn warn_incompatible(&self, headers: &PeerHeaders, refusal: &PeerRefusal) {
        let from = headers.from.as_deref().unwrap_or("");
        if *refusal == PeerRefusal::ClusterMismatch {
            tracing::warn!(
                "local-member-id" = format!("{:x}", self.shared.local.member),
                "local-member-cluster-id" = format!("{:x}", self.shared.local.cluster),
                "remote-peer-server-cluster-id" = headers.cluster.as_deref().unwrap_or(""),
                "remote-peer-id" = from,
                "request cluster ID mismatch"
            );
        } else {
            tracing::warn!("local-member-id" = format!("{:x}", self.shared.local.member), "local-member-server-version" = %self.shared.local().version, "remote-peer-server-version" = headers.server_version.as_deref().unwrap_or("2.0.0"), "remote-peer-id" = from, "failed to check version compatibility");
        }
    }

    fn stream(&self, request: &PlainRequest) -> Response<PlainBody> {
        let response = if request.head.method == Method::GET {
            self.open_stream(request).unwrap_or_else(|refusal| {
                text(refusal.status(), &refusal.to_string()).map(PlainBody::whole)
            })
        } else {
            not_allowed("GET").map(PlainBody::whole)
        };
        self.with_local(response)
    }

    /// Adds the headers that the reader of a stream checks before the status.
    fn with_local(&self, mut response: Response<PlainBody>) -> Response<PlainBody> {
        for (name, value) in self.shared.local().response_headers() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
            {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn open_stream(&self, request: &PlainRequest) -> Result<Response<PlainBody>, PeerRefusal> {
        let (shared, headers) = (&self.shared, Self::headers(request));
        let path = request.head.uri.path();
        let (kind, from) = match shared.local().check_stream(path, &headers, &**shared) {
            Ok(stream) => stream,
            Err(refusal) => {
                self.stream_refused(&refusal, path, &headers);
                return Err(refusal);
            }
        };
        let link = shared.table().peers.get(&from).cloned().ok_or(PeerRefusal::SenderNotFound)?;
        let writer = StreamWriter::open(link, Arc::clone(shared), kind);
        let writer = writer.ok_or(PeerRefusal::SenderNotFound)?;
        let silence_max = shared.options.write_time_max;
        Ok(Response::new(PlainBody::stream(Box::new(writer), silence_max)))
    }

    fn stream_refused(&self, refusal: &PeerRefusal, path: &str, headers: &PeerHeaders) {
        let local = format!("{:x}", self.shared.local.member);
        let from = headers.from.as_deref().unwrap_or("");
        if *refusal == PeerRefusal::SenderNotFound {
            start::add_remote(&self.shared, headers);
            tracing::warn!(
                "local-member-id" = local,
                "remote-peer-id-from" = from,
                path,
                "failed to find remote peer in cluster"
            );
        } else if *refusal == PeerRefusal::Removed {
            tracing::warn!(
                "local-member-id" = local,
                "remote-peer-id-from" = from,
                "rejected stream from remote peer because it was removed"
            );
        } else if matches!(
            refusal,
            PeerRefusal::InvalidPath | PeerRefusal::InvalidFrom | PeerRefusal::ToMismatch
        ) {
            tracing::warn!("local-member-id" = local, "remote-peer-id-from" = from, path, error = %refusal, "refused a stream of a peer");
        } else {
            self.warn_incompatible(headers, refusal);
        }
    }

    async fn promote(&self, request: &PlainRequest) -> Response<Bytes> {
        if request.head.method != Method::POST {
            return not_allowed("POST");
        }
        let id = request.head.uri.path().trim_start_matches("/members/promote/");
        let Ok(id) = id.parse() else {
            return self.with_cluster(text(404, &format!("member {id} not found in cluster")));
        };
        let authorization = request.header("Authorization").map(str::to_owned);
        let answer = match self.host.promote(NodeId(id), authorization).await {
            Ok(members) => content("application/json", members),
            Err(refusal) if refusal.status == 500 => {
                let mut response =
                    content("application/json", "{\"message\":\"Internal Server Error\"}");
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
            Err(refusal) => refused(&refusal),
        };
        self.with_cluster(answer)
    }

    async fn hash_kv(&self, mut request: PlainRequest) -> Response<Bytes> {
        let own = format!("{:x}", self.shared.local.cluster);
        match request.header(CLUSTER) {
            _ if request.head.method != Method::GET => not_allowed("GET"),
            Some(id) if !id.is_empty() && id != own => text(412, "cluster ID mismatch"),
            _ => match request.read(TEXT_BYTES_MAX).await {
                Err(_) => text(400, "error reading body"),
                Ok(body) => match hash_kv_query(&body) {
                    Err(_) => text(400, "error unmarshalling request"),
                    Ok(query) => match self.host.hash_kv(query.revision).await {
                        Ok(hash) => self.with_cluster(content("application/json", hash.to_json())),
                        Err(refusal) => refused(&refusal),
                    },
                },
            },
        }
    }

    async fn renew(&self, request: PlainRequest) -> Response<Bytes> {
        let body = match lease_body(request).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let Ok(request) = LeaseKeepAliveRequest::decode(body) else {
            return text(400, "error unmarshalling request");
        };
        match self.host.renew_lease(LeaseId(request.id)).await {
            Ok(ttl) => {
                let answer = LeaseKeepAliveResponse { header: None, id: request.id, ttl };
                content("application/protobuf", answer.encode_to_vec())
            }
            Err(refusal) => refused(&refusal),
        }
    }

    async fn time_to_live(&self, request: PlainRequest) -> Response<Bytes> {
        let body = match lease_body(request).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let request = LeaseInternalRequest::decode(body).ok();
        let Some(request) = request.and_then(|request| request.lease_time_to_live_request) else {
            return text(400, "error unmarshalling request");
        };
        match self.host.lease_time_to_live(request).await {
            Ok(answer) => {
                let answer = LeaseInternalResponse { lease_time_to_live_response: Some(answer) };
                content("application/protobuf", answer.encode_to_vec())
            }
            Err(refusal) => refused(&refusal),
        }
    }

    async fn downgrade(&self, request: &PlainRequest) -> Response<Bytes> {
        if request.head.method != Method::GET {
            return not_allowed("GET");
        }
        let answer = match self.host.downgrade_enabled().await {
            Ok(enabled) => content("text/plain", enabled.to_string()),
            Err(refusal) => refused(&refusal),
        };
        self.with_cluster(answer)
    }
}

async fn lease_body(mut request: PlainRequest) -> Result<Bytes, Response<Bytes>> {
    if request.head.method != Method::POST {
        return Err(text(405, "Method Not Allowed"));
    }
    request.read(TEXT_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => text(413, "request body too large"),
        BodyError::TimedOut | BodyError::Broken(_) => text(400, "error reading body"),
    })
}

fn probing(request: &PlainRequest) -> Response<Bytes> {
    if request.head.method != Method::GET && request.head.method != Method::HEAD {
        return not_allowed("GET");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let body = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", format_time(now));
    content("text/plain; charset=utf-8", body)
}
