//! The audit log of a running server.

use super::{DENIED, Server, USER_PASSWORD, post, run, said};
use proto::etcdserverpb as pb;
use serde_json::Value;

#[test]
fn the_audit_log_says_who_did_what_and_what_was_denied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut server = Server::start_with(&[format!("--audit-log={}", path.display())]);
    run(async {
        server.enable().await;
        drop(server.client(Some(("alice", "canary-wrong"))).await);
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let put = |key: &'static str| pb::PutRequest {
            key: key.into(),
            value: "canary-value".into(),
            ..Default::default()
        };
        alice.put(put("a")).await.unwrap();
        assert_eq!(said(alice.put(put("x")).await), DENIED);
        let create = pb::WatchCreateRequest { key: "x".into(), ..Default::default() };
        alice.watch(create).await.next().await.unwrap();
        let header = "authorization: canary.1\r\n";
        post(&server.endpoint, "/v3/kv/range", header, r#"{"key":"YQ=="}"#);
    });
    server.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |method: &str, result: &str| {
        let fits = |line: &&Value| {
            line["method"].as_str().unwrap().ends_with(method) && line["result"] == result
        };
        lines.iter().find(fits).unwrap_or_else(|| panic!("no {method} {result} in {text}"))
    };
    let done = found("KV/Put", "ok");
    assert_eq!((&done["user"], &done["keys"][0]["key"]), (&"alice".into(), &"a".into()));
    assert_eq!(done["revision"], 2);
    assert!(done["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(done["time"].as_str().unwrap().ends_with('Z'));
    let denied = found("KV/Put", "denied");
    assert_eq!((&denied["user"], &denied["reason"]), (&"alice".into(), &DENIED.into()));
    assert_eq!(denied["keys"][0]["key"], "x");
    assert_eq!(found("Watch/Watch", "denied")["keys"][0]["key"], "x");
    let login = found("Auth/Authenticate", "denied");
    assert_eq!((&login["user"], &login["target_user"]), (&Value::Null, &"alice".into()));
    let invalid = found("KV/Range", "denied");
    assert_eq!(invalid["reason"], "etcdserver: invalid auth token");
    assert_eq!((&invalid["user"], &invalid["via"]), (&Value::Null, &"gateway".into()));
    assert_eq!(found("Auth/UserAdd", "ok")["target_user"], "root");
    assert_eq!(found("Auth/RoleGrantPermission", "ok")["keys"][0]["range_end"], "d");
}
