//! A member with a transport and a port, which records the transport's reports.

use bytes::Bytes;
use cluster::{Member, Version};
use http::{Method, Response, StatusCode};
use net::plain::{Handler, Server};
use net::{Acceptor, Listener, SocketOptions, Url};
use peer::{Deliver, Dialer, HostRefusal, PeerHost, Transport, TransportOptions};
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use proto::{LeaseId, NodeId, Term};
use raft::{Body, Message};
use server::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use vfs::RealDisk;
use wire::HashKvAnswer;

/// The cluster of all members, unless a test chooses another one.
pub(crate) const CLUSTER: u64 = 0x1c;
/// The time after which a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The reports of the transport to a member.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) messages: Vec<Message>,
    pub(crate) unreachable: Vec<NodeId>,
    pub(crate) snapshots: Vec<(NodeId, bool)>,
    pub(crate) removed: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    reports: Mutex<Reports>,
    changed: Condvar,
}

impl Inbox {
    fn report(&self, change: impl FnOnce(&mut Reports)) {
        change(&mut self.reports.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until `found` returns a value.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&mut Reports) -> Option<T>,
    ) -> T {
        let mut reports = self.reports.lock().unwrap();
        loop {
            if let Some(found) = found(&mut reports) {
                return found;
            }
            let (next, timed_out) = self.changed.wait_timeout(reports, PATIENCE).unwrap();
            reports = next;
            assert!(!timed_out.timed_out(), "{what}: {reports:?}");
        }
    }

    /// Waits until a message has arrived, and takes it.
    pub(crate) fn take(&self, wanted: &Message) {
        self.wait(&format!("{wanted:?}"), |reports| {
            let at = reports.messages.iter().position(|message| message == wanted)?;
            Some(reports.messages.remove(at))
        });
    }
}

impl Deliver for Inbox {
    fn message(&self, message: Message) {
        self.report(|reports| reports.messages.push(message));
    }

    fn unreachable(&self, peer: NodeId) {
        self.report(|reports| reports.unreachable.push(peer));
    }

    fn snapshot_sent(&self, peer: NodeId, ok: bool) {
        self.report(|reports| reports.snapshots.push((peer, ok)));
    }

    fn removed(&self) {
        self.report(|reports| reports.removed += 1);
    }
}

/// Answers with one member and a few numbers.
#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn members() -> Vec<Member> {
        vec![Member { id: NodeId(7), name: "n7".into(), ..Member::default() }]
    }
}

impl Handler for Host {
    async fn answer(&self, _: &Method, path: &str, _: &str) -> Response<Bytes> {
        let body = match path {
            "/members" => cluster::members_json(Host::members().iter()),
            "/version" => r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0"}"#.to_owned(),
            _ => {
                let mut response = Response::new(Bytes::from_static(b"404 page not found\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
        };
        Response::new(body.into())
    }
}

fn refusal(status: u16, text: &str) -> HostRefusal {
    HostRefusal { status, text: text.to_owned() }
}

impl PeerHost for Host {
    async fn promote(&self, id: NodeId, token: Option<String>) -> Result<String, HostRefusal> {
        match (id.0, token.as_deref()) {
            (7, Some("token")) => Ok(cluster::members_json(Host::members().iter())),
            (8, _) => Err(refusal(500, "a detail")),
            _ => Err(refusal(404, "membership: ID not found")),
        }
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvAnswer, HostRefusal> {
        if revision > 17 {
            return Err(refusal(400, "mvcc: required revision is a future revision"));
        }
        Ok(HashKvAnswer::new(17, 5, 3, revision))
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<i64, HostRefusal> {
        if lease.0 == 3 { Ok(60) } else { Err(refusal(404, "lease not found")) }
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, HostRefusal> {
        Ok(LeaseTimeToLiveResponse { id: request.id, ttl: 9, ..Default::default() })
    }

    async fn downgrade_enabled(&self) -> Result<bool, HostRefusal> {
        Ok(false)
    }
}

/// A member. Its port is closed before its thread ends.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) url: String,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) transport: Transport,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) dir: TempDir,
    _acceptor: Acceptor,
    _server: Server,
}

impl Node {
    /// A member on a free port.
    pub(crate) fn new(id: u64) -> Node {
        Node::at(id, CLUSTER, "http://127.0.0.1:0")
    }

    /// A member of a cluster at a URL.
    pub(crate) fn at(id: u64, cluster: u64, url: &str) -> Node {
        let listener = Listener::bind(&Url::parse(url).unwrap(), SocketOptions::default()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (dir, inbox) = (tempfile::tempdir().unwrap(), Arc::new(Inbox::default()));
        let metrics = Arc::new(Metrics::new(false));
        let options = options(id, cluster, &url, dir.path(), &metrics);
        let deliver = Arc::clone(&inbox);
        let transport = Transport::start(options, deliver).unwrap();
        let service = Arc::new(transport.service(Arc::new(Host)));
        let server = Server::start("peers", service, 64).unwrap();
        let acceptor = listener.accept(server.sink(net::tls::Security::Plain)).unwrap();
        let id = NodeId(id);
        Node { id, url, inbox, transport, metrics, dir, _acceptor: acceptor, _server: server }
    }

    /// Waits until another member is reached.
    pub(crate) fn wait_for(&self, other: NodeId) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.transport.active_since(other).is_none() {
            assert!(std::time::Instant::now() < deadline, "{other} is not reached");
            std::thread::yield_now();
        }
    }

    /// Sets the other members of this member.
    pub(crate) fn knows(&self, others: &[&Node]) {
        let members = others.iter().map(|node| (node.id, vec![node.url.clone()])).collect();
        self.transport.set_members(&members, &BTreeSet::new());
    }

    pub(crate) fn message(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id, to, term: Term(3), body }
    }
}

fn options(
    id: u64,
    cluster: u64,
    url: &str,
    dir: &Path,
    metrics: &Arc<Metrics>,
) -> TransportOptions {
    TransportOptions {
        member: NodeId(id),
        cluster,
        version: Version::parse(cluster::SERVER_VERSION).unwrap(),
        peer_urls: vec![url.to_owned()],
        dialer: Dialer::new(None, Duration::from_secs(2)),
        read_time_max: peer::STREAM_TIME_MIN,
        write_time_max: peer::STREAM_TIME_MIN,
        request_bytes_max: 1 << 20,
        database_bytes_max: 64 << 20,
        disk: Arc::new(RealDisk),
        snap_dir: dir.to_owned(),
        metrics: Arc::clone(metrics),
    }
}

/// Makes all members known to each other.
pub(crate) fn introduce(nodes: &[&Node]) {
    for node in nodes {
        node.knows(nodes);
    }
}

/// Members by id, as [`Transport::set_members`] takes them.
pub(crate) fn urls(nodes: &[(NodeId, &str)]) -> BTreeMap<NodeId, Vec<String>> {
    nodes.iter().map(|(id, url)| (*id, vec![(*url).to_owned()])).collect()
}
