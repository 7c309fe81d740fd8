//! Requests to the peer port, and its responses.

use crate::node::{Host, Node, PATIENCE};
use net::Url;
use peer::Dialer;
use peer::remote::{self, RemoteError, blocking};
use proto::etcdserverpb::LeaseTimeToLiveRequest;
use proto::{LeaseId, NodeId};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const HEADERS: &str = "X-Server-From: 2\r\nX-Server-Version: 3.5.30\r\n\
    X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: 1c\r\nX-Raft-To: 1\r\n";

/// The status and the text of an answer.
fn ask(node: &Node, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
    let mut client = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let len = body.len();
    write!(client, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n").unwrap();
    client.write_all(body).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), text.to_owned())
}

#[test]
fn refusals_have_the_status_and_text_of_etcd() {
    let node = Node::new(1);
    node.transport.set_members(
        &crate::node::urls(&[(NodeId(2), "http://127.0.0.1:1")]),
        &BTreeSet::from([NodeId(0xdead)]),
    );
    let other_cluster = HEADERS.replace("1c", "1d");
    let old = HEADERS.replace("3.5.30", "2.3.0");
    let other_to = HEADERS.replace("To: 1", "To: 9");
    let stream = "/raft/stream/message/2";
    for (method, path, headers, status, text) in [
        ("POST", stream, HEADERS, 405, "Method Not Allowed\n"),
        ("GET", stream, &*old, 412, "incompatible version\n"),
        ("GET", stream, "", 412, "incompatible version\n"),
        ("GET", stream, &*other_cluster, 412, "cluster ID mismatch\n"),
        ("GET", "/raft/stream/other/2", HEADERS, 404, "invalid path\n"),
        ("GET", "/raft/stream/message/x", HEADERS, 404, "invalid from\n"),
        ("GET", "/raft/stream/message/dead", HEADERS, 410, "removed member\n"),
        ("GET", "/raft/stream/message/3", HEADERS, 404, "error sender not found\n"),
        ("GET", stream, &*other_to, 412, "to field mismatch\n"),
    ] {
        let (found, head, answer) = ask(&node, method, path, headers, b"");
        assert_eq!((found, &*answer), (status, text), "{path}");
        assert!(head.contains("x-server-version: 3.7.1"), "on every answer: {head}");
        assert!(head.contains("x-etcd-cluster-id: 1c"), "on every answer: {head}");
    }
    let of_removed = [8, 14, 0x10, 1, 0x18, 0xad, 0xbd, 3];
    let for_other = [8, 14, 0x10, 9, 0x18, 2];
    let good = [8, 14, 0x10, 1, 0x18, 2];
    for (path, headers, body, status, text) in [
        ("/raft", &*other_cluster, &good[..], 412, "cluster ID mismatch\n"),
        ("/raft", HEADERS, &[0xff], 400, "error unmarshalling raft message\n"),
        ("/raft", HEADERS, &of_removed, 500, "error processing raft message\n"),
        ("/raft", HEADERS, &for_other, 500, "error processing raft message\n"),
        ("/raft", HEADERS, &good, 204, ""),
        (
            "/raft/snapshot",
            HEADERS,
            &[0, 0, 0, 0, 0, 0, 0, 6, 8, 14, 0x10, 1, 0x18, 2],
            400,
            "wrong raft message type\n",
        ),
        (
            "/raft/snapshot",
            HEADERS,
            &[0, 0],
            400,
            "failed to decode raft message (unexpected EOF)\n",
        ),
    ] {
        let (found, head, answer) = ask(&node, "POST", path, headers, body);
        assert_eq!((found, &*answer), (status, text), "{path} {body:?}");
        assert!(head.contains("x-etcd-cluster-id: 1c"), "{head}");
    }
    assert_eq!(ask(&node, "GET", "/raft", HEADERS, b"").0, 405);
    assert_eq!(ask(&node, "GET", "/x", "", b"").0, 404);
    let (status, _, probe) = ask(&node, "GET", "/raft/probing", "", b"");
    assert!(status == 200 && probe.starts_with("{\"OK\":true,\"Now\":\"20"), "{probe}");
    node.transport.announce(cluster::Version { major: 3, minor: 5, patch: 0 });
    let (_, head, _) = ask(&node, "GET", "/raft/stream/other/2", HEADERS, b"");
    assert!(head.contains("x-server-version: 3.5.0"), "{head}");
    assert_eq!(ask(&node, "GET", "/downgrade/enabled", "", b"").2, "false");
}

#[test]
fn a_member_answers_what_others_ask() {
    let node = Node::new(1);
    let dialer = Dialer::new(None, PATIENCE);
    let dead = Url::parse("http://127.0.0.1:1").unwrap();
    let url = Url::parse(&node.url).unwrap();
    let found =
        blocking(remote::fetch_members(&dialer, &[dead.clone(), url.clone()], PATIENCE)).unwrap();
    assert_eq!((found.cluster, found.members), (0x1c, Host::members()));
    let versions =
        blocking(remote::fetch_version(&dialer, std::slice::from_ref(&url), PATIENCE)).unwrap();
    assert_eq!(versions.etcdserver, "3.7.1");
    let error = blocking(remote::fetch_version(&dialer, &[dead], PATIENCE)).unwrap_err();
    let refused = "dial tcp 127.0.0.1:1: connection refused".to_owned();
    assert_eq!(error, RemoteError::Unreachable(refused));
    let promote = |id, token: Option<&str>| {
        blocking(remote::promote(&dialer, &url, NodeId(id), token.map(str::to_owned), PATIENCE))
    };
    assert_eq!(promote(7, Some("token")), Ok(Host::members()));
    let refused = |status, text: &str| RemoteError::Refused(status, text.to_owned());
    assert_eq!(promote(7, None), Err(refused(404, "membership: ID not found")));
    assert_eq!(promote(8, None), Err(refused(500, "{\"message\":\"Internal Server Error\"}")));
    let hash =
        |cluster, revision| blocking(remote::hash_kv(&dialer, &url, cluster, revision, PATIENCE));
    assert_eq!(hash(0x1c, 16).map(|answer| (answer.revision(), answer.hash)), Ok((17, 5)));
    assert_eq!(hash(0x1d, 16), Err(refused(412, "cluster ID mismatch")));
    let future = refused(400, "mvcc: required revision is a future revision");
    assert_eq!(hash(0x1c, 99), Err(future));
    let renew = |id| blocking(remote::renew_lease(&dialer, &url, LeaseId(id), PATIENCE));
    assert_eq!(renew(3), Ok(60));
    assert_eq!(renew(4), Err(refused(404, "lease not found")));
    let request = LeaseTimeToLiveRequest { id: 3, keys: true };
    let answer = blocking(remote::lease_time_to_live(&dialer, &url, request, PATIENCE)).unwrap();
    assert_eq!((answer.id, answer.ttl), (3, 9));
}
