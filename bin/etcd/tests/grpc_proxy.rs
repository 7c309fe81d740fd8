//! `etcd grpc-proxy` in front of a running server. Its TLS is tested in `tls/proxy.rs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use client::{Client, Config, Watcher};
use proto::etcdserverpb as pb;
use proto::mvccpb::event::EventType;
use proto::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::v3electionpb::election_client::ElectionClient;
use server::Server;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tonic::transport::Channel;

const STARTED: &str = "started gRPC proxy";

/// A proxy. Dropping it kills the process, if it has not ended.
struct Proxy {
    child: Child,
    address: String,
    /// The log up to the start.
    log: String,
}

impl Proxy {
    /// Starts a proxy of a server with these flags, and returns once it serves.
    fn start(server: &Server, flags: &[&str]) -> Proxy {
        let address = free();
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd"))
            .args(["grpc-proxy", "start", "--endpoints", &server.address])
            .args(["--listen-addr", &address, "--advertise-client-url", &address])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let serves = lines.any(|line| {
            log.push_str(&line.unwrap());
            log.contains(STARTED)
        });
        assert!(serves, "the proxy has ended: {log}");
        std::thread::spawn(move || lines.for_each(drop));
        Proxy { child, address, log }
    }

    async fn client(&self) -> Client {
        connect(&self.address).await
    }

    /// A metric of the proxy.
    fn metric(&self, name: &str) -> String {
        let (_, text) = get(&self.address, "/proxy/metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_once(' ').unwrap().1.to_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

fn free() -> String {
    format!("127.0.0.1:{}", ports::free().unwrap())
}

async fn connect(address: &str) -> Client {
    Client::connect(Config::new(vec![address.to_owned()])).await.unwrap()
}

/// The status and the body of a page.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let put = client.put(pb::PutRequest { key, value, ..Default::default() }).await.unwrap();
    put.header.unwrap().revision
}

fn read(key: &str, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), serializable, ..Default::default() }
}

/// The value of a key; empty if there is none.
async fn value(client: &Client, key: &str, serializable: bool) -> String {
    let found = client.range(read(key, serializable)).await.unwrap();
    found.kvs.first().map_or(String::new(), |kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

fn watch(key: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), start_revision, ..Default::default() }
}

/// The key and the value of the next event, which must be a put.
async fn next(watcher: &mut Watcher) -> (String, String) {
    let update = watcher.next().await.unwrap();
    assert!(update.error.is_none(), "{update:?}");
    let event = update.response.events.first().unwrap();
    assert_eq!(event.r#type(), EventType::Put);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let kv = event.kv.as_ref().unwrap();
    (text(&kv.key), text(&kv.value))
}

#[tokio::test]
async fn keys_leases_and_snapshots_pass_through() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &[]);
    assert!(proxy.log.contains("listening for gRPC proxy client requests"), "{}", proxy.log);
    let (through, direct) = (proxy.client().await, connect(&server.address).await);

    let revision = put(&through, "a", "1").await;
    assert_eq!(value(&direct, "a", false).await, "1");
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(read("a", false))),
        }],
        ..Default::default()
    };
    assert!(through.txn(txn).await.unwrap().succeeded);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(through.delete_range(delete).await.unwrap().deleted, 1);
    let compact = pb::CompactionRequest { revision: revision + 1, physical: false };
    through.compact(compact).await.unwrap();
    let old = pb::RangeRequest { revision, ..read("a", false) };
    let error = through.range(old).await.unwrap_err();
    assert_eq!(error.to_string(), "etcdserver: mvcc: required revision has been compacted");

    let lease = through.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await.unwrap().id;
    assert_eq!(through.keep_alive_once(lease).await.unwrap().ttl, 600);
    let gone = through.keep_alive_once(8).await.unwrap_err();
    assert_eq!(gone.to_string(), "etcdserver: requested lease not found");
    through.lease_revoke(pb::LeaseRevokeRequest { id: lease }).await.unwrap();
    assert!(direct.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().leases.is_empty());

    // The end has the checksum of the rest.
    let mut snapshot = through.snapshot().await.unwrap();
    while snapshot.next().await.unwrap().is_some() {}
    assert!(snapshot.received() > 0);
    let status = through.status(pb::StatusRequest {}).await.unwrap();
    assert_eq!(status.header.unwrap().member_id, status.leader);

    // What a request that is too long is told, and what is not served.
    let value = vec![0; 2 << 20].into();
    let long = pb::PutRequest { key: "long".into(), value, ..Default::default() };
    let mut config = Config::new(vec![proxy.address.clone()]);
    config.request_bytes_max = 4 << 20;
    let error = Client::connect(config).await.unwrap().put(long).await.unwrap_err();
    assert!(error.message().starts_with("trying to send message larger than max"), "{error}");
    let streamed = through.range_stream(read("a", false)).await.unwrap_err();
    assert_eq!(streamed.message(), "RangeStream is not supported by the gRPC proxy");
}

#[tokio::test]
async fn locks_and_elections_pass_through() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &[]);
    let client = proxy.client().await;
    for id in 1..=2 {
        client.lease_grant(pb::LeaseGrantRequest { id, ttl: 600 }).await.unwrap();
    }
    let lock = |lease| LockRequest { name: "l".into(), lease };
    let first = client.lock(lock(1)).await.unwrap();
    // The second one waits, and gets the lock when the first one gives it back.
    let unlock = UnlockRequest { key: first.key.clone() };
    let (second, unlocked) = tokio::join!(client.lock(lock(2)), async {
        let mut both = client.watch(watch(&format!("l/{:x}", 2), 1)).await;
        next(&mut both).await;
        client.unlock(unlock).await
    });
    unlocked.unwrap();
    assert_ne!(second.unwrap().key, first.key);

    let channel = Channel::from_shared(format!("http://{}", proxy.address)).unwrap();
    let mut elections = ElectionClient::new(channel.connect().await.unwrap());
    let campaign = CampaignRequest { name: "e".into(), lease: 1, value: "one".into() };
    let leader = elections.campaign(campaign).await.unwrap().into_inner().leader;
    let observe = LeaderRequest { name: "e".into() };
    let mut observed = elections.observe(observe).await.unwrap().into_inner();
    assert_eq!(observed.message().await.unwrap().unwrap().kv.unwrap().value, "one");
    let proclaim = ProclaimRequest { leader: leader.clone(), value: "two".into() };
    elections.proclaim(proclaim).await.unwrap();
    assert_eq!(observed.message().await.unwrap().unwrap().kv.unwrap().value, "two");
    elections.resign(ResignRequest { leader }).await.unwrap();
}

#[tokio::test]
async fn serializable_reads_come_from_the_cache_until_a_write_through_the_proxy() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &[]);
    let (through, direct) = (proxy.client().await, connect(&server.address).await);
    put(&direct, "a", "old").await;
    // A linearizable read fills the cache, too.
    assert_eq!(value(&through, "a", false).await, "old");
    put(&direct, "a", "new").await;
    assert_eq!(value(&through, "a", true).await, "old");
    assert_eq!(proxy.metric("etcd_grpc_proxy_cache_hits_total"), "1");
    assert_eq!(proxy.metric("etcd_grpc_proxy_cache_keys_total"), "1");
    assert_eq!(value(&through, "a", false).await, "new");
    assert_eq!(value(&through, "a", true).await, "new");
    // Each kind of write.
    put(&through, "a", "put").await;
    assert_eq!(value(&through, "a", true).await, "put");
    assert_eq!(proxy.metric("etcd_grpc_proxy_cache_misses_total"), "1");
    let put = pb::PutRequest { key: "a".into(), value: "txn".into(), ..Default::default() };
    let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    let inner = pb::TxnRequest { success: vec![put], ..Default::default() };
    let inner = pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(inner)) };
    let txn = pb::TxnRequest { success: vec![inner], ..Default::default() };
    through.txn(txn).await.unwrap();
    assert_eq!(value(&through, "a", true).await, "txn");
    let (key, range_end) = ("a".into(), "b".into());
    let delete = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
    through.delete_range(delete).await.unwrap();
    assert_eq!(value(&through, "a", true).await, "");
}

#[tokio::test]
async fn watchers_of_a_key_share_a_watch_of_the_server() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &[]);
    let (through, direct) = (proxy.client().await, connect(&server.address).await);
    let first = put(&direct, "a", "1").await;
    let mut watchers = Vec::new();
    for start in [first, first, 0, 0] {
        let mut watcher = through.watch(watch("a", start)).await;
        assert!(watcher.created().await);
        watchers.push(watcher);
    }
    for watcher in &mut watchers[..2] {
        assert_eq!(next(watcher).await, ("a".to_owned(), "1".to_owned()));
    }
    put(&direct, "a", "2").await;
    for watcher in &mut watchers {
        assert_eq!(next(watcher).await, ("a".to_owned(), "2".to_owned()));
    }
    assert_eq!(proxy.metric("etcd_grpc_proxy_watchers_coalescing_total"), "3");
    // Whether the second watcher shares the first event depends on who is faster.
    let shared = proxy.metric("etcd_grpc_proxy_events_coalescing_total");
    assert!(["3", "4"].contains(&&*shared), "{shared}");
    let mut late = through.watch(watch("a", first)).await;
    let mut values = Vec::new();
    while values.len() < 2 {
        let events = late.next().await.unwrap().response.events;
        values.extend(events.into_iter().map(|event| event.kv.unwrap().value));
    }
    assert_eq!(values, ["1", "2"]);
    // What the server ends ends for the client, with the reason.
    let compact = pb::CompactionRequest { revision: first + 1, physical: false };
    direct.compact(compact).await.unwrap();
    let mut compacted = through.watch(watch("a", first)).await;
    let error = compacted.next().await.unwrap().error.unwrap();
    assert_eq!(error.message(), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn each_request_has_the_token_of_its_client() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &[]);
    let through = proxy.client().await;
    put(&through, "secret", "old").await;
    for name in ["root", "alice", "bob"] {
        let (name, password) = (name.to_owned(), "p".to_owned());
        let user = pb::AuthUserAddRequest { name, password, ..Default::default() };
        through.user_add(user).await.unwrap();
    }
    let grants = |user: &str, role: &str| pb::AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    through.role_add(pb::AuthRoleAddRequest { name: "reader".to_owned() }).await.unwrap();
    let perm_type = proto::authpb::permission::Type::Read.into();
    let perm = proto::authpb::Permission { perm_type, key: "secret".into(), ..Default::default() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "reader".to_owned(), perm: Some(perm) };
    through.role_grant_permission(grant).await.unwrap();
    through.user_grant_role(grants("alice", "reader")).await.unwrap();
    through.user_grant_role(grants("root", "root")).await.unwrap();
    through.auth_enable(pb::AuthEnableRequest {}).await.unwrap();

    let user = |name: &str| {
        let mut config = Config::new(vec![proxy.address.clone()]);
        config.user = Some((name.to_owned(), "p".to_owned()));
        Client::connect(config)
    };
    let (alice, bob) = (user("alice").await.unwrap(), user("bob").await.unwrap());
    assert_eq!(value(&alice, "secret", false).await, "old");
    assert_eq!(value(&alice, "secret", true).await, "old");
    // The cache is nobody else's way to it, nor are the watches that others have.
    let denied = bob.range(read("secret", true)).await.unwrap_err();
    assert_eq!(denied.to_string(), "etcdserver: permission denied");
    let mut watching = alice.watch(watch("secret", 1)).await;
    assert_eq!(next(&mut watching).await.1, "old");
    let mut refused = bob.watch(watch("secret", 1)).await;
    let error = refused.next().await.unwrap().error.unwrap();
    assert!(error.message().contains("permission denied"), "{error}");
    let nobody = put_error(&through).await;
    assert_eq!(nobody, "etcdserver: user name is empty");
}

async fn put_error(client: &Client) -> String {
    let put = pb::PutRequest { key: "k".into(), ..Default::default() };
    client.put(put).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_members_are_the_registered_proxies() {
    let server = Server::start(&[]);
    let flags = ["--resolver-prefix=proxies", "--resolver-ttl=60"];
    let (one, other) = (Proxy::start(&server, &flags), Proxy::start(&server, &flags));
    let (client, direct) = (one.client().await, connect(&server.address).await);
    let addresses = |members: Vec<pb::Member>| {
        let mut all: Vec<String> =
            members.into_iter().flat_map(|member| member.client_ur_ls).collect();
        all.sort();
        all
    };
    let list = || pb::MemberListRequest { linearizable: true };
    let mut wanted = vec![one.address.clone(), other.address.clone()];
    wanted.sort();
    // A proxy registers itself after its start.
    loop {
        let members = client.member_list(list()).await.unwrap().members;
        if addresses(members) == wanted {
            break;
        }
    }
    let key = format!("proxies/{}", one.address);
    let value = value(&direct, &key, false).await;
    let start = format!(r#"{{"Op":0,"Addr":"{}","Metadata":"{{\"name\":\""#, one.address);
    assert!(value.starts_with(&start), "{value}");

    // A proxy without an address shows the cluster.
    let open = Proxy::start(&server, &["--advertise-client-url="]);
    let members = open.client().await.member_list(list()).await.unwrap().members;
    assert_eq!(members[0].name, "default");
    let alone = Proxy::start(&server, &[]);
    let members = alone.client().await.member_list(list()).await.unwrap().members;
    assert_eq!(addresses(members), std::slice::from_ref(&alone.address));
}

#[tokio::test]
async fn a_namespace_is_before_every_key() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &["--namespace=app/"]);
    let (through, direct) = (proxy.client().await, connect(&server.address).await);
    put(&direct, "a", "outside").await;
    assert_eq!(value(&through, "a", false).await, "");
    let lease = through.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 }).await.unwrap().id;
    let key = || "a".into();
    let request = pb::PutRequest { key: key(), value: "in".into(), lease, ..Default::default() };
    through.put(request).await.unwrap();
    assert_eq!(value(&direct, "app/a", false).await, "in");
    assert_eq!(value(&through, "a", false).await, "in");
    let time = pb::LeaseTimeToLiveRequest { id: lease, keys: true };
    assert_eq!(through.lease_time_to_live(time).await.unwrap().keys, [key()]);
    let mut watcher = through.watch(watch("a", 1)).await;
    assert_eq!(next(&mut watcher).await, ("a".to_owned(), "in".to_owned()));
    let all = pb::DeleteRangeRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        prev_kv: true,
    };
    let deleted = through.delete_range(all).await.unwrap().prev_kvs;
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].key, "a");
    assert_eq!(value(&direct, "a", false).await, "outside");
}

#[tokio::test]
async fn ordered_reads_begin_with_the_state_of_the_cluster() {
    let server = Server::start(&[]);
    put(&connect(&server.address).await, "a", "1").await;
    let proxy = Proxy::start(&server, &["--experimental-serializable-ordering"]);
    assert!(proxy.log.contains("waiting for linearized read from cluster"), "{}", proxy.log);
    let through = proxy.client().await;
    assert_eq!(value(&through, "a", true).await, "1");
    put(&through, "a", "2").await;
    assert_eq!(value(&through, "a", true).await, "2");
}

#[test]
fn health_metrics_and_profiles_are_served_over_http() {
    let server = Server::start(&[]);
    let metrics = free();
    let url = format!("--metrics-addr=http://{metrics}");
    let proxy = Proxy::start(&server, &["--enable-pprof", &url]);
    let healthy = r#"{"health":"true","reason":""}"#;
    for address in [&proxy.address, &metrics] {
        assert_eq!(get(address, "/health"), (200, healthy.to_owned()));
        assert_eq!(get(address, "/proxy/health"), (200, healthy.to_owned()));
        let (status, text) = get(address, "/metrics");
        assert!(status == 200 && text.contains("etcd_server_has_leader 1"), "of the server");
        let (status, text) = get(address, "/proxy/metrics");
        assert!(status == 200 && text.contains("etcd_server_has_leader 0"), "of the proxy");
        assert_eq!(get(address, "/v3/kv/range").0, 404);
    }
    assert_eq!(get(&proxy.address, "/debug/pprof/cmdline").0, 200);
    let proxy = Proxy::start(&server, &["--advertise-client-url="]);
    let (status, text) = get(&proxy.address, "/proxy/health");
    assert_eq!(status, 503);
    assert!(text.contains("no connection to proxy"), "{text}");
    assert_eq!(get(&proxy.address, "/debug/pprof/cmdline").0, 404);
    drop(server);
    let (status, text) = get(&proxy.address, "/health");
    assert_eq!(status, 503);
    assert!(text.starts_with(r#"{"health":"false","reason":"GET ERROR:"#), "{text}");
    assert_eq!(get(&proxy.address, "/metrics").0, 500);
}

#[tokio::test]
async fn calls_are_limited_in_time_and_counted() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, &["--max-concurrent-streams=10"]);
    let channel = Channel::from_shared(format!("http://{}", proxy.address)).unwrap();
    let mut keys = KvClient::new(channel.connect().await.unwrap());
    keys.range(read("a", false)).await.unwrap();
    drop(server);
    let mut request = tonic::Request::new(read("a", false));
    request.set_timeout(Duration::from_millis(200));
    let late = keys.range(request).await.unwrap_err();
    assert!(
        matches!(late.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled),
        "{late:?}"
    );
    let labels = |code: &str| {
        let method = r#"grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        format!(r#"grpc_server_handled_total{{grpc_code="{code}",{method}}}"#)
    };
    assert_eq!(proxy.metric(&labels("OK")), "1");
    let (_, text) = get(&proxy.address, "/proxy/metrics");
    let failed = ["DeadlineExceeded", "Canceled"].map(|code| format!("{} 1", labels(code)));
    assert!(failed.iter().any(|line| text.contains(line)), "the late call is counted");
}

#[test]
fn a_proxy_that_cannot_start_says_why_and_a_signal_ends_it() {
    let server = Server::start(&[]);
    let mut proxy = Proxy::start(&server, &[]);
    let end = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd"));
        let output = command.args(["grpc-proxy", "start"]).args(flags).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let address = proxy.address.clone();
    let (code, log) = end(&["--listen-addr", &address]);
    assert_eq!(code, Some(1));
    let in_use = format!("listen tcp {address}: bind: address already in use\n");
    assert!(log.ends_with(&in_use), "{log}");
    let (code, log) = end(&["--resolver-ttl=1"]);
    assert_eq!(code, Some(1));
    assert!(log.ends_with("invalid resolver-prefix \"\"\n"), "{log}");
    let (code, log) = end(&["--unknown"]);
    assert_eq!(code, Some(1));
    assert!(log.starts_with("Error: unknown flag: --unknown"), "{log}");

    let pid = proxy.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(proxy.child.wait().unwrap().signal(), Some(15));
}
