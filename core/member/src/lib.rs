//! The consensus half of a member: it owns raft and what waits to be proposed, decides what is
//! appended to the log and what is committed, and knows when reads are linearizable. What a
//! committed entry does is not here (see `state`), nor is any file, thread or clock: the caller
//! drives [`Member::step`] and carries out the [`Effect`]s.
//!
//! - **Invariant:** at most one batch is being made durable at any time; what comes meanwhile is
//!   gathered into the next one. The WAL's rule for torn tails rests on it. (`raft` holds to it:
//!   `Config::writes_max` is 1.)
//! - **Invariant:** a commit index alone is never a batch; it rides on the next one.
//! - **Invariant:** an entry is handed out for applying only after it is durable on a quorum.
//!
//! Source: the order of one raft round in etcd v3.7 server/etcdserver/raft.go, with asynchronous
//! storage writes (etcd-io/raft v3.7 doc.go).

#![forbid(unsafe_code)]

use bytes::Bytes;
use proto::{ConfChange, ConfState, Entry, HardState, Index, NodeId, Term};
use raft::{Changes, Receipt, SoftState};
use std::collections::VecDeque;

/// The most entries that may be committed and not yet applied before new requests are refused.
///
/// Source: etcd v3.7 server/etcdserver/v3_server.go `maxGapBetweenApplyAndCommitIndex`.
pub const APPLY_GAP_MAX: u64 = 5_000;
/// The most requests that wait for a leader.
pub const WAITING_MAX: usize = 10_000;

/// What a member is told.
#[derive(Debug)]
pub enum Input {
    /// A heartbeat interval has passed.
    Tick,
    /// Requests to be put into the log, in order.
    Propose(Vec<Proposal>),
    /// The write of this receipt is synced.
    Durable(Receipt),
    /// The state has applied every entry up to here.
    Applied(Index),
    /// What an applied configuration change came to; `None` if the state found it invalid.
    ConfChanged(Option<ConfChange>),
    /// The log up to here is no longer needed in memory.
    Compact(Index),
}

/// One request to be put into the log.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The id by which whoever waits for the answer knows it; the data carries it too.
    pub id: u64,
    /// The data of the entry.
    pub data: Bytes,
}

/// What a member wants done. Effects are in order; those of one kind must be carried out in it.
#[derive(Debug)]
pub enum Effect {
    /// Append these to the log and sync it; then say [`Input::Durable`].
    Append(Append),
    /// Apply these; then say [`Input::Applied`].
    Apply(Vec<Entry>),
    /// The request of this id is not proposed.
    Refuse(u64, Refusal),
    /// Term, leader or role have changed.
    Leadership(Leadership),
}

/// One batch for the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// The entries, which void what is stored from their first index on. None when only the term
    /// or the vote has changed.
    pub entries: Vec<Entry>,
    /// The hard state that goes with them.
    pub hard_state: HardState,
    /// What to give back.
    pub receipt: Receipt,
}

/// Why a request was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`APPLY_GAP_MAX`] entries wait to be applied, or [`WAITING_MAX`] requests for a
    /// leader.
    TooManyRequests,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: Term,
    /// The leader, or nobody.
    pub leader: NodeId,
}

/// A member's consensus.
#[derive(Debug)]
pub struct Member {
    raft: raft::Node,
    /// Requests that wait for a leader.
    waiting: VecDeque<Proposal>,
    leadership: Leadership,
}

impl Member {
    /// A member that goes on where its log ends.
    #[must_use]
    pub fn new(raft: raft::Node) -> Member {
        let leadership = Leadership { term: raft.term(), leader: NodeId::NONE };
        Member { raft, waiting: VecDeque::new(), leadership }
    }

    /// Takes one input and pushes what is to be done.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.raft.tick(),
            Input::Propose(proposals) => self.enqueue(proposals, effects),
            Input::Durable(receipt) => self.raft.durable(receipt),
            Input::Applied(index) => self.raft.applied(index),
            Input::ConfChanged(change) => self.conf_changed(change),
            Input::Compact(index) => self.raft.compact(index),
        }
        self.propose_waiting();
        self.take_ready(effects);
    }

    /// The current hard state. Its commit may be ahead of what is stored.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.raft.hard_state()
    }

    /// Who leads, as far as this member knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// True if this member leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raft.role() == raft::Role::Leader
    }

    /// The configuration as raft has it.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.raft.conf_state()
    }

    /// True if whatever this member has applied is all there is: it is the only voter, leads,
    /// and has applied an entry of its own term. Reads are then linearizable at once.
    #[must_use]
    pub fn reads_are_linearizable(&self) -> bool {
        self.leads()
            && self.raft.is_sole_voter()
            && self.raft.term_at(self.raft.applied_index()) == Some(self.raft.term())
    }

    /// The bytes of the entries in memory.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.raft.log_bytes()
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.raft.commit()
    }

    fn apply_gap(&self) -> u64 {
        self.raft.commit().0.saturating_sub(self.raft.applied_index().0)
    }

    fn enqueue(&mut self, proposals: Vec<Proposal>, effects: &mut Vec<Effect>) {
        let too_far_behind = self.apply_gap() > APPLY_GAP_MAX;
        let leaderless = self.raft.leader() == NodeId::NONE;
        for proposal in proposals {
            if too_far_behind || (leaderless && self.waiting.len() >= WAITING_MAX) {
                effects.push(Effect::Refuse(proposal.id, Refusal::TooManyRequests));
            } else {
                self.waiting.push_back(proposal);
            }
        }
    }

    /// Proposes what waits, as soon as there is a leader to take it.
    fn propose_waiting(&mut self) {
        if self.waiting.is_empty() || self.raft.leader() == NodeId::NONE {
            return;
        }
        let data = self.waiting.iter().map(|proposal| proposal.data.clone()).collect();
        // What nobody takes goes on waiting for somebody who does.
        if self.raft.propose(data).is_ok() {
            self.waiting.clear();
        }
    }

    fn conf_changed(&mut self, change: Option<ConfChange>) {
        // Raft hears of an invalid change too: it must know that none is pending any more.
        let change = change.unwrap_or_else(|| ConfChange {
            id: 0,
            kind: proto::raftpb::ConfChangeType::ConfChangeAddNode,
            node: NodeId::NONE,
            context: Bytes::new(),
        });
        let applied = self.raft.apply_conf_change(&Changes::from(&change));
        assert!(applied.is_ok(), "a change that the state found valid is one to raft: {applied:?}");
    }

    fn take_ready(&mut self, effects: &mut Vec<Effect>) {
        while self.raft.has_ready() {
            let ready = self.raft.ready();
            if let Some(receipt) = ready.receipt {
                let hard_state = self.raft.hard_state();
                effects.push(Effect::Append(Append {
                    entries: ready.entries,
                    hard_state,
                    receipt,
                }));
            }
            if let Some(SoftState { leader, .. }) = ready.soft {
                self.leadership = Leadership { term: self.raft.term(), leader };
                effects.push(Effect::Leadership(self.leadership));
            }
            if !ready.committed.is_empty() {
                effects.push(Effect::Apply(ready.committed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Config, Node, Restored};

    fn sole_voter() -> Member {
        let conf_state = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
        let restored = Restored { conf_state, ..Restored::default() };
        Member::new(Node::new(Config::new(NodeId(1), 7), restored).unwrap())
    }

    fn step(member: &mut Member, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        member.step(input, &mut effects);
        effects
    }

    fn appended(effects: &[Effect]) -> Vec<&Append> {
        let mut appended = Vec::new();
        for effect in effects {
            if let Effect::Append(append) = effect {
                appended.push(append);
            }
        }
        appended
    }

    fn applied(effects: &[Effect]) -> Vec<Bytes> {
        let mut applied = Vec::new();
        for effect in effects {
            if let Effect::Apply(entries) = effect {
                applied.extend(entries.iter().map(|entry| entry.data.clone()));
            }
        }
        applied
    }

    fn request(id: u64) -> Proposal {
        Proposal { id, data: Bytes::from(id.to_string()) }
    }

    /// A leader whose first, empty entry is applied.
    fn leader() -> Member {
        let mut member = sole_voter();
        let mut effects = step(&mut member, Input::Tick);
        while let Some(append) = appended(&effects).first() {
            let receipt = append.receipt;
            effects = step(&mut member, Input::Durable(receipt));
        }
        assert_eq!(applied(&effects), [Bytes::new()]);
        step(&mut member, Input::Applied(Index(1)));
        member
    }

    #[test]
    fn a_sole_voter_leads_after_its_first_tick_and_reads_once_it_applied() {
        let mut member = sole_voter();
        step(&mut member, Input::Tick);
        assert!(!member.reads_are_linearizable());
        assert!(leader().reads_are_linearizable());
    }

    #[test]
    fn what_comes_during_a_write_is_one_batch_behind_it() {
        let mut member = leader();
        let first = step(&mut member, Input::Propose(vec![request(1)]));
        assert_eq!(appended(&first)[0].entries.len(), 1);
        assert!(applied(&first).is_empty(), "nothing is applied before it is durable");
        assert!(step(&mut member, Input::Propose(vec![request(2)])).is_empty());
        assert!(step(&mut member, Input::Propose(vec![request(3)])).is_empty());
        let second = step(&mut member, Input::Durable(appended(&first)[0].receipt));
        assert_eq!(applied(&second), ["1"]);
        let batch = appended(&second)[0];
        assert_eq!(batch.entries.len(), 2);
        assert_eq!(batch.hard_state.commit, Index(2), "the commit rides on the next batch");
        assert_eq!(applied(&step(&mut member, Input::Durable(batch.receipt))), ["2", "3"]);
    }

    #[test]
    fn requests_wait_for_a_leader() {
        let mut member = sole_voter();
        assert!(step(&mut member, Input::Propose(vec![request(1)])).is_empty());
        let mut effects = step(&mut member, Input::Tick);
        let mut all = Vec::new();
        while let Some(append) = appended(&effects).first() {
            let receipt = append.receipt;
            effects = step(&mut member, Input::Durable(receipt));
            all.extend(applied(&effects));
        }
        assert_eq!(all, ["", "1"]);
    }

    #[test]
    fn a_member_that_is_far_behind_with_applying_refuses() {
        let mut member = leader();
        let many = (0..=APPLY_GAP_MAX).map(request).collect();
        let effects = step(&mut member, Input::Propose(many));
        step(&mut member, Input::Durable(appended(&effects)[0].receipt));
        let refused = step(&mut member, Input::Propose(vec![request(9)]));
        assert!(matches!(refused[..], [Effect::Refuse(9, Refusal::TooManyRequests)]));
    }
}
