//! A leader and a member that lags: entries from the log file, snapshots, and the limits.

#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use proto::{ConfState, Entry, EntryId, Index, NodeId, Term};
use raft::tracker::ProgressState;
use raft::{
    Body, Config, DroppedRequest, LogPart, LogRead, Message, Node, RaftSnapshot, Read, ReadMode,
    Ready, Restored, Role,
};

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn conf_state(voters: &[u64]) -> ConfState {
    ConfState { voters: voters.iter().copied().map(NodeId).collect(), ..ConfState::default() }
}

fn node(config: Config, voters: &[u64]) -> Node {
    let restored = Restored { conf_state: conf_state(voters), ..Restored::default() };
    Node::new(config, restored).unwrap()
}

fn message(from: u64, term: u64, body: Body) -> Message {
    Message { from: NodeId(from), to: NodeId(1), term: Term(term), body }
}

fn accepted(from: u64, index: u64) -> Message {
    message(from, 1, Body::AppendAccepted { index: Index(index) })
}

/// Carries out one Ready at once.
fn once(node: &mut Node) -> Ready {
    let mut ready = node.ready(true);
    for message in ready.write.iter_mut().flat_map(|write| std::mem::take(&mut write.after)) {
        if message.to == node.id() {
            node.step_own(message).unwrap();
        } else {
            ready.messages.push(message);
        }
    }
    if let Some(last) = ready.committed.last() {
        node.applied(last.index);
    }
    node.check();
    ready
}

/// Carries out all work at once. Returns the messages to one member.
fn drive(node: &mut Node, to: u64) -> Vec<Body> {
    let mut sent = Vec::new();
    while node.has_ready(true) {
        let messages = once(node).messages;
        sent.extend(messages.into_iter().filter(|m| m.to == NodeId(to)).map(|m| m.body));
    }
    sent
}

/// A leader of three in term 1. Its entries 1 to `last` are committed with member 2 only, and are
/// no longer in its memory. Member 3 has answered a heartbeat.
fn leader_without(config: Config, last: u64) -> Node {
    let mut node = node(config, &[1, 2, 3]);
    node.campaign();
    drive(&mut node, 3);
    node.step(message(2, 1, Body::VoteResponse { granted: true })).unwrap();
    drive(&mut node, 3);
    for index in 2..=last {
        node.propose(vec![Bytes::from(index.to_string())]).unwrap();
        drive(&mut node, 3);
    }
    node.step(accepted(2, last)).unwrap();
    drive(&mut node, 3);
    node.compact(Index(last));
    assert_eq!(node.first_index(), Index(last + 1));
    node
}

fn heartbeat_answered(node: &mut Node) {
    let context = Bytes::new();
    node.step(message(3, 1, Body::HeartbeatResponse { context })).unwrap();
}

fn reading() -> Config {
    let mut config = Config::new(NodeId(1), 1);
    config.rules.reads_log = true;
    config
}

fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    range.map(|index| Entry { term: Term(1), index: Index(index), ..Entry::default() }).collect()
}

#[test]
fn entries_that_left_the_memory_are_read_from_the_log_file() {
    let mut node = leader_without(reading(), 5);
    heartbeat_answered(&mut node);
    let reads = once(&mut node).log_reads;
    let bytes_max = 1 << 20;
    let read = LogRead { term: Term(1), first: Index(1), last: Index(5), bytes_max };
    assert_eq!(reads, [read]);
    heartbeat_answered(&mut node);
    assert_eq!(once(&mut node).log_reads, [], "it is asked for once");
    node.log_read(read, Some(LogPart { prev: id(0, 0), entries: entries(1..=3) }));
    let append = Body::Append { prev: id(0, 0), entries: entries(1..=3), commit: Index(5) };
    assert_eq!(drive(&mut node, 3), [append]);
    node.step(accepted(3, 3)).unwrap();
    let read = once(&mut node).log_reads[0];
    assert_eq!(read.first, Index(4));
    node.log_read(read, Some(LogPart { prev: id(1, 3), entries: entries(4..=5) }));
    assert_eq!(drive(&mut node, 3).len(), 1);
    node.step(accepted(3, 5)).unwrap();
    drive(&mut node, 3);
    assert_eq!(node.progress()[&NodeId(3)].matched, Index(5));
}

#[test]
fn a_member_gets_a_snapshot_for_entries_that_the_log_file_no_longer_has() {
    let mut node = leader_without(reading(), 5);
    heartbeat_answered(&mut node);
    let read = once(&mut node).log_reads[0];
    node.log_read(read, None);
    let ready = once(&mut node);
    assert!(ready.wants_snapshot && ready.messages.is_empty(), "there is none yet");
    assert!(!node.has_ready(true), "nothing is asked again until the member responds");
    let snapshot = RaftSnapshot {
        id: id(1, 5),
        conf_state: conf_state(&[1, 2, 3]),
        data: Bytes::from_static(b"state"),
    };
    node.set_snapshot(snapshot.clone());
    heartbeat_answered(&mut node);
    let read = once(&mut node).log_reads[0];
    node.log_read(read, None);
    assert_eq!(drive(&mut node, 3), [Body::Snapshot(Box::new(snapshot))]);
    assert_eq!(node.progress()[&NodeId(3)].state, ProgressState::Snapshot);
    node.step(accepted(3, 5)).unwrap();
    assert_eq!(node.progress()[&NodeId(3)].state, ProgressState::Replicate);
}

/// Once, such a snapshot was sent, and the leader then resent entries that the member had.
#[test]
fn a_snapshot_behind_what_the_member_has_is_not_sent_to_it() {
    let mut node = leader_without(reading(), 5);
    heartbeat_answered(&mut node);
    let read = once(&mut node).log_reads[0];
    node.log_read(read, Some(LogPart { prev: id(0, 0), entries: entries(1..=3) }));
    drive(&mut node, 3);
    node.step(accepted(3, 3)).unwrap();
    let read = once(&mut node).log_reads[0];
    let conf_state = conf_state(&[1, 2, 3]);
    node.set_snapshot(RaftSnapshot { id: id(1, 2), conf_state, data: Bytes::new() });
    node.log_read(read, None);
    let ready = once(&mut node);
    assert!(ready.wants_snapshot && ready.messages.is_empty());
    node.check();
}

#[test]
fn a_snapshot_without_the_member_is_not_sent_to_it() {
    let mut node = leader_without(Config::new(NodeId(1), 1), 5);
    let of_two = conf_state(&[1, 2]);
    node.set_snapshot(RaftSnapshot { id: id(1, 5), conf_state: of_two, data: Bytes::new() });
    heartbeat_answered(&mut node);
    let ready = once(&mut node);
    assert!(ready.wants_snapshot && ready.messages.is_empty());
}

#[test]
fn a_snapshot_that_is_lost_is_sent_again() {
    let mut node = leader_without(Config::new(NodeId(1), 1), 5);
    let conf_state = conf_state(&[1, 2, 3]);
    node.set_snapshot(RaftSnapshot { id: id(1, 5), conf_state, data: Bytes::new() });
    heartbeat_answered(&mut node);
    assert_eq!(drive(&mut node, 3).len(), 1);
    heartbeat_answered(&mut node);
    assert_eq!(drive(&mut node, 3), [], "it is on its way");
    node.report_snapshot(NodeId(3), false);
    heartbeat_answered(&mut node);
    assert!(matches!(drive(&mut node, 3)[..], [Body::Snapshot(_)]));
}

#[test]
fn a_snapshot_is_acknowledged_and_applied_only_when_it_is_durable() {
    let mut node = node(Config::new(NodeId(1), 1), &[1, 2, 3]);
    let conf_state = conf_state(&[1, 2]);
    let snapshot = RaftSnapshot { id: id(3, 9), conf_state: conf_state.clone(), data: "s".into() };
    node.step(message(2, 3, Body::Snapshot(Box::new(snapshot.clone())))).unwrap();
    let next = Entry { term: Term(3), index: Index(10), ..Entry::default() };
    let append = Body::Append { prev: id(3, 9), entries: vec![next.clone()], commit: Index(10) };
    node.step(message(2, 3, append)).unwrap();
    let ready = node.ready(true);
    let write = ready.write.unwrap();
    assert_eq!((write.must_sync, write.snapshot), (true, Some(snapshot)));
    assert_eq!((write.entries, ready.messages.len(), ready.committed.len()), (vec![next], 0, 0));
    node.tick();
    node.campaign();
    assert_eq!(node.role(), Role::Follower, "its configuration is not durable");
    let (own, others): (Vec<Message>, Vec<Message>) =
        write.after.into_iter().partition(|message| message.to == NodeId(1));
    assert_eq!(others[0].body, Body::AppendAccepted { index: Index(9) });
    for message in own {
        node.step_own(message).unwrap();
    }
    assert_eq!((node.applied_index(), node.conf_state()), (Index(9), conf_state));
    assert_eq!(node.ready(true).committed.len(), 1);
    node.check();
}

#[test]
fn proposals_are_refused_while_too_many_bytes_are_not_applied() {
    let mut config = Config::new(NodeId(1), 1);
    config.limits.uncommitted_bytes_max = 100;
    let mut node = node(config, &[1]);
    node.tick();
    drive(&mut node, 2);
    let data = |length: usize| vec![Bytes::from(vec![0; length])];
    node.propose(data(500)).unwrap();
    assert_eq!(node.propose(data(1)), Err(DroppedRequest::TooManyBytes));
    assert!(node.propose(data(0)).is_ok(), "an empty entry is always taken");
    drive(&mut node, 2);
    node.propose(data(60)).unwrap();
    node.propose(data(40)).unwrap();
    assert_eq!(node.propose(data(1)), Err(DroppedRequest::TooManyBytes));
}

#[test]
fn a_leader_that_hands_over_takes_no_proposals_until_an_election_timeout_has_passed() {
    let mut node = leader_without(Config::new(NodeId(1), 1), 2);
    node.transfer_leadership(NodeId(2));
    assert_eq!(drive(&mut node, 2), [Body::TimeoutNow]);
    assert_eq!(node.propose(vec![Bytes::new()]), Err(DroppedRequest::LeadershipMoves));
    for _ in 0..10 {
        node.tick();
    }
    assert_eq!(node.transferee(), NodeId::NONE);
    assert!(node.propose(vec![Bytes::new()]).is_ok());
}

#[test]
fn a_leader_steps_down_without_a_quorum_and_then_answers_no_read_by_its_lease() {
    let mut config = Config::new(NodeId(1), 1);
    config.rules.check_quorum = true;
    config.rules.read_mode = ReadMode::Lease;
    let mut node = leader_without(config, 2);
    node.read_index(7).unwrap();
    assert_eq!(once(&mut node).reads, [Read { context: 7, index: Index(2) }]);
    for _ in 0..20 {
        node.tick();
    }
    assert_eq!(node.role(), Role::Follower);
    assert_eq!(node.read_index(8), Err(DroppedRequest::NoLeader));
}
