//! The consensus half of a member. It owns raft and the queue of proposals, hands out batches for
//! the log and committed entries for applying, and tells whether reads are linearizable.
//!
//! Not here: the effect of a committed entry (`state`), files, threads and clocks. The caller calls
//! [`Member::step`] and carries out the [`Effect`]s.
//!
//! - **Invariant:** at most one batch is not durable. Proposals that arrive meanwhile go into the
//!   next batch. The torn-tail rule of the WAL relies on this. (`raft::Config::writes_max` is 1.)
//! - **Invariant:** a commit index alone is never a batch; it goes with the next one.
//! - **Invariant:** an entry is handed out for applying only after it is durable on a quorum.
//!
//! Source: the order of one raft round in etcd v3.7 server/etcdserver/raft.go, with asynchronous
//! storage writes (etcd-io/raft v3.7 doc.go).

#![forbid(unsafe_code)]

use bytes::Bytes;
use proto::{ConfChange, ConfState, Entry, HardState, Index, NodeId, Term};
use raft::{ConfChanges, Receipt, SoftState};
use std::collections::VecDeque;

/// The most entries that may be committed but not applied. Above it, new requests are refused.
///
/// Source: etcd v3.7 server/etcdserver/v3_server.go `maxGapBetweenApplyAndCommitIndex`.
pub const APPLY_GAP_MAX: u64 = 5_000;
/// The most requests that may wait for a leader.
pub const WAITING_MAX: usize = 10_000;

/// An input of [`Member::step`].
#[derive(Debug)]
pub enum Input {
    /// A heartbeat interval has passed.
    Tick,
    /// Requests to propose, in order.
    Propose(Vec<Proposal>),
    /// The batch with this receipt is synced.
    Durable(Receipt),
    /// The state has applied all entries up to this index.
    Applied(Index),
    /// The state has applied a configuration change; `None` if it found the change invalid.
    ConfChanged(Option<ConfChange>),
    /// Entries up to this index are no longer needed in memory.
    Compact(Index),
}

/// A request to propose.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The id of the request, which `data` contains as well.
    pub id: u64,
    /// The data of its entry.
    pub data: Bytes,
}

/// Work for the caller of [`Member::step`]. Effects of one kind must be carried out in order.
#[derive(Debug)]
pub enum Effect {
    /// Append a batch to the log and sync it, then report [`Input::Durable`].
    Append(Append),
    /// Apply these entries, then report [`Input::Applied`].
    Apply(Vec<Entry>),
    /// The request with this id was refused.
    Refuse(u64, Refusal),
    /// The leader or the role of this member has changed.
    Leadership(Leadership),
}

/// One batch for the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// The entries. They replace stored entries from the first one's index on. Empty if only the
    /// term or the vote has changed.
    pub entries: Vec<Entry>,
    /// The hard state to store with them.
    pub hard_state: HardState,
    /// To be returned with [`Input::Durable`].
    pub receipt: Receipt,
}

/// The reason for a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`APPLY_GAP_MAX`] entries are committed but not applied, or [`WAITING_MAX`]
    /// requests wait for a leader.
    TooManyRequests,
}

/// The current term and its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: Term,
    /// The leader; [`NodeId::NONE`] if it is not known.
    pub leader: NodeId,
}

/// The consensus state machine of a member.
#[derive(Debug)]
pub struct Member {
    raft: raft::Node,
    /// Requests that wait for a leader.
    waiting: VecDeque<Proposal>,
    leadership: Leadership,
}

impl Member {
    /// A member that continues from the node's log.
    #[must_use]
    pub fn new(raft: raft::Node) -> Member {
        let leadership = Leadership { term: raft.term(), leader: NodeId::NONE };
        Member { raft, waiting: VecDeque::new(), leadership }
    }

    /// Handles one input and appends the resulting work to `effects`.
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

    /// The current hard state. Its commit index may be ahead of the stored one.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.raft.hard_state()
    }

    /// The current term and leader, as far as this member knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// True if this member is the leader.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raft.role() == raft::Role::Leader
    }

    /// The current raft configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.raft.conf_state()
    }

    /// True if a read of the applied state is linearizable without asking other members: this
    /// member is the only voter, leads, and has applied an entry of its own term.
    #[must_use]
    pub fn reads_are_linearizable(&self) -> bool {
        self.leads()
            && self.raft.is_sole_voter()
            && self.raft.term_at(self.raft.applied_index()) == Some(self.raft.term())
    }

    /// The memory used by entries, in bytes.
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

    /// Proposes the waiting requests if there is a leader.
    fn propose_waiting(&mut self) {
        if self.waiting.is_empty() || self.raft.leader() == NodeId::NONE {
            return;
        }
        let data = self.waiting.iter().map(|proposal| proposal.data.clone()).collect();
        // If raft rejects the proposals, they stay queued.
        if self.raft.propose(data).is_ok() {
            self.waiting.clear();
        }
    }

    fn conf_changed(&mut self, change: Option<ConfChange>) {
        // An invalid change is passed on without a member, so that raft knows that it is no longer
        // pending.
        let change = change.unwrap_or_else(|| ConfChange {
            id: 0,
            kind: proto::raftpb::ConfChangeType::ConfChangeAddNode,
            node: NodeId::NONE,
            context: Bytes::new(),
        });
        let applied = self.raft.apply_conf_change(&ConfChanges::from(&change));
        assert!(applied.is_ok(), "a change that the state accepted is valid for raft: {applied:?}");
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
    fn a_sole_voter_serves_reads_once_it_has_applied_an_entry_of_its_term() {
        let mut member = sole_voter();
        step(&mut member, Input::Tick);
        assert!(!member.reads_are_linearizable());
        assert!(leader().reads_are_linearizable());
    }

    #[test]
    fn proposals_during_a_write_form_one_batch_after_it() {
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
        assert_eq!(batch.hard_state.commit, Index(2), "the commit index goes with the next batch");
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
    fn a_member_with_too_many_unapplied_entries_refuses_requests() {
        let mut member = leader();
        let many = (0..=APPLY_GAP_MAX).map(request).collect();
        let effects = step(&mut member, Input::Propose(many));
        step(&mut member, Input::Durable(appended(&effects)[0].receipt));
        let refused = step(&mut member, Input::Propose(vec![request(9)]));
        assert!(matches!(refused[..], [Effect::Refuse(9, Refusal::TooManyRequests)]));
    }
}
