//! The invariant checks detect the violations that they are made for.

#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId, Term};
use raft::{Body, Config, Invariants, Message, Node, Restored};

fn node(id: u64, terms: &[u64], commit: u64) -> Node {
    let voters = vec![NodeId(1), NodeId(2)];
    let entries: Vec<Entry> = (1..)
        .zip(terms)
        .map(|(index, term)| Entry { term: Term(*term), index: Index(index), ..Entry::default() })
        .collect();
    let term = Term(terms.iter().copied().max().unwrap_or_default());
    let restored = Restored {
        hard_state: HardState { term, vote: NodeId::NONE, commit: Index(commit) },
        conf_state: ConfState { voters, ..ConfState::default() },
        entries,
        ..Restored::default()
    };
    Node::new(Config::new(NodeId(id), id), restored).unwrap()
}

/// Makes a node the leader of the next term with a forged vote.
fn elect(node: &mut Node, voter: u64) {
    node.campaign();
    for message in node.ready(true).write.unwrap().after {
        if message.to == node.id() {
            node.step_own(message).unwrap();
        }
    }
    let (to, term) = (node.id(), node.term());
    let body = Body::VoteResponse { granted: true };
    node.step(Message { from: NodeId(voter), to, term, body }).unwrap();
}

fn check(nodes: &[&Node]) {
    Invariants::default().check(nodes.iter().copied());
}

#[test]
fn logs_that_differ_only_in_what_is_not_committed_are_fine() {
    check(&[&node(1, &[1, 1, 2], 1), &node(2, &[1, 1, 3, 3], 2)]);
}

#[test]
#[should_panic(expected = "election safety")]
fn two_leaders_of_one_term_are_found() {
    let (mut one, mut two) = (node(1, &[], 0), node(2, &[], 0));
    elect(&mut one, 2);
    elect(&mut two, 1);
    check(&[&one, &two]);
}

#[test]
#[should_panic(expected = "state machine safety")]
fn different_committed_entries_are_found() {
    check(&[&node(1, &[1, 2], 2), &node(2, &[1, 3], 2)]);
}

#[test]
#[should_panic(expected = "log matching")]
fn logs_that_agree_behind_a_difference_are_found() {
    check(&[&node(1, &[1, 2, 3], 0), &node(2, &[1, 1, 3], 0)]);
}

#[test]
#[should_panic(expected = "leader completeness")]
fn a_leader_without_a_committed_entry_is_found() {
    let mut leader = node(2, &[1], 0);
    elect(&mut leader, 1);
    check(&[&node(1, &[1, 1], 2), &leader]);
}

#[test]
#[should_panic(expected = "the commit index never decreases")]
fn a_commit_index_that_decreases_is_found() {
    let mut invariants = Invariants::default();
    invariants.check([&node(1, &[1, 1], 2)].into_iter());
    invariants.check([&node(1, &[1, 1], 1)].into_iter());
}

#[test]
fn after_a_crash_a_node_may_have_an_older_commit_index() {
    let mut invariants = Invariants::default();
    invariants.check([&node(1, &[1, 1], 2)].into_iter());
    invariants.crashed(NodeId(1));
    let mut again = node(1, &[1, 1], 1);
    invariants.check([&again].into_iter());
    let append = Body::Append { prev: EntryId::default(), entries: Vec::new(), commit: Index(2) };
    let leader = Message { from: NodeId(2), to: NodeId(1), term: Term(1), body: append };
    again.step(leader).unwrap();
    let heartbeat = Body::Heartbeat { commit: Index(2), context: Bytes::new() };
    let leader = Message { from: NodeId(2), to: NodeId(1), term: Term(1), body: heartbeat };
    again.step(leader).unwrap();
    invariants.check([&again].into_iter());
}
