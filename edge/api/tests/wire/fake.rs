//! A small member in memory, and a server of the services on a loopback socket.

use api::{
    Admitted, Deliver, Growth, Host, HttpAnswer, Item, Items, LargeRange, Limits, RangeChunks,
    RangeReply, Service, SnapshotFile, WatchStream,
};
use bytes::Bytes;
use connection::{ConnectionFault, RefusedRequest};
use net::Seats;
use prost::Message as _;
use proto::answer::{
    Answer, DeleteAnswer, GrantAnswer, OpAnswer, Origin, PutAnswer, RangeAnswer, TxnAnswer,
    field_len,
};
use proto::etcdserverpb::{
    AlarmMember, DowngradeRequest, HashKvResponse, HashResponse, InternalRaftRequest,
    LeaseTimeToLiveResponse, Member, RangeRequest, ResponseHeader, StatusResponse, TxnRequest,
    WatchRequest, WatchResponse, request_op::Request,
};
use proto::mvccpb::KeyValue;
use rpc::body::Body;
use rpc::{Error, Status};
use server::metrics::Metrics;
use server::metrics::grpc::Method;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};

/// From this size on, in bytes, a range is read while it is sent, unless only keys are asked for.
const LARGE: usize = 128 * 1024;

/// The handler of a renewal of this lease panics.
pub(crate) const PANIC: i64 = 500;

pub(crate) const ORIGIN: Origin = Origin { cluster_id: 11, member_id: 12, raft_term: 13 };

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Rc<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) kvs: RefCell<BTreeMap<Bytes, Bytes>>,
    pub(crate) revision: Cell<i64>,
    pub(crate) no_leader: Cell<bool>,
    pub(crate) learner: Cell<bool>,
    pub(crate) full: Cell<bool>,
    pub(crate) drained: Cell<usize>,
    /// Requests that streams of watches and keep-alives have handed over.
    pub(crate) stream_requests: Cell<usize>,
    pub(crate) watches_gone: Cell<usize>,
    pub(crate) snapshot: RefCell<Vec<u8>>,
    /// Where calls are counted, if a test looks.
    pub(crate) metrics: Option<Metrics>,
    /// Cloned by every answer that reads while it is sent.
    pub(crate) view: Arc<()>,
    /// What entries hold of passwords: the password and its hash.
    pub(crate) users: RefCell<Vec<(String, String)>>,
    /// Entries with an alarm that were proposed.
    pub(crate) alarm_entries: Cell<usize>,
    /// Whether a member takes no hash for a password.
    pub(crate) has_members_of_3_4: Cell<bool>,
    /// Cloned by every large range, if a test looks at the pages that it pins.
    pub(crate) file: RefCell<Option<bolt::View>>,
}

impl Fake {
    fn count_stream_request(&self) {
        self.0.stream_requests.set(self.0.stream_requests.get() + 1);
    }

    /// How many answers hold a view.
    pub(crate) fn views_held(&self) -> usize {
        Arc::strong_count(&self.0.view) - 1
    }

    pub(crate) fn insert(&self, key: &str, value: Bytes) {
        let revision = self.0.revision.get() + 1;
        self.0.revision.set(revision);
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        self.0.kvs.borrow_mut().insert(kv.key.clone(), kv.encode_to_vec().into());
    }

    fn find(&self, request: &RangeRequest) -> RangeAnswer {
        let kvs = self.0.kvs.borrow();
        let found: Vec<Bytes> = kvs
            .iter()
            .filter(|(key, _)| match &request.range_end[..] {
                [] => request.key == *key,
                [0] => **key >= request.key,
                end => **key >= request.key && &key[..] < end,
            })
            .map(|(_, kv)| kv.clone())
            .collect();
        let count = i64::try_from(found.len()).unwrap();
        RangeAnswer { revision: self.0.revision.get(), kvs: found, more: false, count }
    }
}

pub(crate) struct FakeWatch(Fake, Deliver);

impl WatchStream for FakeWatch {
    /// Answers with as many messages as the request's start revision says, each with the event's
    /// value as long as the watch id.
    async fn request(&self, request: WatchRequest) -> Result<(), Status> {
        use proto::etcdserverpb::watch_request::RequestUnion;
        self.0.count_stream_request();
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
            return Ok(());
        };
        for round in 0..create.start_revision.min(10) {
            let kv = KeyValue {
                value: vec![7; usize::try_from(create.watch_id.clamp(0, 100_000)).unwrap()].into(),
                mod_revision: round,
                ..KeyValue::default()
            };
            let event = proto::mvccpb::Event { kv: Some(kv), ..Default::default() };
            let watch_id = create.watch_id;
            let response =
                WatchResponse { watch_id, events: vec![event], ..WatchResponse::default() };
            let bytes = Bytes::from(response.encode_to_vec());
            let (head, tail) = (bytes.slice(..1), bytes.slice(1..));
            (self.1)(vec![watch::Response { head, events: tail }]);
        }
        Ok(())
    }

    fn drained(&self, bytes: usize) {
        self.0.0.drained.set(self.0.0.drained.get() + bytes);
    }
}

impl Drop for FakeWatch {
    fn drop(&mut self) {
        self.0.0.watches_gone.set(self.0.0.watches_gone.get() + 1);
    }
}

/// The key-values of a large range, and the view that they are read from.
struct FakeItems(
    std::vec::IntoIter<Bytes>,
    #[expect(dead_code, reason = "held")] (Arc<()>, Option<bolt::View>),
);

impl Items for FakeItems {
    fn next(&mut self) -> Result<Item, Status> {
        Ok(self.0.next().map_or(Item::End, Item::Next))
    }
}

struct Chunks(Vec<RangeAnswer>, #[expect(dead_code, reason = "held")] Arc<()>);

impl RangeChunks for Chunks {
    fn next(&mut self) -> Result<Option<RangeAnswer>, Status> {
        Ok(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
    }
}

struct File(Vec<u8>, usize, #[expect(dead_code, reason = "held")] Arc<()>);

impl SnapshotFile for File {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn version(&self) -> String {
        "3.7.0".to_owned()
    }

    fn next(&mut self) -> Result<Bytes, String> {
        let end = (self.1 + 5_000).min(self.0.len());
        let bytes = Bytes::copy_from_slice(&self.0[self.1..end]);
        self.1 = end;
        Ok(bytes)
    }
}

impl Host for Fake {
    type Watch = FakeWatch;

    fn with_certificate_name(&self, _: &str) -> Fake {
        self.clone()
    }

    fn with_token(&self, _: &str) -> Fake {
        self.clone()
    }

    async fn admit(&self, _: bool, _: usize) -> Result<Admitted, Status> {
        Ok(Admitted { user: self.user().await, ..Admitted::default() })
    }

    async fn user(&self) -> Option<Rc<str>> {
        Some("alice".into())
    }

    async fn require_user(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn require_admin(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn authenticate(&self, name: String, _: String) -> Result<String, Status> {
        Ok(format!("token-of-{name}"))
    }

    async fn hashed(&self, password: String) -> Result<String, Status> {
        Ok(format!("hash of {password}"))
    }

    fn origin(&self) -> Origin {
        ORIGIN
    }

    fn counters(&self, path: &str) -> Option<Arc<Method>> {
        self.0.metrics.as_ref()?.grpc.method(path).cloned()
    }

    fn count_client(&self, _: &'static str, _: &[u8]) {}

    fn count_stream_failure(&self, _: &'static str) {}

    fn count_refused(&self, _: RefusedRequest) {}

    fn count_fault(&self, _: &ConnectionFault) {}

    fn count_received(&self, _: usize) {}

    fn count_sent(&self, _: usize) {}

    fn revision(&self) -> i64 {
        self.0.revision.get()
    }

    fn has_leader(&self) -> bool {
        !self.0.no_leader.get()
    }

    fn is_learner(&self) -> bool {
        self.0.learner.get()
    }

    fn fits_quota(&self, _: Growth<'_>) -> bool {
        !self.0.full.get()
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, Status> {
        tokio::task::yield_now().await;
        if request.revision > self.revision() {
            return Err(Error::FutureRev.into());
        }
        assert!(request.key != "panic", "on purpose");
        if request.key == "slow" {
            std::future::pending::<()>().await;
        }
        let answer = self.find(&request);
        if request.keys_only {
            return Ok(RangeReply::Answer(answer));
        }
        let items_len = answer.kvs.iter().map(|kv| field_len(kv.len())).sum();
        if items_len < LARGE {
            return Ok(RangeReply::Answer(answer));
        }
        let kvs = answer.kvs.clone().into_iter();
        let held = (Arc::clone(&self.0.view), self.0.file.borrow().clone());
        let items = Box::new(FakeItems(kvs, held));
        let answer = RangeAnswer { kvs: Vec::new(), ..answer };
        Ok(RangeReply::Large(LargeRange { answer, items_len, items }))
    }

    async fn range_stream(&self, request: RangeRequest) -> Result<Box<dyn RangeChunks>, Status> {
        let all = self.find(&request);
        let mut chunks: Vec<RangeAnswer> = all
            .kvs
            .chunks(3)
            .map(|kvs| RangeAnswer { kvs: kvs.to_vec(), ..RangeAnswer::default() })
            .collect();
        if let Some(last) = chunks.last_mut() {
            last.revision = all.revision;
            last.count = all.count;
        }
        Ok(Box::new(Chunks(chunks, Arc::clone(&self.0.view))))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnAnswer, Status> {
        let mut responses = Vec::new();
        for op in &request.success {
            responses.push(match &op.request {
                Some(Request::RequestRange(range)) => OpAnswer::Range(self.find(range)),
                Some(Request::RequestPut(put)) => {
                    let key = std::str::from_utf8(&put.key).unwrap().to_owned();
                    self.insert(&key, put.value.clone());
                    OpAnswer::Put(PutAnswer { revision: self.revision(), prev: None })
                }
                _ => OpAnswer::Txn(TxnAnswer::default()),
            });
        }
        Ok(TxnAnswer { revision: self.revision(), succeeded: true, responses })
    }

    fn are_hashes_read(&self) -> bool {
        !self.0.has_members_of_3_4.get()
    }

    async fn auth_status(&self) -> Result<(bool, u64), Status> {
        Ok((true, 5))
    }

    async fn propose(&self, request: InternalRaftRequest) -> Result<Answer, Status> {
        if let Some(add) = request.auth_user_add {
            self.0.users.borrow_mut().push((add.password, add.hashed_password));
            return Ok(Answer::Auth(proto::answer::AuthAnswer::Done));
        }
        if let Some(change) = request.auth_user_change_password {
            self.0.users.borrow_mut().push((change.password, change.hashed_password));
            return Ok(Answer::Auth(proto::answer::AuthAnswer::Done));
        }
        if let Some(put) = request.put {
            let key = std::str::from_utf8(&put.key).unwrap().to_owned();
            let prev = self.0.kvs.borrow().get(&put.key).cloned();
            self.insert(&key, put.value);
            let prev = prev.filter(|_| put.prev_kv);
            return Ok(Answer::Put(PutAnswer { revision: self.revision(), prev }));
        }
        if let Some(delete) = request.delete_range {
            let gone = self.0.kvs.borrow_mut().remove(&delete.key);
            let deleted = i64::from(gone.is_some());
            self.0.revision.set(self.revision() + deleted);
            let prevs = gone.into_iter().collect();
            return Ok(Answer::Delete(DeleteAnswer { revision: self.revision(), deleted, prevs }));
        }
        if let Some(grant) = request.lease_grant {
            let answer = GrantAnswer { revision: 0, id: grant.id.max(1), ttl_s: grant.ttl.max(2) };
            return Ok(Answer::LeaseGrant(answer));
        }
        if let Some(revoke) = request.lease_revoke {
            if revoke.id == 404 {
                return Err(Error::LeaseNotFound.into());
            }
            return Ok(Answer::LeaseRevoke { revision: self.revision() });
        }
        if request.compaction.is_some() {
            return Ok(Answer::Compact { revision: self.revision() });
        }
        if request.auth_role_grant_permission.is_some() {
            return Ok(Answer::Auth(proto::answer::AuthAnswer::Done));
        }
        if request.alarm.is_some() {
            self.0.alarm_entries.set(self.0.alarm_entries.get() + 1);
        }
        Ok(Answer::Alarm { alarms: self.alarms() })
    }

    async fn lease_renew(&self, id: i64) -> Result<i64, Status> {
        self.count_stream_request();
        assert!(id != PANIC, "on purpose");
        Ok(if id == 404 { 0 } else { 60 })
    }

    async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<LeaseTimeToLiveResponse>, Status> {
        Ok((id != 404).then(|| LeaseTimeToLiveResponse {
            id,
            ttl: 5,
            granted_ttl: 10,
            keys: if keys { vec!["k".into()] } else { Vec::new() },
            header: None,
        }))
    }

    async fn leases(&self) -> Result<Vec<i64>, Status> {
        Ok(vec![3, 1])
    }

    async fn members(&self, _: bool) -> Result<Vec<Member>, Status> {
        Ok(vec![Member { id: 12, name: "one".to_owned(), ..Member::default() }])
    }

    async fn member_add(
        &self,
        peer_ur_ls: Vec<String>,
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Status> {
        let added = Member { id: 13, peer_ur_ls, is_learner, ..Member::default() };
        let mut members = self.members(false).await?;
        members.push(added.clone());
        Ok((added, members))
    }

    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, Status> {
        if id == 404 { Err(Error::MemberNotFound.into()) } else { Ok(Vec::new()) }
    }

    async fn member_update(&self, id: u64, peer_ur_ls: Vec<String>) -> Result<Vec<Member>, Status> {
        Ok(vec![Member { id, peer_ur_ls, ..Member::default() }])
    }

    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, Status> {
        if id == 12 { Err(Error::MemberNotLearner.into()) } else { self.members(false).await }
    }

    async fn move_leader(&self, to: u64) -> Result<(), Status> {
        if to == 12 { Ok(()) } else { Err(Error::BadLeaderTransferee.into()) }
    }

    async fn downgrade(&self, request: DowngradeRequest) -> Result<String, Status> {
        if request.version == "3.6" {
            Ok("3.7".to_owned())
        } else {
            Err(Error::InvalidDowngradeTargetVersion.into())
        }
    }

    fn alarms(&self) -> Vec<AlarmMember> {
        vec![AlarmMember { member_id: 12, alarm: 1 }]
    }

    fn status(&self) -> StatusResponse {
        let leader = if self.has_leader() { 12 } else { 0 };
        StatusResponse { version: "3.7.1".to_owned(), leader, ..StatusResponse::default() }
    }

    async fn defragment(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn hash(&self) -> Result<HashResponse, Status> {
        Ok(HashResponse { header: None, hash: 5 })
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status> {
        if revision > self.revision() {
            return Err(Error::FutureRev.into());
        }
        let header = Some(ResponseHeader { revision: 9, ..ResponseHeader::default() });
        Ok(HashKvResponse { header, hash: 6, compact_revision: -1, hash_revision: revision })
    }

    async fn snapshot(&self) -> Result<Box<dyn SnapshotFile>, Status> {
        Ok(Box::new(File(self.0.snapshot.borrow().clone(), 0, Arc::clone(&self.0.view))))
    }

    fn watch(&self, _: watch::ConnectionId, deliver: Deliver) -> FakeWatch {
        FakeWatch(self.clone(), deliver)
    }
}

fn http(request: connection::ClientRequest) -> HttpAnswer {
    Box::pin(async move {
        http::Response::new(Body::plain(format!("plain {}", request.head.uri.path()).into()))
    })
}

/// Runs `test` against a server of `fake`, on one thread.
pub(crate) fn serve<F>(fake: &Fake, limits: Limits, test: impl FnOnce(SocketAddr) -> F)
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fake = fake.clone();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service::new(fake, limits, Rc::new(http));
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let service = service.clone();
                tokio::task::spawn_local(async move {
                    // Clients of these tests break off as they like.
                    let seat = Seats::new(1).take().await.unwrap();
                    drop(service.serve(stream, seat, std::future::pending()).await);
                });
            }
        });
        let within = std::time::Duration::from_secs(30);
        tokio::time::timeout(within, test(address)).await.expect("the test hangs");
    });
}

/// Runs `test` against a server of `fake` at the other end of a pipe in memory, on a clock that
/// stands still until it is moved.
pub(crate) fn serve_on_a_paused_clock<F>(fake: &Fake, test: impl FnOnce(DuplexStream) -> F)
where
    F: Future<Output = ()>,
{
    serve_in_seats(fake, &Seats::new(1), test);
}

/// As [`serve_on_a_paused_clock`], with the connection in one of these seats.
pub(crate) fn serve_in_seats<F>(
    fake: &Fake,
    seats: &Arc<Seats>,
    test: impl FnOnce(DuplexStream) -> F,
) where
    F: Future<Output = ()>,
{
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let service = Service::new(fake.clone(), Limits::default(), Rc::new(http));
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let seat = seats.take().await.unwrap();
        let (near, far) = tokio::io::duplex(1 << 20);
        tokio::task::spawn_local(async move {
            drop(service.serve(far, seat, std::future::pending()).await);
        });
        let within = std::time::Duration::from_secs(24 * 3600);
        tokio::time::timeout(within, test(near)).await.expect("the test hangs");
    });
}

/// A channel of tonic's to the server.
pub(crate) async fn channel(address: SocketAddr) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A bare HTTP/2 connection, to send what no client of gRPC sends.
pub(crate) async fn bare(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<RawBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

pub(crate) type RawBody = http_body_util::Full<Bytes>;

/// Sends bytes to a path and gives the HTTP status, `grpc-status`, `grpc-message` and the data.
pub(crate) async fn raw(
    send: &mut hyper::client::conn::http2::SendRequest<RawBody>,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, Option<i32>, String, Bytes) {
    use http_body_util::BodyExt as _;
    let mut request =
        http::Request::post(format!("http://x{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        if *name == ":method" {
            request = request.method(*value);
        } else if *name == "content-type" {
            request.headers_mut().unwrap().insert("content-type", value.parse().unwrap());
        } else {
            request = request.header(*name, value.as_bytes());
        }
    }
    let request = request.body(RawBody::new(body.into())).unwrap();
    let response = send.send_request(request).await.unwrap();
    let http_status = response.status().as_u16();
    let head = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let find = |name: &str| {
        let value = head.get(name).or_else(|| trailers.get(name));
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let status = find("grpc-status").map(|status| status.parse().unwrap());
    (http_status, status, find("grpc-message").unwrap_or_default(), collected.to_bytes())
}
