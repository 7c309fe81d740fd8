//! Examples for one node: its output, its refusals, and its restart.

#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use proto::raftpb::{self, ConfChangeType};
use proto::{ConfChange, ConfState, Entry, EntryId, HardState, Index, NodeId, Term};
use raft::{
    Body, ConfChanges, Config, DroppedRequest, Error, LogWrite, Message, Node, Proposed,
    RaftSnapshot, Read, Ready, Restored, Role,
};

fn conf_state(voters: &[u64]) -> ConfState {
    ConfState { voters: voters.iter().copied().map(NodeId).collect(), ..ConfState::default() }
}

fn restored(voters: &[u64]) -> Restored {
    Restored { conf_state: conf_state(voters), ..Restored::default() }
}

fn node(voters: &[u64]) -> Node {
    Node::new(Config::new(NodeId(1), 1), restored(voters)).unwrap()
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn entries(before: u64, terms: &[u64]) -> Vec<Entry> {
    (before + 1..)
        .zip(terms)
        .map(|(index, term)| Entry { term: Term(*term), index: Index(index), ..Entry::default() })
        .collect()
}

fn message(from: u64, term: u64, body: Body) -> Message {
    Message { from: NodeId(from), to: NodeId(1), term: Term(term), body }
}

fn data(text: &str) -> Vec<Bytes> {
    text.split_whitespace().map(|word| Bytes::from(String::from(word))).collect()
}

/// Carries out all work at once. Returns the applied entries.
fn drive(node: &mut Node) -> Vec<Entry> {
    let mut applied = Vec::new();
    while node.has_ready(true) {
        let mut ready = node.ready(true);
        if let Some(write) = ready.write.take() {
            written(node, write);
        }
        applied.extend(apply(node, ready));
        node.check();
    }
    applied
}

/// Reports that the write is durable. Returns the messages that may be sent now.
fn written(node: &mut Node, write: LogWrite) -> Vec<Message> {
    let (own, others): (Vec<Message>, Vec<Message>) =
        write.after.into_iter().partition(|message| message.to == node.id());
    for message in own {
        node.step_own(message).ok();
    }
    others
}

/// The next write; there must be one.
fn next_write(node: &mut Node) -> LogWrite {
    node.ready(true).write.unwrap()
}

fn bodies(messages: &[Message]) -> Vec<Body> {
    messages.iter().map(|message| message.body.clone()).collect()
}

fn apply(node: &mut Node, ready: Ready) -> Vec<Entry> {
    for entry in &ready.committed {
        if let Some(changes) = ConfChanges::of(entry).unwrap() {
            node.apply_conf_change(&changes).unwrap();
        }
        node.applied(entry.index);
    }
    ready.committed
}

/// A leader of three in term 1 whose first entry is committed.
fn leader_of_three(config: Config) -> Node {
    let mut node = Node::new(config, restored(&[1, 2, 3])).unwrap();
    node.campaign();
    drive(&mut node);
    node.step(message(2, 1, Body::VoteResponse { granted: true })).unwrap();
    drive(&mut node);
    node.step(message(2, 1, Body::AppendAccepted { index: Index(1) })).unwrap();
    assert_eq!(drive(&mut node).len(), 1);
    node
}

#[test]
fn a_sole_voter_leads_on_its_first_tick_and_commits_what_is_durable() {
    let mut node = node(&[1]);
    node.tick();
    assert_eq!(node.role(), Role::Candidate);
    drive(&mut node);
    assert_eq!((node.role(), node.leader(), node.term()), (Role::Leader, NodeId(1), Term(1)));
    let (first, last) = (id(1, 2), id(1, 3));
    assert_eq!(node.propose(data("a b")), Ok(Proposed::Appended { first, last }));
    let write = next_write(&mut node);
    assert_eq!(write.entries.len(), 2);
    assert_eq!((node.commit(), node.has_ready(true)), (Index(1), false));
    written(&mut node, write);
    assert_eq!(node.commit(), Index(3));
    assert_eq!(drive(&mut node).len(), 2);
}

#[test]
fn what_comes_during_a_write_is_gathered_into_the_next() {
    let mut node = node(&[1]);
    node.tick();
    drive(&mut node);
    node.propose(data("a")).unwrap();
    let first = next_write(&mut node);
    node.propose(data("b")).unwrap();
    node.propose(data("c d")).unwrap();
    assert!(!node.has_ready(false));
    assert_eq!(node.ready(false), Ready::default());
    written(&mut node, first);
    let ready = node.ready(true);
    assert_eq!((ready.write.unwrap().entries.len(), ready.committed.len()), (3, 1));
    assert_eq!(node.persisted(), Index(2));
}

#[test]
fn a_sole_voter_on_a_slow_disk_does_not_campaign_again() {
    for pre_vote in [false, true] {
        let mut config = Config::new(NodeId(1), 1);
        config.rules.pre_vote = pre_vote;
        let mut node = Node::new(config, restored(&[1])).unwrap();
        node.tick();
        if pre_vote {
            let write = next_write(&mut node);
            assert!(!write.must_sync, "a pre-vote promises nothing");
            written(&mut node, write);
        }
        let write = next_write(&mut node);
        for _ in 0..100 {
            node.tick();
        }
        assert_eq!((node.term(), node.has_ready(true)), (Term(1), false));
        written(&mut node, write);
        assert_eq!(node.role(), Role::Leader);
    }
}

#[test]
fn a_vote_is_asked_for_only_once_the_log_and_the_own_vote_are_durable() {
    let mut node = node(&[1, 2, 3]);
    let append = Body::Append { prev: id(0, 0), entries: entries(0, &[1]), commit: Index(0) };
    node.step(message(2, 1, append)).unwrap();
    node.campaign();
    let ready = node.ready(true);
    assert_eq!(ready.messages, [], "the entry may still be lost");
    let write = ready.write.unwrap();
    assert_eq!((write.entries.len(), write.hard_state.unwrap().vote), (1, NodeId(1)));
    let asked = bodies(&written(&mut node, write));
    let request = Body::Vote { last: id(1, 1), transfer: false };
    assert_eq!(asked, [Body::AppendAccepted { index: Index(1) }, request.clone(), request]);
}

#[test]
fn an_own_vote_counts_only_when_it_is_durable() {
    let mut node = node(&[1, 2, 3]);
    node.campaign();
    let write = next_write(&mut node);
    node.step(message(2, 1, Body::VoteResponse { granted: true })).unwrap();
    assert_eq!(node.role(), Role::Candidate);
    written(&mut node, write);
    assert_eq!(node.role(), Role::Leader);
}

#[test]
fn an_own_vote_of_an_election_that_is_over_does_not_count() {
    let mut node = node(&[1, 2, 3]);
    node.campaign();
    let first = next_write(&mut node);
    node.campaign();
    let second = next_write(&mut node);
    node.step(message(2, 2, Body::VoteResponse { granted: true })).unwrap();
    written(&mut node, first);
    assert_eq!((node.role(), node.term()), (Role::Candidate, Term(2)));
    written(&mut node, second);
    assert_eq!(node.role(), Role::Leader);
}

#[test]
fn a_leader_that_others_elect_does_not_count_what_it_has_not_written() {
    let mut node = node(&[1, 2, 3]);
    let append = Body::Append { prev: id(0, 0), entries: entries(0, &[1]), commit: Index(0) };
    node.step(message(2, 1, append)).unwrap();
    let log = next_write(&mut node);
    node.campaign();
    let vote = next_write(&mut node);
    for voter in [2, 3] {
        node.step(message(voter, 2, Body::VoteResponse { granted: true })).unwrap();
    }
    assert_eq!(node.role(), Role::Leader);
    node.check();
    assert_eq!(node.progress()[&NodeId(1)].matched, Index(0));
    written(&mut node, log);
    assert_eq!(node.persisted(), Index(0), "a report of an earlier term does not count");
    written(&mut node, vote);
    node.check();
    assert_eq!((node.persisted(), node.last()), (Index(1), id(2, 2)));
    drive(&mut node);
    assert_eq!(node.progress()[&NodeId(1)].matched, Index(2));
}

#[test]
fn answers_to_others_come_with_the_write_that_they_report() {
    let mut node = node(&[1, 2, 3]);
    node.step(message(2, 1, Body::Vote { last: id(0, 0), transfer: false })).unwrap();
    let ready = node.ready(true);
    let vote = ready.write.unwrap();
    assert_eq!((vote.hard_state.unwrap().vote, ready.messages.len()), (NodeId(2), 0));
    assert_eq!(bodies(&vote.after), [Body::VoteResponse { granted: true }]);
    let append = Body::Append { prev: id(0, 0), entries: entries(0, &[1]), commit: Index(1) };
    node.step(message(2, 1, append)).unwrap();
    let ready = node.ready(true);
    let write = ready.write.unwrap();
    let counts = (write.entries.len(), ready.messages.len(), ready.committed.len());
    assert_eq!(counts, (1, 0, 0), "nothing is applied that is not durable here");
    written(&mut node, vote);
    let answers = bodies(&written(&mut node, write));
    assert_eq!(answers, [Body::AppendAccepted { index: Index(1) }]);
    assert_eq!(node.ready(true).committed.len(), 1);
}

#[test]
fn a_follower_commits_only_entries_that_its_leader_has_confirmed() {
    let mut node = node(&[1, 2, 3]);
    let append = |prev, entries, commit| Body::Append { prev, entries, commit: Index(commit) };
    node.step(message(2, 1, append(id(0, 0), entries(0, &[1, 1, 1]), 0))).unwrap();
    assert_eq!(drive(&mut node), []);
    // The leader of term 2 has other entries at 2 and 3.
    node.step(message(3, 2, append(id(1, 1), Vec::new(), 3))).unwrap();
    assert_eq!(drive(&mut node), entries(0, &[1]));
}

#[test]
fn a_vote_of_an_earlier_term_does_not_bind_after_a_torn_write() {
    let hard_state = HardState { term: Term(1), vote: NodeId(2), ..HardState::default() };
    let stored = Restored { hard_state, entries: entries(0, &[1, 2]), ..restored(&[1, 2, 3]) };
    let mut node = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    node.step(message(3, 2, Body::Vote { last: id(2, 2), transfer: false })).unwrap();
    let write = next_write(&mut node);
    let answers = bodies(&written(&mut node, write));
    assert_eq!(answers, [Body::VoteResponse { granted: true }]);
}

#[test]
fn entries_of_older_terms_are_not_committed_by_counting() {
    // Figure 3.7 of the thesis: an entry of term 2 may still be overwritten although a quorum has
    // it.
    let hard_state = HardState { term: Term(2), ..HardState::default() };
    let stored = Restored { hard_state, entries: entries(0, &[1, 2]), ..restored(&[1, 2, 3]) };
    let mut node = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    node.campaign();
    drive(&mut node);
    node.step(message(2, 3, Body::VoteResponse { granted: true })).unwrap();
    drive(&mut node);
    assert_eq!((node.role(), node.last()), (Role::Leader, id(3, 3)));
    node.step(message(2, 3, Body::AppendAccepted { index: Index(2) })).unwrap();
    assert_eq!(node.commit(), Index(0));
    node.step(message(2, 3, Body::AppendAccepted { index: Index(3) })).unwrap();
    assert_eq!(node.commit(), Index(3));
}

#[test]
fn the_completion_of_an_overwritten_write_does_not_count_for_a_new_leader() {
    let mut node = leader_of_three(Config::new(NodeId(1), 1));
    node.propose(data("lost")).unwrap();
    let lost = next_write(&mut node);
    // Another leader overwrites entry 2, and is followed by this node again.
    let append = Body::Append { prev: id(1, 1), entries: entries(1, &[2]), commit: Index(1) };
    node.step(message(2, 2, append)).unwrap();
    let overwriting = next_write(&mut node);
    node.campaign();
    let vote = next_write(&mut node);
    node.step(message(3, 3, Body::VoteResponse { granted: true })).unwrap();
    written(&mut node, lost);
    node.check();
    assert_eq!((node.persisted(), node.role()), (Index(1), Role::Candidate));
    written(&mut node, overwriting);
    assert_eq!(node.persisted(), Index(1), "the report of the vote is to follow");
    written(&mut node, vote);
    assert_eq!((node.persisted(), node.role(), node.last()), (Index(2), Role::Leader, id(3, 3)));
    // Entry 3 is only on this disk, so nothing new is committed.
    drive(&mut node);
    assert_eq!((node.persisted(), node.commit()), (Index(3), Index(1)));
}

#[test]
fn messages_that_no_correct_member_sends_are_refused_and_change_nothing() {
    let append = |prev, entries| Body::Append { prev, entries, commit: Index(0) };
    let proposal = |entry: Entry| Body::Propose { entries: vec![entry] };
    let snapshot = |term, index, voters| {
        let conf_state = conf_state(voters);
        let snapshot = RaftSnapshot { id: id(term, index), conf_state, data: Bytes::new() };
        Body::Snapshot(Box::new(snapshot))
    };
    let no_change = Entry {
        kind: proto::EntryKind::ConfChange,
        data: Bytes::from_static(&[255]),
        ..Entry::default()
    };
    let bad = [
        Message { to: NodeId(2), ..message(2, 1, Body::VoteResponse { granted: true }) },
        message(1, 1, Body::VoteResponse { granted: true }),
        message(0, 1, Body::Vote { last: id(0, 0), transfer: false }),
        message(2, 0, Body::Vote { last: id(0, 0), transfer: false }),
        message(2, 1, Body::Vote { last: id(2, 1), transfer: false }),
        message(2, 1, Body::AppendAccepted { index: Index(99) }),
        message(2, 1, append(id(1, 1), entries(1, &[1]))),
        message(2, 2, append(id(1, 1), entries(2, &[1]))),
        message(2, 2, append(id(1, 1), entries(1, &[2, 1]))),
        message(2, 2, append(id(1, 1), entries(1, &[3]))),
        message(2, 2, append(id(1, u64::MAX), entries(5, &[1]))),
        message(2, 2, Body::Heartbeat { commit: Index(99), context: Bytes::new() }),
        message(2, u64::MAX, Body::Vote { last: id(9, 9), transfer: false }),
        message(2, 0, Body::Propose { entries: Vec::new() }),
        message(2, 0, proposal(no_change)),
        message(2, 1, proposal(Entry::default())),
        message(u64::MAX, 1, Body::TimeoutNow),
        message(2, 1, Body::Stored { last: Some(id(1, 1)), snapshot: None }),
        message(2, 2, snapshot(0, 0, &[1])),
        message(2, 2, snapshot(3, 9, &[1])),
        message(2, 2, snapshot(2, 9, &[])),
    ];
    for message in bad {
        let mut node = leader_of_three(Config::new(NodeId(1), 1));
        let before = format!("{node:?}");
        let error = node.step(message.clone()).unwrap_err();
        assert!(matches!(error, Error::Peer { .. }), "{message}: {error}");
        assert_eq!(format!("{node:?}"), before, "{message}");
    }
    let mut node = leader_of_three(Config::new(NodeId(1), 1));
    let stranger = message(9, 1, Body::AppendAccepted { index: Index(1) });
    assert_eq!(node.step(stranger), Err(Error::UnknownPeer { from: NodeId(9) }));
}

#[test]
fn numbers_at_their_ends_do_no_harm() {
    let end = Index(u64::MAX);
    let hint = |term| EntryId { term: Term(term), index: end };
    let odd = [
        message(2, 1, Body::AppendRejected { index: end, hint: hint(u64::MAX) }),
        message(2, 1, Body::AppendRejected { index: Index(0), hint: hint(0) }),
        message(2, 1, Body::VoteResponse { granted: false }),
        message(2, u64::MAX - 1, Body::Vote { last: hint(7), transfer: false }),
        message(2, u64::MAX - 1, Body::Append { prev: hint(7), entries: Vec::new(), commit: end }),
    ];
    let mut node = leader_of_three(Config::new(NodeId(1), 1));
    for message in odd {
        node.step(message).unwrap();
        drive(&mut node);
    }
    for _ in 0..3 {
        node.campaign();
        drive(&mut node);
    }
    assert_eq!(node.term(), Term(u64::MAX), "there is no term behind the last one");
}

#[test]
fn messages_of_kinds_that_are_not_known_are_refused() {
    for kind in 0..=30 {
        let pb = raftpb::Message {
            r#type: Some(kind),
            from: Some(2),
            to: Some(1),
            term: Some(1),
            entries: vec![raftpb::Entry { r#type: Some(9), ..raftpb::Entry::default() }],
            ..raftpb::Message::default()
        };
        assert!(Message::from_pb(pb.clone()).is_err(), "kind {kind}, with a bad entry");
        let pb = raftpb::Message { entries: Vec::new(), ..pb };
        let known = Message::from_pb(pb).is_ok();
        assert_eq!(known, matches!(kind, 2..=6 | 8 | 9 | 13 | 14 | 17 | 18), "kind {kind}");
    }
}

#[test]
fn a_sole_voter_reads_at_once_but_not_before_it_has_committed_in_its_term() {
    // The stored commit index lags: entry 2 may have been acknowledged.
    let hard_state = HardState { term: Term(1), vote: NodeId(1), commit: Index(1) };
    let stored = Restored { hard_state, entries: entries(0, &[1, 1]), ..restored(&[1]) };
    let mut node = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    assert_eq!(node.read_index(1), Err(DroppedRequest::NoLeader));
    node.tick();
    let write = next_write(&mut node);
    written(&mut node, write);
    assert_eq!(node.role(), Role::Leader);
    node.read_index(2).unwrap();
    let ready = node.ready(true);
    assert_eq!(ready.reads, []);
    written(&mut node, ready.write.unwrap());
    assert_eq!(node.ready(true).reads, [Read { context: 2, index: Index(3) }]);
    node.read_index(3).unwrap();
    assert_eq!(node.ready(true).reads, [Read { context: 3, index: Index(3) }]);
}

#[test]
fn a_read_needs_answers_of_a_quorum_to_a_heartbeat_that_came_after_it() {
    let mut node = leader_of_three(Config::new(NodeId(1), 1));
    node.read_index(7).unwrap();
    let context = |ready: &Ready| {
        let Body::Heartbeat { context, .. } = &ready.messages[0].body else { panic!() };
        context.clone()
    };
    let first = context(&node.ready(true));
    node.read_index(8).unwrap();
    let second = context(&node.ready(true));
    let answer = |context: &[u8]| {
        message(2, 1, Body::HeartbeatResponse { context: Bytes::copy_from_slice(context) })
    };
    for made_up in [&u64::MAX.to_le_bytes()[..], b"", b"short"] {
        node.step(answer(made_up)).unwrap();
        assert_eq!(node.ready(true).reads, []);
    }
    node.step(answer(&first)).unwrap();
    assert_eq!(node.ready(true).reads, [Read { context: 7, index: Index(1) }]);
    node.step(answer(&second)).unwrap();
    assert_eq!(node.ready(true).reads, [Read { context: 8, index: Index(1) }]);
}

#[test]
fn reads_that_arrive_during_a_round_of_heartbeats_share_the_next_one() {
    let mut config = Config::new(NodeId(1), 1);
    config.rules.gathers_reads = true;
    let mut node = leader_of_three(config);
    let contexts = |node: &mut Node| {
        let mut found = Vec::new();
        for sent in node.ready(true).messages {
            if let Body::Heartbeat { context, .. } = sent.body {
                found.push(context);
            }
        }
        found
    };
    let answer = |from, context: &Bytes| {
        message(from, 1, Body::HeartbeatResponse { context: context.clone() })
    };
    node.read_index(7).unwrap();
    let first = contexts(&mut node);
    assert_eq!(first.len(), 2, "one heartbeat for each of the others");
    node.read_index(8).unwrap();
    node.read_index(9).unwrap();
    assert_eq!(contexts(&mut node), [""; 0]);
    node.step(answer(2, &first[0])).unwrap();
    let ready = node.ready(true);
    assert_eq!(ready.reads, [Read { context: 7, index: Index(1) }]);
    let Body::Heartbeat { context: second, .. } = &ready.messages[0].body else { panic!() };
    assert_eq!(ready.messages.len(), 2);
    node.step(answer(3, &first[0])).unwrap();
    assert_eq!(node.ready(true).reads, [], "an answer to the round before confirms nothing more");
    node.step(answer(3, second)).unwrap();
    let both = [8, 9].map(|context| Read { context, index: Index(1) });
    assert_eq!(node.ready(true).reads, both);
    node.read_index(10).unwrap();
    assert_eq!(contexts(&mut node).len(), 2, "no round is under way");
}

/// The heartbeats of the round are lost; those of the clock carry the newest read as well.
#[test]
fn reads_that_wait_for_a_lost_round_are_confirmed_by_the_heartbeats_of_the_clock() {
    let mut config = Config::new(NodeId(1), 1);
    config.rules.gathers_reads = true;
    let mut node = leader_of_three(config);
    node.read_index(7).unwrap();
    node.read_index(8).unwrap();
    assert_eq!(node.ready(true).messages.len(), 2, "they are lost");
    node.tick();
    let ready = node.ready(true);
    let Body::Heartbeat { context, .. } = &ready.messages[0].body else { panic!() };
    let answer = Body::HeartbeatResponse { context: context.clone() };
    node.step(message(2, 1, answer)).unwrap();
    let both = [7, 8].map(|context| Read { context, index: Index(1) });
    assert_eq!(node.ready(true).reads, both);
}

#[test]
fn reads_that_wait_are_bounded() {
    let mut node = leader_of_three(Config::new(NodeId(1), 1));
    let accepted = (0..10_000).take_while(|context| node.read_index(*context).is_ok()).count();
    assert_eq!(accepted, 4096);
    assert_eq!(node.read_index(0), Err(DroppedRequest::TooManyReads));
}

#[test]
fn a_sole_voter_that_adds_another_needs_it_from_then_on() {
    let mut node = node(&[1]);
    node.tick();
    drive(&mut node);
    let change = |kind, node| ConfChange { id: 0, kind, node: NodeId(node), context: Bytes::new() };
    let add = change(ConfChangeType::ConfChangeAddNode, 2);
    assert!(matches!(node.propose_conf_change(&add), Ok(Proposed::Appended { .. })));
    let Ok(Proposed::Ignored { why }) = node.propose_conf_change(&add) else { panic!() };
    assert_eq!(why, "possible unapplied conf change at index 2 (applied to 1)");
    // Both entries are committed by the configuration that they were appended under.
    assert_eq!(drive(&mut node).len(), 2);
    assert_eq!((node.conf_state(), node.is_sole_voter()), (conf_state(&[1, 2]), false));
    node.propose(data("a")).unwrap();
    drive(&mut node);
    assert_eq!(node.commit(), Index(3));
    node.step(message(2, 1, Body::AppendAccepted { index: Index(4) })).unwrap();
    assert_eq!(drive(&mut node).len(), 1);
    // It leaves again with the votes of both.
    let remove = change(ConfChangeType::ConfChangeRemoveNode, 2);
    node.propose_conf_change(&remove).unwrap();
    drive(&mut node);
    node.step(message(2, 1, Body::AppendAccepted { index: Index(5) })).unwrap();
    drive(&mut node);
    assert!(node.is_sole_voter());
    node.propose(data("b")).unwrap();
    assert_eq!(drive(&mut node).len(), 1);
}

#[test]
fn a_change_that_was_found_invalid_changes_nothing() {
    let mut node = node(&[1]);
    let nobody = ConfChange {
        id: 0,
        kind: ConfChangeType::ConfChangeRemoveNode,
        node: NodeId::NONE,
        context: Bytes::new(),
    };
    assert_eq!(node.apply_conf_change(&ConfChanges::from(&nobody)), Ok(conf_state(&[1])));
    let last = ConfChange { node: NodeId(1), ..nobody };
    let error = node.apply_conf_change(&ConfChanges::from(&last)).unwrap_err();
    assert!(matches!(error, Error::ConfChange(_)), "{error}");
    assert_eq!(node.conf_state(), conf_state(&[1]));
}

#[test]
fn a_configuration_change_that_is_committed_and_not_applied_forbids_to_campaign() {
    let change = ConfChange {
        id: 0,
        kind: ConfChangeType::ConfChangeAddNode,
        node: NodeId(2),
        context: Bytes::new(),
    };
    let mut entry = entries(0, &[1]).remove(0);
    (entry.kind, entry.data) = (proto::EntryKind::ConfChange, change.encode());
    let hard_state = HardState { term: Term(1), vote: NodeId(1), commit: Index(1) };
    let stored = Restored { hard_state, entries: vec![entry], ..restored(&[1]) };
    let mut node = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    node.tick();
    assert_eq!(node.role(), Role::Follower);
    drive(&mut node);
    node.campaign();
    drive(&mut node);
    assert_eq!(node.role(), Role::Candidate, "it has two voters now");
}

#[test]
fn the_memory_of_the_log_is_bounded() {
    let mut config = Config::new(NodeId(1), 1);
    config.limits.log_window_bytes_max = 10_000;
    let mut node = Node::new(config, restored(&[1])).unwrap();
    node.tick();
    for _ in 0..200 {
        drive(&mut node);
        node.propose(vec![Bytes::from(vec![0; 1000]); 3]).unwrap();
        assert!(node.log_bytes() < 10_000 + 3 * 1100, "{}", node.log_bytes());
    }
    drive(&mut node);
    assert!(node.first_index() > Index(590));
    node.compact(node.last().index);
    assert_eq!((node.log_bytes(), node.last()), (0, id(1, 601)));
    assert_eq!(node.term_at(Index(601)), Some(Term(1)));
}

#[test]
fn a_sole_voter_starts_again_from_every_state_that_it_can_leave() {
    // A run with proposals. A copy of the disk is kept after each write, and in the middle of each.
    let mut node = node(&[1]);
    let mut disks = vec![(HardState::default(), Vec::new())];
    let mut acknowledged = Vec::new();
    node.tick();
    for round in 0..8 {
        while node.has_ready(true) {
            let mut ready = node.ready(true);
            let (mut hard, mut log) = disks.last().cloned().unwrap();
            if let Some(write) = ready.write.take() {
                for entry in &write.entries {
                    // A torn write: entries without the hard state behind them.
                    log.push(entry.clone());
                    disks.push((hard, log.clone()));
                }
                hard = write.hard_state.unwrap_or(hard);
                disks.push((hard, log));
                written(&mut node, write);
            }
            let applied = apply(&mut node, ready);
            acknowledged.extend(applied);
        }
        // All later disks must contain the entries acknowledged so far.
        let known = acknowledged.len();
        let (hard, log) = disks.last().unwrap();
        for applied in 0..=known {
            let stored = Restored {
                hard_state: *hard,
                entries: log.clone(),
                applied: Index(applied as u64),
                ..restored(&[1])
            };
            starts_again(stored, &acknowledged[applied..]);
        }
        node.propose(data(&format!("{round} a b"))).unwrap();
    }
    for (hard_state, entries) in disks {
        let expected = entries.clone();
        starts_again(Restored { hard_state, entries, ..restored(&[1]) }, &expected);
    }
}

fn starts_again(stored: Restored, first_applied: &[Entry]) {
    let term = stored.hard_state.term;
    let mut again = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    again.check();
    again.tick();
    let mut applied = drive(&mut again);
    let own = applied.pop().unwrap();
    assert_eq!(applied, first_applied);
    assert_eq!((own.term, again.role()), (again.term(), Role::Leader));
    assert!(again.term() > term);
}

#[test]
fn a_commit_index_that_lags_behind_the_database_is_raised() {
    let hard_state = HardState { term: Term(1), vote: NodeId(1), commit: Index(1) };
    let stored = Restored {
        hard_state,
        entries: entries(0, &[1, 1, 1]),
        applied: Index(3),
        ..restored(&[1])
    };
    let node = Node::new(Config::new(NodeId(1), 1), stored).unwrap();
    assert_eq!((node.commit(), node.applied_index()), (Index(3), Index(3)));
}

#[test]
fn a_stored_state_that_does_not_fit_together_is_refused() {
    let past = HardState { term: Term(1), vote: NodeId(1), commit: Index(9) };
    let bad = [
        Restored { hard_state: past, ..restored(&[1]) },
        Restored { applied: Index(1), ..restored(&[1]) },
        Restored { snapshot: id(1, 5), ..restored(&[1]) },
        Restored { entries: entries(1, &[1]), ..restored(&[1]) },
        Restored {
            conf_state: ConfState { learners: vec![NodeId(1)], ..conf_state(&[1]) },
            ..Restored::default()
        },
        Restored {
            conf_state: ConfState { learners_next: vec![NodeId(1)], ..conf_state(&[1]) },
            ..Restored::default()
        },
    ];
    for stored in bad {
        let error = Node::new(Config::new(NodeId(1), 1), stored.clone()).unwrap_err();
        assert!(matches!(error, Error::Restored(_)), "{stored:?}: {error}");
    }
    let config = Config { election_ticks: 1, ..Config::new(NodeId(1), 1) };
    assert!(matches!(Node::new(config, restored(&[1])), Err(Error::Config(_))));
}
