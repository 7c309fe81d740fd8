//! The lines of the audit log, for calls on every way.

use crate::fake::{Fake, channel, serve};
use api::{AuditSink, Limits};
use proto::etcdserverpb::{
    AuthUserAddRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, request_op::Request, watch_request::RequestUnion,
};
use proto::v3electionpb::LeaderRequest;
use rpc::stubs::etcdserverpb::auth_client::AuthClient;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::watch_client::WatchClient;
use rpc::stubs::v3electionpb::election_client::ElectionClient;
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The lines so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Value>>>);

impl Lines {
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Runs `test` against a server with an audit log.
fn audited<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, Lines) -> F) {
    let lines = Lines::default();
    let sink = lines.clone();
    let audit = AuditSink::new(move |line| {
        sink.0.lock().unwrap().push(Value::Object(line.fields));
    });
    let limits = Limits { audit: Some(audit), ..Limits::default() };
    serve(&Fake::default(), limits, |address| test(address, lines));
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "secret".into(), ..PutRequest::default() }
}

fn line(method: &str, fields: Value) -> Value {
    let mut line = json!({ "user": "alice", "method": method });
    line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    line
}

#[test]
fn a_call_has_a_line_with_its_keys_and_its_revision() {
    audited(|address, lines| async move {
        let mut kv = KvClient::new(channel(address).await);
        kv.put(put("a")).await.unwrap();
        let ops = vec![RequestOp { request: Some(Request::RequestPut(put("b"))) }];
        kv.txn(TxnRequest { success: ops, ..Default::default() }).await.unwrap();
        let range = RangeRequest { key: "a".into(), range_end: "c".into(), ..Default::default() };
        kv.range(range.clone()).await.unwrap();
        kv.range_stream(range.clone()).await.unwrap();
        kv.range(RangeRequest { revision: 99, ..range }).await.unwrap_err();
        let range = json!([{"op": "range", "key": "a", "range_end": "c"}]);
        let puts = |key: &str| json!([{ "op": "put", "key": key }]);
        let ok = |keys: Value, revision: i64| json!({ "keys": keys, "revision": revision, "result": "ok" });
        let failed = json!({
            "keys": range, "result": "failed", "code": "OutOfRange",
            "reason": "etcdserver: mvcc: required revision is a future revision",
        });
        let want = [
            line("/etcdserverpb.KV/Put", ok(puts("a"), 1)),
            line("/etcdserverpb.KV/Txn", ok(puts("b"), 2)),
            line("/etcdserverpb.KV/Range", ok(range.clone(), 2)),
            line("/etcdserverpb.KV/RangeStream", ok(range, 2)),
            line("/etcdserverpb.KV/Range", failed),
        ];
        assert_eq!(lines.take(), want);
    });
}

#[test]
fn a_call_whose_client_gives_up_has_a_line() {
    audited(|address, lines| async move {
        let mut kv = KvClient::new(channel(address).await);
        let mut slow =
            tonic::Request::new(RangeRequest { key: "slow".into(), ..Default::default() });
        slow.set_timeout(std::time::Duration::from_millis(50));
        kv.range(slow).await.unwrap_err();
        kv.put(put("a")).await.unwrap();
        while lines.0.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        let all = lines.take();
        let slow = all.iter().find(|line| line["method"] == "/etcdserverpb.KV/Range").unwrap();
        assert_eq!((&slow["result"], &slow["code"]), (&json!("failed"), &json!("Cancelled")));
        assert_eq!(slow["keys"], json!([{"op": "range", "key": "slow"}]));
    });
}

#[test]
fn each_watch_and_each_renewal_has_a_line() {
    audited(|address, lines| async move {
        let create =
            WatchCreateRequest { key: "a".into(), start_revision: 1, ..Default::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let progress =
            WatchRequest { request_union: Some(RequestUnion::ProgressRequest(Default::default())) };
        let requests = tokio_stream::iter([create.clone(), progress, create]);
        let mut watch = WatchClient::new(channel(address).await);
        let mut events = watch.watch(requests).await.unwrap().into_inner();
        for _ in 0..2 {
            events.message().await.unwrap().unwrap();
        }
        let created = line(
            "/etcdserverpb.Watch/Watch",
            json!({"keys": [{"op": "watch", "key": "a"}], "revision": 0, "result": "ok"}),
        );
        assert_eq!(lines.take(), [created.clone(), created]);
        let mut lease = LeaseClient::new(channel(address).await);
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: 0x1f }]);
        let mut renewed = lease.lease_keep_alive(requests).await.unwrap().into_inner();
        renewed.message().await.unwrap().unwrap();
        let renewed = json!({"lease": "1f", "revision": 0, "result": "ok"});
        assert_eq!(lines.take(), [line("/etcdserverpb.Lease/LeaseKeepAlive", renewed)]);
    });
}

#[test]
fn the_calls_of_an_election_and_of_the_gateway_have_lines() {
    audited(|address, lines| async move {
        let mut election = ElectionClient::new(channel(address).await);
        election.leader(LeaderRequest { name: "e".into() }).await.unwrap_err();
        let inner = json!({
            "via": "/v3electionpb.Election/Leader",
            "keys": [{"op": "range", "key": "e/", "range_end": "e0"}],
            "revision": 0, "result": "ok",
        });
        let outer = json!({
            "keys": [{"op": "leader", "key": "e"}], "result": "failed", "code": "Unknown",
            "reason": "election: no leader",
        });
        let want =
            [line("/etcdserverpb.KV/Range", inner), line("/v3electionpb.Election/Leader", outer)];
        assert_eq!(lines.take(), want);

        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let body = r#"{"key":"YQ==","value":"c2VjcmV0"}"#;
        let head = "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let put = json!({
            "via": "gateway", "keys": [{"op": "put", "key": "a"}], "revision": 1, "result": "ok",
        });
        assert_eq!(lines.take(), [line("/etcdserverpb.KV/Put", put)]);
    });
}

#[test]
fn no_password_and_no_token_is_in_a_line() {
    audited(|address, lines| async move {
        let mut auth = AuthClient::new(channel(address).await);
        let mut request = tonic::Request::new(AuthUserAddRequest {
            name: "bob".into(),
            password: "canary".into(),
            ..Default::default()
        });
        request.metadata_mut().insert("token", "canary-token".parse().unwrap());
        auth.user_add(request).await.unwrap();
        let all = lines.take();
        assert!(!format!("{all:?}").contains("canary"), "{all:?}");
        assert_eq!(all[0]["target_user"], "bob");
    });
}
