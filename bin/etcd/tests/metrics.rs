//! What `/metrics` of a running server says after calls whose counts are known. Names, labels and
//! buckets are checked in `edge/server`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use client::{Client, Config};
use proto::etcdserverpb as pb;
use server::Server;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a metric may take to reach its value.
const TIME_MAX: Duration = Duration::from_secs(30);

impl Server {
    /// The value of a row of `/metrics`; the name includes the labels.
    fn metric(&self, name: &str) -> f64 {
        let text = self.scrape();
        let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        row.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    fn scrape(&self) -> String {
        self.get("/metrics")
    }

    /// The answer to a request for a path, with its head.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until a row has a value. Events on other threads are counted a moment later.
    async fn shows(&self, name: &str, value: f64) {
        let is_shown = async {
            while self.metric(name).total_cmp(&value).is_ne() {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(TIME_MAX, is_shown).await.is_err() {
            panic!("{name} is {} and not {value}", self.metric(name));
        }
    }

    /// Waits until a streaming call with this code and its messages are counted.
    async fn shows_call(&self, (kind, service, method): (&str, &str, &str), code: &str) {
        let labels =
            format!(r#"grpc_method="{method}",grpc_service="{service}",grpc_type="{kind}""#);
        let handled = format!(r#"grpc_server_handled_total{{grpc_code="{code}",{labels}}}"#);
        self.shows(&handled, 1.0).await;
        self.shows(&format!("grpc_server_started_total{{{labels}}}"), 1.0).await;
        for way in ["received", "sent"] {
            let messages = self.metric(&format!("grpc_server_msg_{way}_total{{{labels}}}"));
            assert!(messages >= 1.0, "{method}: no message was {way}");
        }
    }
}

/// Names and shapes as Go's etcd 3.5.30 answers on the same command line.
#[test]
fn the_variables_of_a_leader_have_gos_names_and_the_state_of_raft() {
    let server = Server::start(&[]);
    let answer = server.get("/debug/vars");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let names: Vec<&str> =
        body.lines().filter_map(|line| line.strip_prefix('"')?.split('"').next()).collect();
    assert_eq!(names, ["cmdline", "file_descriptor_limit", "memstats", "raft.status"]);
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["cmdline"][1], "--data-dir");
    assert!(value["file_descriptor_limit"].as_u64().unwrap() > 0);
    assert_eq!(value["memstats"]["EnableGC"], false);
    let raft = &value["raft.status"];
    let me = raft["id"].as_str().unwrap();
    assert_eq!((&raft["lead"], &raft["vote"]), (&raft["id"], &raft["id"]));
    assert_eq!((&raft["raftState"], &raft["leadtransferee"]), (&"StateLeader".into(), &"0".into()));
    let (term, commit) = (raft["term"].as_u64().unwrap(), raft["commit"].as_u64().unwrap());
    assert!(term >= 2 && commit >= raft["applied"].as_u64().unwrap(), "{raft}");
    let progress = &raft["progress"][me];
    assert_eq!(progress["state"], "StateReplicate");
    assert_eq!(progress["next"].as_u64().unwrap(), progress["match"].as_u64().unwrap() + 1);
}

async fn put(client: &Client, key: &'static str, lease: i64) -> i64 {
    let request = pb::PutRequest { key: key.into(), lease, ..Default::default() };
    client.put(request).await.unwrap().header.unwrap().revision
}

async fn grant(client: &Client, ttl: i64) -> i64 {
    let request = pb::LeaseGrantRequest { ttl, ..Default::default() };
    client.lease_grant(request).await.unwrap().id
}

async fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Client, std::rc::Rc<Server>) -> F) {
    with_flags(&[], test).await;
}

async fn with_flags<F: Future<Output = ()>>(
    flags: &[&str],
    test: impl FnOnce(Client, std::rc::Rc<Server>) -> F,
) {
    // With a short election timeout the shortest lease is 1 s.
    let times = ["--heartbeat-interval", "10", "--election-timeout", "100"];
    let server = std::rc::Rc::new(Server::start(&[&times, flags].concat()));
    let client = Client::connect(Config::new(vec![server.address.clone()])).await.unwrap();
    tokio::time::timeout(TIME_MAX * 2, test(client, server)).await.unwrap();
}

#[tokio::test]
async fn watchers_and_their_events_are_counted() {
    with_server(|client, server| async move {
        let key = "k";
        let request = pb::WatchCreateRequest { key: key.into(), ..Default::default() };
        let mut watcher = client.watch(request).await;
        server.shows("etcd_debugging_mvcc_watcher_total", 1.0).await;
        for _ in 0..3 {
            put(&client, key, 0).await;
            assert_eq!(watcher.next().await.unwrap().response.events.len(), 1);
        }
        server.shows("etcd_debugging_mvcc_events_total", 3.0).await;
        server.shows("etcd_debugging_mvcc_pending_events_total", 0.0).await;
        assert_eq!(server.metric("etcd_debugging_mvcc_slow_watcher_total"), 0.0);
        drop(watcher);
        server.shows("etcd_debugging_mvcc_watcher_total", 0.0).await;
        server.shows_call(("bidi_stream", "etcdserverpb.Watch", "Watch"), "Canceled").await;
    })
    .await;
}

#[tokio::test]
async fn watchers_over_the_limit_of_the_member_are_refused_and_counted() {
    with_flags(&["--max-watchers", "2"], |client, server| async move {
        let watch = || {
            let request = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
            // A stream of its own for each watch, so that no other limit is reached.
            client.watch(request)
        };
        let first = watch().await;
        server.shows("etcd_debugging_mvcc_watcher_total", 1.0).await;
        let mut second = watch().await;
        server.shows("etcd_debugging_mvcc_watcher_total", 2.0).await;
        let refused = watch().await.next().await.unwrap();
        assert!(refused.response.created && refused.response.canceled);
        assert_eq!(refused.response.cancel_reason, "etcdserver: too many requests");
        assert_eq!(refused.error.unwrap().to_string(), "etcdserver: too many requests");
        server.shows("retcd_watchers_refused_total", 1.0).await;
        assert_eq!(server.metric("retcd_watchers_limit"), 2.0);
        put(&client, "k", 0).await;
        assert_eq!(second.next().await.unwrap().response.events.len(), 1, "it goes on");
        drop(first);
        server.shows("etcd_debugging_mvcc_watcher_total", 1.0).await;
        let mut third = watch().await;
        server.shows("etcd_debugging_mvcc_watcher_total", 2.0).await;
        put(&client, "k", 0).await;
        assert_eq!(third.next().await.unwrap().response.events.len(), 1, "there is room again");
    })
    .await;
}

#[tokio::test]
async fn leases_are_counted() {
    with_server(|client, server| async move {
        let long = grant(&client, 600).await;
        client.keep_alive_once(long).await.unwrap();
        assert_eq!(server.metric("etcd_debugging_lease_renewed_total"), 1.0);
        server
            .shows_call(("bidi_stream", "etcdserverpb.Lease", "LeaseKeepAlive"), "Canceled")
            .await;
        client.lease_revoke(pb::LeaseRevokeRequest { id: long }).await.unwrap();
        assert_eq!(server.metric("etcd_debugging_lease_revoked_total"), 1.0);
        assert_eq!(server.metric("etcd_debugging_server_lease_expired_total"), 0.0);
        let short = grant(&client, 1).await;
        put(&client, "leased", short).await;
        server.shows("etcd_debugging_server_lease_expired_total", 1.0).await;
        server.shows("etcd_debugging_lease_revoked_total", 2.0).await;
        assert_eq!(server.metric("etcd_debugging_lease_granted_total"), 2.0);
        assert_eq!(server.metric("etcd_debugging_lease_ttl_total_sum"), 601.0);
    })
    .await;
}

#[tokio::test]
async fn compactions_hashes_and_bytes_are_counted() {
    with_server(|client, server| async move {
        let mut revision = 0;
        for _ in 0..5 {
            revision = put(&client, "k", 0).await;
        }
        let request = pb::CompactionRequest { revision, physical: true };
        client.compact(request).await.unwrap();
        assert_eq!(server.metric("etcd_debugging_mvcc_db_compaction_keys_total"), 4.0);
        let compaction = "etcd_debugging_mvcc_db_compaction";
        server.shows(&format!("{compaction}_total_duration_milliseconds_count"), 1.0).await;
        assert!(server.metric(&format!("{compaction}_pause_duration_milliseconds_count")) >= 1.0);
        assert!(server.metric(&format!("{compaction}_last")) > 1.7e9);
        client.hash(pb::HashRequest {}).await.unwrap();
        client.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap();
        assert_eq!(server.metric("etcd_mvcc_hash_duration_seconds_count"), 1.0);
        assert_eq!(server.metric("etcd_mvcc_hash_rev_duration_seconds_count"), 1.0);
        let (received, sent, written) = (
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "etcd_disk_wal_write_bytes_total",
        );
        let before = [received, sent, written].map(|name| server.metric(name));
        let value = vec![7; 100_000];
        let request =
            pb::PutRequest { key: "big".into(), value: value.into(), ..Default::default() };
        client.put(request).await.unwrap();
        assert!(server.metric(received) >= before[0] + 1e5);
        assert!(server.metric(written) >= before[2] + 1e5);
        let request = pb::RangeRequest { key: "big".into(), ..Default::default() };
        client.range(request).await.unwrap();
        assert!(server.metric(sent) >= before[1] + 1e5);
    })
    .await;
}

#[tokio::test]
async fn streams_of_answers_are_counted_to_their_end() {
    with_server(|client, server| async move {
        put(&client, "k", 0).await;
        let request = pb::RangeRequest { key: "k".into(), ..Default::default() };
        client.range_stream(request).await.unwrap();
        server.shows_call(("server_stream", "etcdserverpb.KV", "RangeStream"), "OK").await;
        let mut parts = client.snapshot().await.unwrap();
        let mut bytes = 0;
        while let Some(part) = parts.next().await.unwrap() {
            bytes += part.len();
        }
        let maintenance = "etcdserverpb.Maintenance";
        server.shows_call(("server_stream", maintenance, "Snapshot"), "OK").await;
        let sent = server.metric("etcd_network_client_grpc_sent_bytes_total");
        assert!(sent >= f64::from(u32::try_from(bytes).unwrap()));
    })
    .await;
}

/// The number of observations of a histogram with these labels.
fn count_of(name: &str, labels: &str) -> String {
    format!("etcd_server_{name}_duration_seconds_count{{{labels}}}")
}

#[tokio::test]
async fn requests_are_timed_by_their_kind_and_result() {
    with_server(|client, server| async move {
        for _ in 0..3 {
            put(&client, "k", 0).await;
        }
        let leased = pb::PutRequest { key: "k".into(), lease: 7, ..Default::default() };
        client.put(leased).await.unwrap_err();
        let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        client.range(range.clone()).await.unwrap();
        let future = pb::RangeRequest { revision: 99, ..range.clone() };
        client.range(future).await.unwrap_err();
        let read = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range)) };
        let txn = pb::TxnRequest { success: vec![read], ..Default::default() };
        client.txn(txn).await.unwrap();
        let role = pb::AuthRoleAddRequest { name: "r".into() };
        client.role_add(role.clone()).await.unwrap();
        client.role_add(role).await.unwrap_err();
        let apply = |op: &str, success: bool| {
            count_of("apply", &format!(r#"op="{op}",success="{success}",version="v3""#))
        };
        let request = |kind: &str, success: bool| {
            count_of("request", &format!(r#"success="{success}",type="{kind}""#))
        };
        for (row, times) in [
            (apply("Put", true), 3.0),
            (apply("Put", false), 1.0),
            (apply("AuthRoleAdd", true), 1.0),
            (apply("AuthRoleAdd", false), 1.0),
            (apply("ClusterMemberAttrSet", true), 1.0),
            // The request was applied, so it has succeeded, as in etcd.
            (request("Put", true), 4.0),
            (request("AuthRoleAdd", true), 2.0),
            (request("Range", true), 1.0),
            (request("Range", false), 1.0),
            (request("ReadonlyTxn", true), 1.0),
            (count_of("range", r#"success="true""#), 1.0),
            (count_of("range", r#"success="false""#), 1.0),
        ] {
            server.shows(&row, times).await;
        }
        assert_eq!(server.metric("etcd_server_slow_apply_total"), 0.0);
    })
    .await;
}

#[tokio::test]
async fn requests_over_the_warning_time_are_counted_as_slow() {
    with_flags(&["--warning-apply-duration", "1ns"], |client, server| async move {
        let before = server.metric("etcd_server_slow_apply_total");
        assert!(before >= 1.0, "the member's own requests");
        put(&client, "k", 0).await;
        let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        client.range(range).await.unwrap();
        server.shows("etcd_server_slow_apply_total", before + 2.0).await;
    })
    .await;
}

#[tokio::test]
async fn calls_are_counted_by_the_version_of_the_client() {
    with_server(|client, server| async move {
        let row = |kind: &str| {
            let labels = format!(r#"client_api_version="{}",type="{kind}""#, client::VERSION);
            format!("etcd_server_client_requests_total{{{labels}}}")
        };
        put(&client, "k", 0).await;
        let before = server.metric(&row("unary"));
        put(&client, "k", 0).await;
        put(&client, "k", 0).await;
        server.shows(&row("unary"), before + 2.0).await;
        let mut parts = client.snapshot().await.unwrap();
        while parts.next().await.unwrap().is_some() {}
        server.shows(&row("stream"), 1.0).await;
    })
    .await;
}

#[tokio::test]
async fn the_work_of_the_disk_is_timed() {
    with_flags(&["--snapshot-count", "3"], |client, server| async move {
        for _ in 0..10 {
            put(&client, "k", 0).await;
        }
        let mut parts = client.snapshot().await.unwrap();
        while parts.next().await.unwrap().is_some() {}
        drop(parts);
        server.shows("etcd_disk_backend_snapshot_duration_seconds_count", 1.0).await;
        client.defragment(pb::DefragmentRequest {}).await.unwrap();
        assert_eq!(server.metric("etcd_disk_backend_defrag_duration_seconds_count"), 1.0);
        assert_eq!(server.metric("etcd_disk_defrag_inflight"), 0.0);
        for part in ["spill", "write"] {
            let name = format!("etcd_debugging_disk_backend_commit_{part}_duration_seconds_count");
            assert!(server.metric(&name) >= 1.0, "{part}");
        }
        assert!(server.metric("etcd_mvcc_db_open_read_transactions") >= 1.0);
        let saved = server.metric("etcd_debugging_snap_save_total_duration_seconds_count");
        assert!(saved >= 1.0);
        for name in ["etcd_debugging_snap_save_marshalling", "etcd_snap_fsync"] {
            assert!(server.metric(&format!("{name}_duration_seconds_count")) >= saved, "{name}");
        }
    })
    .await;
}

/// What a client sends first: the preface and empty settings.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn refused_requests_and_connections_closed_for_a_fault_are_counted() {
    with_server(|_, server| async move {
        let send = |frame: &[u8]| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(&[OPENING, frame].concat()).unwrap();
            stream
        };
        // A header block with the one field ":method: GET": not a request.
        let refused = send(b"\0\0\x01\x01\x05\0\0\0\x01\x82");
        let name = r#"retcd_http2_requests_refused_total{cause="malformed"}"#;
        server.shows(name, 1.0).await;
        drop(refused);
        // A stream with an even number.
        let mut closed = send(b"\0\0\x01\x01\x05\0\0\0\x02\x82");
        closed.read_to_end(&mut Vec::new()).unwrap();
        server.shows(r#"retcd_http2_connections_closed_total{code="PROTOCOL_ERROR"}"#, 1.0).await;
        assert_eq!(server.metric(name), 1.0, "one request was refused");
    })
    .await;
}
