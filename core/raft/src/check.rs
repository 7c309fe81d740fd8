//! The invariants of raft, for tests and simulations: of one node ([`Node::check`]), and of a group
//! of nodes over time ([`Invariants`]).
//!
//! Source: thesis §3.2 (figure 3.2); etcd raft v3.7 tla/etcdraft.tla.

use crate::node::Node;
use crate::output::Role;
use proto::{Entry, EntryId, Index, NodeId, Term};
use std::collections::BTreeMap;

impl Node {
    /// Checks the invariants of this node.
    ///
    /// # Panics
    /// If one is violated.
    pub fn check(&self) {
        self.log.check();
        let id = self.config.id;
        let begins = self.log.last().index < self.log.first_index();
        assert!(
            begins || self.log.last().term <= self.term,
            "no entry has a term above the current one"
        );
        match self.role {
            Role::Follower => {}
            Role::PreCandidate => {
                assert_eq!(self.leader, NodeId::NONE, "a candidate has no leader");
            }
            Role::Candidate => assert_eq!(self.vote, id, "a candidate votes for itself"),
            Role::Leader => {
                assert_eq!(self.leader, id, "a leader is its own leader");
                for (member, progress) in &self.tracker.progress {
                    assert!(progress.matched < progress.next, "matched < next for {member:x}");
                    assert!(
                        progress.matched <= self.log.last().index,
                        "no member matches entries above the last one: {member:x}"
                    );
                }
            }
        }
        let members = self.tracker.config.voters.ids();
        let known = members.iter().chain(&self.tracker.config.learners);
        assert!(
            known.clone().all(|id| self.tracker.progress.contains_key(id)),
            "each voter and learner has a progress"
        );
    }
}

/// The remembered facts about one node.
#[derive(Clone, Copy, Debug, Default)]
struct NodeHistory {
    term: Term,
    commit: Index,
    /// The last entry, if it was leader in `term`.
    led_to: Option<EntryId>,
}

/// The invariants of a group of nodes. It remembers leaders and committed entries, so that it finds
/// violations between states of different times.
#[derive(Debug, Default)]
pub struct Invariants {
    leaders: BTreeMap<Term, NodeId>,
    /// The entries that any node has committed.
    committed: BTreeMap<Index, Entry>,
    nodes: BTreeMap<NodeId, NodeHistory>,
}

impl Invariants {
    /// Checks all nodes after an event. The cost is that of the entries that are not committed
    /// everywhere.
    ///
    /// # Panics
    /// If an invariant is violated.
    pub fn check<'a>(&mut self, nodes: impl Iterator<Item = &'a Node> + Clone) {
        for node in nodes.clone() {
            node.check();
            self.check_commit(node);
        }
        for node in nodes.clone().filter(|node| node.role() == Role::Leader) {
            self.check_leader(node);
        }
        for node in nodes.clone() {
            for other in nodes.clone().filter(|other| other.id() > node.id()) {
                check_log_matching(node, other);
            }
        }
    }

    /// Checks one node after an event that has changed no other one.
    ///
    /// # Panics
    /// If an invariant is violated.
    pub fn check_changed<'a>(&mut self, changed: &Node, others: impl Iterator<Item = &'a Node>) {
        changed.check();
        self.check_commit(changed);
        if changed.role() == Role::Leader {
            self.check_leader(changed);
        }
        for other in others {
            check_log_matching(changed, other);
        }
    }

    /// Called when a node has crashed: its term, its commit index and its log may go back to the
    /// durable state.
    pub fn crashed(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// The leader of each term in which one was elected.
    #[must_use]
    pub fn leaders(&self) -> &BTreeMap<Term, NodeId> {
        &self.leaders
    }

    /// Terms and commit indexes never decrease. State machine safety: no two nodes commit different
    /// entries at one index.
    fn check_commit(&mut self, node: &Node) {
        let (id, commit) = (node.id(), node.commit());
        let history = self.nodes.entry(id).or_default();
        assert!(node.term() >= history.term, "{id:x}: the term never decreases");
        assert!(commit >= history.commit, "{id:x}: the commit index never decreases");
        let first = history.commit.next();
        (history.term, history.commit) = (node.term(), commit);
        for entry in node.log.in_memory(first).take_while(|entry| entry.index <= commit) {
            let known = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "state machine safety: {id:x} commits another entry");
        }
    }

    fn check_leader(&mut self, leader: &Node) {
        let (id, term) = (leader.id(), leader.term());
        let elected = *self.leaders.entry(term).or_insert(id);
        assert_eq!(elected, id, "election safety: at most one leader in term {term}");
        let has = |entry: EntryId| {
            let released = entry.index < leader.first_index();
            released || leader.term_at(entry.index) == Some(entry.term)
        };
        let history = self.nodes.entry(id).or_default();
        match history.led_to {
            Some(last) if last.term == term => {
                assert!(has(last), "leader append-only: {id:x} keeps {last:?} in term {term}");
            }
            _ => {
                for entry in self.committed.values().filter(|entry| entry.term < term) {
                    let entry = entry.id();
                    assert!(has(entry), "leader completeness: {id:x} has {entry:?}");
                }
            }
        }
        history.led_to = Some(leader.last());
    }
}

/// Log matching: logs that have an entry of one term at one index agree up to it. Committed entries
/// are compared by [`Invariants::check_commit`].
fn check_log_matching(one: &Node, other: &Node) {
    let first = one.commit().min(other.commit()).next();
    let last = one.last().index.min(other.last().index);
    let mut agree_above = false;
    let mut index = last;
    while index >= first {
        let (mine, yours) = (one.entries(index, 0), other.entries(index, 0));
        let (Some(mine), Some(yours)) = (mine.first(), yours.first()) else { return };
        if mine.term == yours.term {
            agree_above = true;
        }
        assert!(
            !agree_above || mine == yours,
            "log matching: {:x} and {:x} differ at {index}, and agree behind it",
            one.id(),
            other.id()
        );
        index.0 -= 1;
    }
}
