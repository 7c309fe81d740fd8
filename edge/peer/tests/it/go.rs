//! A member of Go's etcd and one of ours, over the peer protocol. `RETCD_GO_ETCD` names Go's server.

use crate::node::{Node, PATIENCE};
use cluster::{cluster_id, member_id};
use proto::{EntryId, Index, NodeId};
use raft::{Body, Message};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A running server. It is killed when this is dropped.
struct Go(Child);

impl Drop for Go {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn free_url() -> String {
    format!("http://127.0.0.1:{}", ports::free().unwrap())
}

fn start(binary: &Path, dir: &Path, (url, other): (&str, &str)) -> Go {
    let client = free_url();
    let mut command = Command::new(binary);
    command.args(["--name", "go", "--initial-cluster-token", "tok", "--data-dir"]);
    command.arg(dir.join("data")).args(["--listen-peer-urls", url]);
    command.args(["--initial-advertise-peer-urls", url, "--listen-client-urls", &client]);
    command.args(["--advertise-client-urls", &client]);
    command.args(["--initial-cluster", &format!("go={url},ours={other}")]);
    let log = File::create(dir.join("log")).unwrap();
    Go(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

/// Answers a message of Go's member like a follower with the same log.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others need no answer")]
fn answer(message: &Message) -> Option<Body> {
    match &message.body {
        Body::PreVote { .. } => Some(Body::PreVoteResponse { granted: true }),
        Body::Vote { .. } => Some(Body::VoteResponse { granted: true }),
        Body::Heartbeat { context, .. } => {
            Some(Body::HeartbeatResponse { context: context.clone() })
        }
        Body::Append { prev, entries, .. } => {
            let index = Index(prev.index.0 + entries.len() as u64);
            Some(Body::AppendAccepted { index })
        }
        _ => None,
    }
}

#[test]
fn a_member_of_go_is_elected_by_ours_and_replicates_to_it() {
    let Some(binary) = std::env::var_os("RETCD_GO_ETCD") else {
        println!("skipped: RETCD_GO_ETCD does not name Go's etcd");
        return;
    };
    let (go_url, dir) = (free_url(), tempfile::tempdir().unwrap());
    let own_url = free_url();
    let id = |url: &str| member_id(&[url.to_owned()], "tok", None);
    let (go_id, own_id) = (id(&go_url), id(&own_url));
    let ours = Node::at(own_id.0, cluster_id([go_id, own_id]), &own_url);
    let members = crate::node::urls(&[(go_id, &go_url), (own_id, &own_url)]);
    ours.transport.set_members(&members, &std::collections::BTreeSet::new());
    let go = start(Path::new(&binary), dir.path(), (&go_url, &own_url));
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    let (mut kinds, mut last) = (Vec::new(), EntryId::default());
    let deadline = Instant::now() + PATIENCE;
    // Waits until the member has published its name and several heartbeats have arrived.
    while !log().contains("published local member to cluster through raft")
        || kinds.iter().filter(|kind| **kind == "MsgHeartbeat").count() < 10
    {
        assert!(Instant::now() < deadline, "{kinds:?}\n{}", log());
        let message = ours.inbox.wait("a message of Go", |told| {
            (!told.messages.is_empty()).then(|| told.messages.remove(0))
        });
        assert_eq!((message.from, message.to), (go_id, own_id));
        if let Some(body) = answer(&message) {
            ours.transport.send(vec![Message {
                from: own_id,
                to: go_id,
                term: message.term,
                body,
            }]);
        }
        if let Body::Append { entries, .. } = &message.body
            && let Some(entry) = entries.last()
        {
            last = last.max(entry.id());
        }
        kinds.push(message.body.name());
    }
    for kind in ["MsgPreVote", "MsgVote", "MsgApp", "MsgHeartbeat"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert!(last.index > Index(2), "more than the two first members: {last:?}");
    assert!(ours.transport.active_since(go_id).is_some());
    ours.inbox.wait("nobody is removed", |told| (told.removed == 0).then_some(()));
    check_log(&log(), own_id);
    let text = String::from_utf8(ours.metrics.text()).unwrap();
    assert!(
        text.contains(&format!("etcd_network_peer_received_bytes_total{{From=\"{go_id:x}\"}}"))
    );
    drop(go);
}

/// Checks that Go's log shows all four streams, and no warnings except the usual ones of a start.
fn check_log(log: &str, own_id: NodeId) {
    let id = format!("{own_id:x}");
    let of_us = |message: &str| {
        log.lines().filter(|line| line.contains(message) && line.contains(&id)).count()
    };
    assert_eq!(of_us("established TCP streaming connection with remote peer"), 4, "{log}");
    for message in ["lost TCP streaming connection", "cluster ID mismatch", "version compat"] {
        assert_eq!(of_us(message), 0, "{message}: {log}");
    }
    let bad = ["\"level\":\"error\"", "\"level\":\"fatal\"", "\"level\":\"panic\"", "panic:"];
    for line in log.lines() {
        assert!(!bad.iter().any(|level| line.contains(level)), "{line}");
    }
}

#[test]
fn a_probe_of_go_is_answered() {
    let Some(binary) = std::env::var_os("RETCD_GO_ETCD") else {
        println!("skipped: RETCD_GO_ETCD does not name Go's etcd");
        return;
    };
    let (go_url, own_url) = (free_url(), free_url());
    let dir = tempfile::tempdir().unwrap();
    let _go = start(Path::new(&binary), dir.path(), (&go_url, &own_url));
    let urls = [net::Url::parse(&go_url).unwrap()];
    let dialer = peer::Dialer::new(None, Duration::from_secs(2));
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        match peer::remote::blocking(peer::remote::fetch_members(
            &dialer,
            &urls,
            Duration::from_secs(2),
        )) {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let id = |url: &str| member_id(&[url.to_owned()], "tok", None);
    let mut wanted = [id(&go_url), id(&own_url)];
    wanted.sort();
    assert_eq!(found.cluster, cluster_id(wanted));
    assert_eq!(found.members.iter().map(|member| member.id).collect::<Vec<_>>(), wanted);
    let version =
        peer::remote::blocking(peer::remote::fetch_version(&dialer, &urls, Duration::from_secs(2)));
    assert!(version.unwrap().etcdserver.starts_with("3."));
}
