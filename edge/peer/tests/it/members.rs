//! Messages between members: of all kinds, after a restart, and beside members that do not answer.

use crate::node::{CLUSTER, Node, introduce, urls};
use bytes::Bytes;
use proto::{Entry, EntryId, Index, NodeId, Term};
use raft::{Body, Message};
use std::collections::BTreeSet;
use std::net::TcpListener;

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn entry(index: u64) -> Entry {
    let data = Bytes::from(vec![7; 1000]);
    Entry { term: Term(3), index: Index(index), data, ..Entry::default() }
}

fn bodies() -> Vec<Body> {
    let context = Bytes::from_static(b"12345678");
    let append = |prev, entries| Body::Append { prev, entries, commit: Index(4) };
    vec![
        Body::Propose { entries: vec![entry(0)] },
        append(id(2, 4), vec![entry(5), entry(6)]),
        append(id(3, 6), vec![entry(7)]),
        append(id(3, 7), vec![]),
        Body::AppendRejected { index: Index(9), hint: id(2, 3) },
        Body::Vote { last: id(2, 4), transfer: true },
        Body::VoteResponse { granted: false },
        Body::PreVote { last: id(2, 4) },
        Body::PreVoteResponse { granted: true },
        Body::Heartbeat { commit: Index(3), context: context.clone() },
        Body::HeartbeatResponse { context: context.clone() },
        Body::TransferLeader,
        Body::TimeoutNow,
        Body::ReadIndex { context: context.clone() },
        Body::ReadIndexResponse { index: Index(8), context },
    ]
}

#[test]
fn messages_of_all_kinds_arrive_over_streams_and_as_single_requests() {
    let nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let all: Vec<&Node> = nodes.iter().collect();
    introduce(&all);
    // The first round is sent as single requests or on streams, the second one on streams.
    for round in 0..2 {
        for from in &nodes {
            let others = nodes.iter().filter(|node| node.id != from.id);
            for to in others {
                let messages: Vec<Message> = bodies()
                    .into_iter()
                    .map(|body| Message { term: Term(3 + round), ..from.message(to.id, body) })
                    .collect();
                from.transport.send(messages.clone());
                for message in &messages {
                    to.inbox.take(message);
                }
                from.wait_for(to.id);
            }
        }
    }
    let text = String::from_utf8(nodes[0].metrics.text()).unwrap();
    for line in [
        "etcd_network_active_peers{Local=\"1\",Remote=\"2\"} 1",
        "etcd_network_peer_sent_bytes_total{To=\"2\"}",
        "etcd_network_peer_received_bytes_total{From=\"3\"}",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn a_member_that_starts_again_is_reached_again() {
    let (one, two) = (Node::new(1), Node::new(2));
    introduce(&[&one, &two]);
    let message = one.message(two.id, Body::TimeoutNow);
    one.transport.send(vec![message.clone()]);
    two.inbox.take(&message);
    one.wait_for(two.id);
    let url = two.url.clone();
    drop(two);
    // If the other member's streams were not open yet, only a message shows that it is gone.
    one.transport.send(vec![message.clone()]);
    one.inbox.wait("the other member is gone", |told| {
        told.unreachable.contains(&NodeId(2)).then_some(())
    });
    let two = Node::at(2, CLUSTER, &url);
    two.knows(&[&one]);
    one.wait_for(two.id);
    // The first messages may be lost.
    two.inbox.wait("a message after the restart", |told| {
        one.transport.send(vec![message.clone()]);
        (!told.messages.is_empty()).then_some(())
    });
}

#[test]
fn members_of_another_cluster_get_nothing() {
    let one = Node::new(1);
    let other = Node::at(2, 0xbad, "http://127.0.0.1:0");
    introduce(&[&one, &other]);
    one.transport.send(vec![one.message(other.id, Body::TimeoutNow)]);
    one.inbox
        .wait("the message is refused", |told| told.unreachable.contains(&other.id).then_some(()));
    assert_eq!(one.transport.active_since(other.id), None);
    other.inbox.wait("nothing", |told| told.messages.is_empty().then_some(()));
}

#[test]
fn a_removed_member_is_told_by_its_streams_and_its_messages_are_refused() {
    let (one, two) = (Node::new(1), Node::new(2));
    two.transport.set_members(&urls(&[(two.id, &two.url)]), &BTreeSet::from([one.id]));
    one.knows(&[&two]);
    one.inbox.wait("one is told", |told| (told.removed > 0).then_some(()));
    one.transport.send(vec![one.message(two.id, Body::TimeoutNow)]);
    one.inbox.wait("refused", |told| told.unreachable.contains(&two.id).then_some(()));
    two.inbox.wait("nothing", |told| told.messages.is_empty().then_some(()));
}

#[test]
fn a_member_that_reads_nothing_delays_no_other_and_its_queue_is_bounded() {
    let (one, two) = (Node::new(1), Node::new(2));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    one.transport
        .set_members(&urls(&[(two.id, &two.url), (NodeId(3), &silent_url)]), &BTreeSet::new());
    two.knows(&[&one]);
    one.wait_for(two.id);
    let to_silent = one.message(NodeId(3), Body::TimeoutNow);
    one.transport.send(vec![to_silent; 100]);
    let dropped = one.inbox.wait("the queue overflows at once", |told| {
        let dropped = told.unreachable.iter().filter(|id| **id == NodeId(3)).count();
        (dropped > 0).then_some(dropped)
    });
    assert!((32..=36).contains(&dropped), "64 wait and up to 4 are under way: {dropped}");
    let message = one.message(two.id, Body::TimeoutNow);
    let started = std::time::Instant::now();
    one.transport.send(vec![message.clone()]);
    two.inbox.take(&message);
    assert!(started.elapsed() < std::time::Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_sender_that_is_no_member_yet_is_answered() {
    let (one, two) = (Node::new(1), Node::new(2));
    one.knows(&[&two]);
    let question = one.message(two.id, Body::PreVote { last: id(1, 1) });
    one.transport.send(vec![question.clone()]);
    two.inbox.take(&question);
    let answer = two.message(one.id, Body::PreVoteResponse { granted: true });
    two.transport.send(vec![answer.clone()]);
    one.inbox.take(&answer);
}

#[test]
fn a_member_that_is_no_longer_one_gets_no_messages() {
    let (one, two) = (Node::new(1), Node::new(2));
    introduce(&[&one, &two]);
    one.wait_for(two.id);
    one.transport.set_members(&urls(&[(one.id, &one.url)]), &BTreeSet::from([two.id]));
    two.inbox.wait("two is told", |told| (told.removed > 0).then_some(()));
    one.transport.send(vec![one.message(two.id, Body::TimeoutNow)]);
    two.transport.send(vec![two.message(one.id, Body::TimeoutNow)]);
    two.inbox.wait("it is refused", |told| told.unreachable.contains(&one.id).then_some(()));
    one.inbox.wait("nothing", |told| told.messages.is_empty().then_some(()));
    two.inbox.wait("nothing", |told| told.messages.is_empty().then_some(()));
}
