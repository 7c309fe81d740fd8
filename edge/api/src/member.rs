//! The host in production: a worker's handle on the server. Reads are answered from the current
//! view, writes are proposed.
//!
//! Source: etcd v3.7 server/etcdserver/v3_server.go.

mod credentials;
mod errors;
mod file;
mod identity;
mod ranges;
mod txns;
mod worker_host;

use crate::host::{Deliver, Growth, Host, RangeChunks, RangeReply, SnapshotFile, WatchStream};
use crate::users::Admitted;
use connection::{ConnectionFault, RefusedRequest};
pub use credentials::{Authenticator, TokenKind};
pub(crate) use errors::refusal_status;
pub use errors::status_of;
pub use worker_host::WorkerHost;

use cluster::{CLUSTER_VERSION_MIN, ENTRIES_OF_3_5};
use errors::{denied_status, store_status};
use mvcc::View;
use proto::answer::{Answer, Origin, TxnAnswer};
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{
    AlarmMember, DowngradeInfo, DowngradeRequest, HashKvResponse, HashResponse,
    InternalRaftRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Member, RangeRequest,
    ResponseHeader, StatusResponse, TxnRequest, WatchCreateRequest, WatchRequest,
    watch_request::RequestUnion,
};
use proto::{LeaseId, NodeId, Op};
use rpc::{Code, Error, Status};
use server::Error as ServerError;
use server::metrics::grpc::Method;
use server::{EncodedRequest, Worker};
use state::{LeaseQuery, Reject, Reply, quota};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use watch::{ConnectionId, CreateRequest};

/// A defragmentation ends after this many commits that did not shrink the file.
const COMMITS_IN_VAIN_MAX: u32 = 10;

impl Host for WorkerHost {
    type Watch = WorkerWatchStream;

    fn with_token(&self, token: &str) -> WorkerHost {
        let mut host = self.clone();
        host.credentials.token = Some(token.into());
        host
    }

    fn with_certificate_name(&self, name: &str) -> WorkerHost {
        let mut host = self.clone();
        host.credentials.certificate_name = Some(name.into());
        host
    }

    async fn require_user(&self) -> Result<(), Status> {
        self.permit_user().await
    }

    async fn require_admin(&self) -> Result<(), Status> {
        self.permit_admin().await
    }

    async fn admit(&self, names_user: bool, bytes: usize) -> Result<Admitted, Status> {
        let (requests, all_bytes) = (&self.authenticator.requests, &self.authenticator.bytes);
        if !names_user && !requests.is_limited() && !all_bytes.is_limited() {
            return Ok(Admitted::default());
        }
        let Some(user) = self.user().await else { return Ok(Admitted::default()) };
        let place = requests.take(&user).inspect_err(|_| self.count_over_limit("requests"))?;
        let bytes = all_bytes.take_some(&user, bytes);
        let bytes = bytes.inspect_err(|_| self.count_over_limit("bytes"))?;
        Ok(Admitted { user: Some(user), place: place.map(Rc::new), bytes: bytes.map(Rc::new) })
    }

    async fn user(&self) -> Option<Rc<str>> {
        self.named_user().await
    }

    async fn authenticate(&self, name: String, password: String) -> Result<String, Status> {
        self.new_token(name, password).await
    }

    async fn hashed(&self, password: String) -> Result<String, Status> {
        self.authenticator.passwords.hashed(password).await
    }

    fn are_hashes_read(&self) -> bool {
        // A cluster has the lowest version until the versions of all its members are known.
        let version = self.worker.moment().published.cluster.version();
        version.is_none_or(|it| it <= CLUSTER_VERSION_MIN || it >= ENTRIES_OF_3_5)
    }

    async fn auth_status(&self) -> Result<(bool, u64), Status> {
        self.view(false).await?;
        self.caller().await?;
        let store = self.auth();
        Ok((store.is_enabled(), store.revision()))
    }

    fn origin(&self) -> Origin {
        self.worker.origin()
    }

    fn counters(&self, path: &str) -> Option<Arc<Method>> {
        self.worker.metrics().grpc.method(path).cloned()
    }

    fn count_client(&self, kind: &'static str, version: &[u8]) {
        self.worker.count_client(kind, version);
    }

    fn count_stream_failure(&self, api: &'static str) {
        let failures = &self.worker.metrics().network.stream_failures;
        failures.with_label_values(&["receive", api]).inc();
    }

    fn count_refused(&self, why: RefusedRequest) {
        let cause = match why {
            RefusedRequest::Streams => "streams",
            RefusedRequest::Headers => "headers",
            RefusedRequest::Malformed => "malformed",
        };
        self.worker.metrics().network.refused.with_label_values(&[cause]).inc();
    }

    fn count_fault(&self, fault: &ConnectionFault) {
        let code = fault.reason.name();
        self.worker.metrics().network.closed.with_label_values(&[code]).inc();
    }

    fn count_received(&self, bytes: usize) {
        self.worker.count_received(bytes);
    }

    fn count_sent(&self, bytes: usize) {
        self.worker.count_sent(bytes);
    }

    fn revision(&self) -> i64 {
        self.worker.moment().published.view.revision()
    }

    fn has_leader(&self) -> bool {
        self.worker.moment().leadership.leader != NodeId::NONE
    }

    fn is_learner(&self) -> bool {
        let moment = self.worker.moment();
        let member = self.worker.identity().member;
        moment.published.cluster.member(member).is_some_and(|member| member.is_learner)
    }

    fn fits_quota(&self, request: Growth<'_>) -> bool {
        let cost = match request {
            Growth::Put(request) => quota::put_cost(request),
            Growth::Txn(request) => quota::txn_cost(request),
            Growth::Grant => quota::LEASE_COST,
        };
        cost == 0 || self.worker.fits_quota(cost)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, Status> {
        let begun = Instant::now();
        let result = self.read_range(&request).await;
        let took = begun.elapsed();
        self.worker.count_read(took);
        let requests = &self.worker.metrics().requests;
        requests.total.observe(Op::Range, result.is_ok(), took.as_secs_f64());
        result
    }

    async fn range_stream(&self, request: RangeRequest) -> Result<Box<dyn RangeChunks>, Status> {
        let view = self.view(request.serializable).await?;
        let caller = self.caller().await?;
        ranges::chunks(self, &caller, &view, &request)
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnAnswer, Status> {
        if state::txn::is_read_only(&request) {
            let view = self.view(state::txn::is_serializable(&request)).await?;
            // As in etcd, the time does not include the wait for the other members.
            let begun = Instant::now();
            let result = self.read_txn(&view, &request).await;
            let took = begun.elapsed();
            self.worker.count_read(took);
            let requests = &self.worker.metrics().requests;
            requests.total.observe_readonly_txn(result.is_ok(), took.as_secs_f64());
            return result;
        }
        let request = InternalRaftRequest { txn: Some(request), ..InternalRaftRequest::default() };
        let Answer::Txn(answer) = self.propose(request).await? else {
            return Err(crate::call::mismatch());
        };
        Ok(answer)
    }

    // Not an `async fn`: its future would have room for the request. See `EncodedRequest`.
    fn propose(
        &self,
        mut request: InternalRaftRequest,
    ) -> impl Future<Output = Result<Answer, Status>> {
        if let Some(grant) = &mut request.lease_grant
            && grant.id == 0
        {
            grant.id = self.worker.new_lease_id();
        }
        let request = EncodedRequest::new(&request);
        async move {
            let caller = self.caller().await?;
            if matches!(request.op(), Op::LeaseGrant | Op::LeaseRevoke) {
                self.auth().permit_user(&caller).map_err(denied_status)?;
            }
            self.worker.propose(caller, request).await.map_err(status_of)
        }
    }

    async fn lease_renew(&self, id: i64) -> Result<i64, Status> {
        let caller = self.caller().await?;
        match self.worker.renew_lease(caller, LeaseId(id)).await {
            Err(ServerError::Rejected(Reject::LeaseNotFound)) => Ok(0),
            renewed => renewed.map_err(status_of),
        }
    }

    async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<LeaseTimeToLiveResponse>, Status> {
        let request = LeaseTimeToLiveRequest { id, keys };
        let caller = self.caller().await?;
        match self.worker.lease_time_to_live(caller, request).await {
            Err(ServerError::Rejected(Reject::LeaseNotFound)) => Ok(None),
            found => found.map(Some).map_err(status_of),
        }
    }

    async fn leases(&self) -> Result<Vec<i64>, Status> {
        let reply = self.ask(LeaseQuery::List).await?;
        let Reply::Leases(leases) = reply else { return Err(unexpected_reply(&reply)) };
        Ok(leases.into_iter().map(|LeaseId(id)| id).collect())
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, Status> {
        self.view(!linearizable).await?;
        Ok(self.worker.moment().published.cluster.members().map(message).collect())
    }

    async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let id = cluster::member_id(&peer_urls, "", Some(unix_s));
        let member = cluster::Member { id, peer_urls, is_learner, ..Default::default() };
        let added = message(&member);
        Ok((added, messages(self.worker.add_member(member).await)?))
    }

    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, Status> {
        messages(self.worker.remove_member(NodeId(id)).await)
    }

    async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, Status> {
        messages(self.worker.update_member(NodeId(id), peer_urls).await)
    }

    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, Status> {
        let token = self.credentials.token.as_deref().map(str::to_owned);
        messages(self.worker.promote_member(NodeId(id), token).await)
    }

    async fn move_leader(&self, to: u64) -> Result<(), Status> {
        self.worker.move_leader(NodeId(to)).await.map_err(status_of)
    }

    async fn downgrade(&self, request: DowngradeRequest) -> Result<String, Status> {
        let DowngradeRequest { action, version } = request;
        let cluster = match DowngradeAction::try_from(action) {
            Ok(DowngradeAction::Validate) => self.worker.check_downgrade(&version).await,
            Ok(DowngradeAction::Enable) => self.worker.enable_downgrade(&version).await,
            Ok(DowngradeAction::Cancel) => self.worker.cancel_downgrade().await,
            Err(_) => return Err(Status::new(Code::Unknown, "etcdserver: unknown method")),
        };
        let version = cluster.map_err(status_of)?;
        Ok(format!("{}.{}", version.major, version.minor))
    }

    fn alarms(&self) -> Vec<AlarmMember> {
        self.worker.moment().published.alarms.of_type(0)
    }

    fn status(&self) -> StatusResponse {
        let moment = self.worker.moment();
        let published = &moment.published;
        let file = published.view.read().file();
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let downgrade = published.cluster.downgrade();
        StatusResponse {
            version: cluster::SERVER_VERSION.to_owned(),
            db_size: file.map_or(0, |file| signed(file.size())),
            db_size_in_use: file.map_or(0, |file| signed(file.size_in_use())),
            db_size_quota: self.worker.limits().quota.limit_bytes().map_or(-1, signed),
            leader: moment.leadership.leader.0,
            raft_index: self.worker.commit().0,
            raft_applied_index: published.applied.index.0,
            raft_term: moment.leadership.term.0,
            is_learner: self.is_learner(),
            storage_version: file.map_or_else(String::new, file::storage_version),
            downgrade_info: Some(DowngradeInfo {
                enabled: downgrade.enabled,
                target_version: downgrade.target_version.clone(),
            }),
            ..StatusResponse::default()
        }
    }

    /// Commits until the file no longer shrinks. Each commit returns some free space to the file
    /// system, but a page that a commit frees can only be returned by a later one. Other requests
    /// are served meanwhile.
    async fn defragment(&self) -> Result<(), Status> {
        defragment(&self.worker).await
    }

    async fn hash(&self) -> Result<HashResponse, Status> {
        let file = self.worker.flushed_file().await.map_err(status_of)?;
        let begun = Instant::now();
        let hash = blocking(move || file::hash(&file))
            .await?
            .map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
        let metrics = &self.worker.metrics().store.mvcc;
        metrics.hash_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(HashResponse { header: None, hash })
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status> {
        hash_kv(&self.worker, revision).await
    }

    async fn snapshot(&self) -> Result<Box<dyn SnapshotFile>, Status> {
        let file = self.worker.flushed_file().await.map_err(status_of)?;
        Ok(Box::new(file::Image::new(&file, Arc::clone(self.worker.metrics()))))
    }

    fn watch(&self, connection: ConnectionId, deliver: Deliver) -> WorkerWatchStream {
        let stream = self.worker.open_watch_stream(connection, deliver);
        WorkerWatchStream { stream, host: self.clone() }
    }
}

/// Returns free space of the database file to the file system.
///
/// # Errors
/// The status for a client.
pub async fn defragment(worker: &Worker) -> Result<(), Status> {
    let mut file = worker.flushed_file().await.map_err(status_of)?;
    let before = file.size();
    let _timer = DefragTimer::start(worker);
    tracing::info!(size_bytes = before, "starting defragment");
    let mut in_vain = 0;
    while in_vain < COMMITS_IN_VAIN_MAX {
        let size = file.size();
        // Pages that the old view can reach cannot be freed, so it is dropped first.
        drop(file);
        file = worker.flushed_file().await.map_err(status_of)?;
        in_vain = if file.size() < size { 0 } else { in_vain + 1 };
    }
    tracing::info!(size_bytes = file.size(), "finished defragment");
    Ok(())
}

/// Measures a defragmentation, also one whose client is gone.
struct DefragTimer<'a> {
    backend: &'a server::metrics::Backend,
    begun: Instant,
}

impl DefragTimer<'_> {
    fn start(worker: &Worker) -> DefragTimer<'_> {
        let backend = &worker.metrics().disk.backend;
        backend.defrag_inflight.inc();
        DefragTimer { backend, begun: Instant::now() }
    }
}

impl Drop for DefragTimer<'_> {
    fn drop(&mut self) {
        self.backend.defrag_inflight.dec();
        self.backend.defrag.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl WorkerHost {
    async fn read_range(&self, request: &RangeRequest) -> Result<RangeReply, Status> {
        let view = self.view(request.serializable).await?;
        let caller = self.caller().await?;
        let begun = Instant::now();
        let result = ranges::range(self, &caller, &view, request).await;
        let metrics = &self.worker.metrics().requests.range;
        metrics.observe(Op::Range, result.is_ok(), begun.elapsed().as_secs_f64());
        result
    }

    async fn read_txn(&self, view: &View, request: &TxnRequest) -> Result<TxnAnswer, Status> {
        let caller = self.caller().await?;
        txns::read(self, &caller, view, request).await
    }
}

/// The hash of the key space at a revision; its header has the current revision. Checks no
/// permission.
///
/// # Errors
/// The status for a client.
pub async fn hash_kv(worker: &Worker, revision: i64) -> Result<HashKvResponse, Status> {
    let begun = Instant::now();
    let view = worker.view();
    let work = view.hash_kv(revision).map_err(|reject| status_of(reject.into()))?;
    let current = work.current_revision();
    let hash = blocking(move || work.run()).await?.map_err(|error| store_status(&error))?;
    let metrics = &worker.metrics().store.mvcc;
    metrics.hash_rev_seconds.observe(begun.elapsed().as_secs_f64());
    let header = Some(ResponseHeader { revision: current, ..ResponseHeader::default() });
    Ok(HashKvResponse {
        header,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    })
}

/// Refuses a client that is not an administrator: by its token, for a request that another member
/// forwards.
///
/// # Errors
/// The status for a client.
pub async fn permit_admin(
    worker: &Worker,
    authenticator: Arc<Authenticator>,
    token: Option<&str>,
) -> Result<(), Status> {
    let host = WorkerHost::new(worker.clone(), authenticator);
    match token {
        Some(token) => host.with_token(token).permit_admin().await,
        None => host.permit_admin().await,
    }
}

/// Runs work that blocks on the disk on a thread of the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::new(Code::Internal, format!("retcd: {error}")))
}

/// A member as the services show it.
fn message(member: &cluster::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

fn messages(members: Result<Vec<cluster::Member>, ServerError>) -> Result<Vec<Member>, Status> {
    members.map(|members| members.iter().map(message).collect()).map_err(status_of)
}

/// The status when a query about leases was refused, or its reply is of the wrong kind.
fn unexpected_reply(reply: &Reply) -> Status {
    match reply {
        Reply::Corrupt => Error::Corrupt.into(),
        Reply::Denied(denied) => denied_status(*denied),
        Reply::NotLeader
        | Reply::KeptAlive { .. }
        | Reply::TimeToLive { .. }
        | Reply::Leases(_)
        | Reply::NoLease => crate::call::mismatch(),
    }
}

/// A worker's stream of watches.
#[derive(Debug)]
pub struct WorkerWatchStream {
    stream: server::Stream,
    host: WorkerHost,
}

impl WorkerWatchStream {
    /// Creates a watcher if the user has permission and not too many. The answer comes in the
    /// stream, also a refusal.
    async fn create(&self, request: WatchCreateRequest) -> Result<(), Status> {
        let refuse = |error: Error| {
            self.stream.refuse(&error.go_text());
            Err(error.into())
        };
        let Ok(caller) = self.host.caller().await else {
            return refuse(Error::InvalidAuthToken);
        };
        let request = match self.host.auth().permit(&caller, CreateRequest::new(request)) {
            Ok(request) => request,
            Err(denied) => return refuse(errors::denied(denied)),
        };
        let place = self.host.authenticator.watches.take(&caller.user).inspect_err(|status| {
            self.host.count_over_limit("watches");
            self.stream.refuse(&status.message);
        })?;
        self.stream.create(request, place.map(|place| Box::new(place) as watch::WatcherPlace));
        Ok(())
    }
}

impl WatchStream for WorkerWatchStream {
    async fn request(&self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => return self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => self.stream.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.stream.request_progress(),
            // As in etcd, an unknown request does not end the stream.
            None => tracing::info!("invalid watch request received in gRPC stream"),
        }
        Ok(())
    }

    fn drained(&self, bytes: usize) {
        self.stream.drained(bytes);
    }
}
