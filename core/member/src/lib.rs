//! The consensus half of a member. It owns raft and the queue of proposals, hands out batches for
//! the log and committed entries for applying, and confirms linearizable reads.
//!
//! Not here: the effect of a committed entry (`state`), files, threads and clocks. The caller calls
//! [`Member::step`] and carries out the [`Effect`]s.
//!
//! - **Invariant:** at most one batch is not durable. Proposals that arrive meanwhile go into the
//!   next batch. The torn-tail rule of the WAL relies on this.
//! - **Invariant:** a message that reports this member's term, vote or log leaves only after the
//!   batch that stores them is durable.
//! - **Invariant:** a commit index alone is never a batch; it goes with the next one.
//! - **Invariant:** an entry is handed out for applying only after it is durable on a quorum.
//!
//! Source: the order of one raft round in etcd v3.7 server/etcdserver/raft.go, with asynchronous
//! storage writes (etcd-io/raft v3.7 doc.go).

#![forbid(unsafe_code)]

use bytes::Bytes;
use proto::{ConfChange, ConfState, Entry, EntryKind, HardState, Index, NodeId, Term};
use raft::{ConfChanges, LogPart, LogRead, LogWrite, Message, RaftSnapshot, Read};
use std::collections::{BTreeMap, VecDeque};

/// The maximum number of entries that are committed but not applied. Above it, new requests are
/// refused.
///
/// Source: etcd v3.7 server/etcdserver/v3_server.go `maxGapBetweenApplyAndCommitIndex`.
pub const APPLY_GAP_MAX: u64 = 5_000;
/// The maximum number of requests that wait for a leader.
pub const WAITING_MAX: usize = 10_000;
/// The maximum number of bytes of requests that wait for a leader, or for room in the uncommitted
/// log. The bound is needed when the disk hangs: nothing is committed, and clients whose requests
/// time out send more.
pub const WAITING_BYTES_MAX: usize = 64 << 20;

/// An input of [`Member::step`].
#[derive(Debug)]
pub enum Input {
    /// A heartbeat interval has passed.
    Tick,
    /// Requests to propose, in order. A leader makes one batch of all of them.
    Propose {
        /// Requests of this member.
        own: Vec<Proposal>,
        /// Messages in which other members forward their requests.
        forwarded: Vec<Message>,
    },
    /// A message of another member.
    Message(Message),
    /// Asks for the index at which a read is linearizable, as [`Effect::Read`]. There is no answer
    /// if no leader is known or if it changes; the caller asks again after a timeout.
    Read(u64),
    /// The batch with this receipt is synced.
    Durable(Receipt),
    /// The state has applied all entries up to this index.
    Applied(Index),
    /// The state has applied a configuration change; `None` if it found the change invalid.
    ConfChanged(Option<ConfChange>),
    /// Entries up to this index are no longer needed in memory.
    Compact(Index),
    /// Transfer the leadership to this voter.
    Transfer(NodeId),
    /// A message to this member could not be sent.
    Unreachable(NodeId),
    /// A snapshot was delivered to a member, or could not be.
    SnapshotSent {
        /// The member.
        to: NodeId,
        /// Whether it has the snapshot.
        delivered: bool,
    },
    /// The requested part of the log; `None` if the log does not have it.
    LogRead(LogRead, Option<LogPart>),
    /// The snapshot for members that are too far behind; `None` if there is no longer one.
    Snapshot(Option<RaftSnapshot>),
}

/// Identifies a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt(u64);

/// A request to propose.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The id of the request, which `data` contains as well.
    pub id: u64,
    /// The kind of its entry.
    pub kind: EntryKind,
    /// The data of its entry.
    pub data: Bytes,
    /// For a leader's own proposal: the term in which this member must lead to propose it, since it
    /// must not reach another leader later. `None` for other requests, which raft forwards to the
    /// leader.
    pub as_leader_of: Option<Term>,
}

impl Proposal {
    /// An encoded request.
    #[must_use]
    pub fn request(id: u64, data: Bytes) -> Proposal {
        Proposal { id, kind: EntryKind::Normal, data, as_leader_of: None }
    }

    /// A change of the configuration. Raft takes one at a time: while another one is not applied,
    /// it appends an empty entry instead, and nothing answers the proposal.
    #[must_use]
    pub fn change(change: &ConfChange) -> Proposal {
        let data = change.encode();
        Proposal { id: change.id, kind: EntryKind::ConfChange, data, as_leader_of: None }
    }
}

/// Work for the caller of [`Member::step`]. Effects of one kind must be carried out in order.
#[derive(Debug)]
pub enum Effect {
    /// Replace the state and the log by this snapshot of the leader. It is durable together with
    /// the batch that follows.
    Restore(RaftSnapshot),
    /// Append a batch to the log and sync it, then send its answers and report [`Input::Durable`].
    Append(Append),
    /// Send these messages to other members. They may get lost.
    Send(Vec<Message>),
    /// A read can be served once its index is applied.
    Read(Read),
    /// Apply these entries, then report [`Input::Applied`].
    Apply(Vec<Entry>),
    /// Read this part of the log for a member that is behind, then report [`Input::LogRead`].
    ReadLog(LogRead),
    /// A member is too far behind for the stored snapshot: take a newer one.
    SnapshotWanted,
    /// A message of another member is invalid and was dropped. Log and count it.
    BadMessage(raft::Error),
    /// The request with this id was refused.
    Refuse(u64, Refusal),
    /// The term or the leader has changed, or [`Leadership::alone_from`] has.
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
    /// Send these messages to other members once the batch is durable, which they report. They may
    /// get lost.
    pub answers: Vec<Message>,
}

/// The reason for a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`APPLY_GAP_MAX`] entries are committed but not applied, or [`WAITING_MAX`]
    /// requests or [`WAITING_BYTES_MAX`] bytes of requests wait.
    TooManyRequests,
    /// It is a leader's own proposal, and this member does not lead, or not in that term.
    NotLeader,
}

/// The current term and its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: Term,
    /// The leader; [`NodeId::NONE`] if it is not known.
    pub leader: NodeId,
    /// If this member leads and is the only member: the commit index when it became so. Other
    /// members may have acknowledged entries up to this index, but none after it.
    pub alone_from: Option<Index>,
}

/// The consensus state machine of a member.
#[derive(Debug)]
pub struct Member {
    raft: raft::Node,
    /// Requests that wait for a leader, or until raft takes more uncommitted bytes.
    waiting: VecDeque<Proposal>,
    waiting_bytes: usize,
    leadership: Leadership,
    /// The batch that is not durable, and the messages to this member itself that follow it.
    in_flight: Option<(Receipt, Vec<Message>)>,
    /// The number of batches that were handed out.
    batches: u64,
}

impl Member {
    /// A member that continues from the node's log.
    #[must_use]
    pub fn new(raft: raft::Node) -> Member {
        let leadership = Leadership { term: raft.term(), ..Leadership::default() };
        Member {
            raft,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            leadership,
            in_flight: None,
            batches: 0,
        }
    }

    /// Handles one input and appends the resulting work to `effects`.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.raft.tick(),
            Input::Propose { own, forwarded } => {
                self.enqueue(own, effects);
                self.propose_with_forwarded(forwarded, effects);
            }
            Input::Message(message) => {
                if let Err(error) = self.raft.step(message) {
                    effects.push(Effect::BadMessage(error));
                }
            }
            Input::Read(context) => {
                // If there is no answer, the caller asks again, so the reason does not matter.
                self.raft.read_index(context).ok();
            }
            Input::Durable(receipt) => self.batch_durable(receipt),
            Input::Applied(index) => self.raft.applied(index),
            Input::ConfChanged(change) => self.conf_changed(change),
            Input::Compact(index) => self.raft.compact(index),
            Input::Transfer(to) => self.raft.transfer_leadership(to),
            Input::Unreachable(member) => self.raft.report_unreachable(member),
            Input::SnapshotSent { to, delivered } => self.raft.report_snapshot(to, delivered),
            Input::LogRead(read, part) => self.raft.log_read(read, part),
            Input::Snapshot(snapshot) => self.raft.set_snapshot(snapshot),
        }
        self.refuse_outdated(effects);
        self.propose_waiting();
        self.take_ready(effects);
    }

    /// The node, for checks of its invariants.
    #[must_use]
    pub fn raft(&self) -> &raft::Node {
        &self.raft
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

    /// The index up to which the log of each member is durable, including its own; `None` unless
    /// this member leads.
    #[must_use]
    pub fn matched(&self) -> Option<BTreeMap<NodeId, Index>> {
        let of_each = || self.raft.progress().iter().map(|(id, progress)| (*id, progress.matched));
        self.leads().then(|| of_each().collect())
    }

    /// The state of raft, for an operator.
    #[must_use]
    pub fn status(&self) -> raft::Status {
        raft::Status::of(&self.raft)
    }

    /// True if something waits for [`Input::Durable`]: the next batch, entries to apply, or the votes
    /// and commits of a candidate or a leader. Otherwise it may be passed on later, with the next input:
    /// a follower has handed its answer out with the batch.
    #[must_use]
    pub fn waits_for_durable(&self) -> bool {
        self.raft.role() != raft::Role::Follower
            || self.raft.has_ready(true)
            || self.raft.commit() > self.raft.persisted()
    }

    /// True while a batch is not durable.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// True if this member is the only voter; there may be learners.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.raft.is_sole_voter()
    }

    /// The current raft configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.raft.conf_state()
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
        // Requests that a leader takes at once do not wait, so the limits do not apply to them.
        let is_blocked = self.raft.leader() == NodeId::NONE || !self.waiting.is_empty();
        for proposal in proposals {
            let bytes = self.waiting_bytes + proposal.data.len();
            let is_full = self.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX;
            if too_far_behind || (is_blocked && is_full) {
                effects.push(Effect::Refuse(proposal.id, Refusal::TooManyRequests));
            } else {
                self.waiting_bytes = bytes;
                self.waiting.push_back(proposal);
            }
        }
    }

    /// Refuses waiting proposals of a leader if its term has ended. If they were forwarded, they
    /// would take effect in the term of another leader: in etcd, an old leader revoked leases that
    /// the new one had renewed.
    ///
    /// Source: etcd issue 15247.
    fn refuse_outdated(&mut self, effects: &mut Vec<Effect>) {
        let term = self.leads().then(|| self.raft.term());
        let is_outdated =
            |proposal: &Proposal| proposal.as_leader_of.is_some_and(|of| Some(of) != term);
        if !self.waiting.iter().any(is_outdated) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (outdated, kept): (VecDeque<_>, VecDeque<_>) = waiting.partition(is_outdated);
        self.waiting = kept;
        for proposal in outdated {
            self.waiting_bytes -= proposal.data.len();
            effects.push(Effect::Refuse(proposal.id, Refusal::NotLeader));
        }
    }

    /// Proposes the waiting requests if there is a leader.
    fn propose_waiting(&mut self) {
        if !self.waiting.is_empty() && self.raft.leader() != NodeId::NONE {
            self.propose_waiting_and(Vec::new());
        }
    }

    /// Proposes the waiting requests and those of other members together. If raft rejects them, the
    /// waiting ones stay queued; other members' clients see a timeout, as if the message were lost.
    fn propose_waiting_and(&mut self, forwarded: Vec<(EntryKind, Bytes)>) {
        let entry = |Proposal { kind, data, .. }: &Proposal| (*kind, data.clone());
        let all = self.waiting.iter().map(entry).chain(forwarded);
        if self.raft.propose_all(all).is_ok() {
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
    }

    /// Proposes the requests that other members have forwarded. A leader proposes them together
    /// with its own.
    fn propose_with_forwarded(&mut self, messages: Vec<Message>, effects: &mut Vec<Effect>) {
        let mut entries = Vec::new();
        for message in messages {
            let taken = if self.leads() {
                self.raft.forwarded(message).map(|forwarded| entries.extend(forwarded))
            } else {
                self.raft.step(message)
            };
            effects.extend(taken.err().map(Effect::BadMessage));
        }
        if !entries.is_empty() {
            self.refuse_outdated(effects);
            self.propose_waiting_and(entries);
        }
    }

    fn conf_changed(&mut self, change: Option<ConfChange>) {
        // An invalid change is passed on as a change without a member, so that raft no longer
        // counts it as pending.
        let change = change.unwrap_or_else(|| ConfChange {
            id: 0,
            kind: proto::raftpb::ConfChangeType::ConfChangeAddNode,
            node: NodeId::NONE,
            context: Bytes::new(),
        });
        let applied = self.raft.apply_conf_change(&ConfChanges::from(&change));
        assert!(applied.is_ok(), "a change that the state accepted is valid for raft: {applied:?}");
    }

    /// Carries out the member's own messages that follow a batch, now that it is durable. A repeated
    /// receipt has no effect.
    fn batch_durable(&mut self, receipt: Receipt) {
        if let Some((_, own)) = self.in_flight.take_if(|(known, _)| *known == receipt) {
            self.step_own(own);
        }
    }

    fn step_own(&mut self, messages: Vec<Message>) {
        for message in messages {
            // Fails if this member was removed from the configuration, and can be ignored then.
            self.raft.step_own(message).ok();
        }
    }

    fn follow_leadership(&mut self, effects: &mut Vec<Effect>) {
        let is_alone = self.leads() && self.raft.is_sole_member();
        let known = self.leadership.alone_from;
        let leadership = Leadership {
            term: self.raft.term(),
            leader: self.raft.leader(),
            alone_from: is_alone.then(|| known.unwrap_or_else(|| self.raft.commit())),
        };
        if leadership != self.leadership {
            self.leadership = leadership;
            effects.push(Effect::Leadership(leadership));
        }
    }

    fn take_ready(&mut self, effects: &mut Vec<Effect>) {
        loop {
            self.follow_leadership(effects);
            let may_write = self.in_flight.is_none();
            if !self.raft.has_ready(may_write) {
                return;
            }
            let ready = self.raft.ready(may_write);
            if let Some(write) = ready.write {
                self.write(write, effects);
            }
            if !ready.committed.is_empty() {
                effects.push(Effect::Apply(ready.committed));
            }
            if !ready.messages.is_empty() {
                effects.push(Effect::Send(ready.messages));
            }
            effects.extend(ready.reads.into_iter().map(Effect::Read));
            effects.extend(ready.log_reads.into_iter().map(Effect::ReadLog));
            effects.extend(ready.wants_snapshot.then_some(Effect::SnapshotWanted));
        }
    }

    fn write(&mut self, write: LogWrite, effects: &mut Vec<Effect>) {
        let me = self.raft.id();
        let (own, answers): (Vec<_>, Vec<_>) =
            write.after.into_iter().partition(|message| message.to == me);
        if !write.must_sync {
            // Only the commit index has changed, which waits for the next batch.
            self.step_own(own);
            if !answers.is_empty() {
                effects.push(Effect::Send(answers));
            }
            return;
        }
        self.batches += 1;
        let receipt = Receipt(self.batches);
        self.in_flight = Some((receipt, own));
        effects.extend(write.snapshot.map(Effect::Restore));
        let hard_state = self.raft.hard_state();
        let append = Append { entries: write.entries, hard_state, receipt, answers };
        effects.push(Effect::Append(append));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::EntryId;
    use raft::{Body, Config, Node, Restored};

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

    fn propose(own: Vec<Proposal>) -> Input {
        Input::Propose { own, forwarded: Vec::new() }
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
        Proposal::request(id, Bytes::from(id.to_string()))
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
    fn a_leader_says_since_when_there_is_no_other_member() {
        let change = |kind, node| {
            let change = ConfChange { id: 7, kind, node: NodeId(node), context: Bytes::new() };
            Input::ConfChanged(Some(change))
        };
        let alone_from = |effects: &[Effect]| {
            effects.iter().find_map(|effect| {
                let Effect::Leadership(leadership) = effect else { return None };
                Some(leadership.alone_from)
            })
        };
        assert_eq!(sole_voter().leadership().alone_from, None, "it does not lead");
        let mut member = leader();
        assert_eq!(member.leadership().alone_from, Some(Index(0)));
        let added = change(proto::raftpb::ConfChangeType::ConfChangeAddLearnerNode, 2);
        assert_eq!(alone_from(&step(&mut member, added)), Some(None), "a learner is a member");
        let batch = step(&mut member, propose(vec![request(1)]));
        step(&mut member, Input::Durable(appended(&batch)[0].receipt));
        assert_eq!(member.commit(), Index(2));
        // The learner may have been told that entry 2 is committed.
        let removed = change(proto::raftpb::ConfChangeType::ConfChangeRemoveNode, 2);
        assert_eq!(alone_from(&step(&mut member, removed)), Some(Some(Index(2))));
    }

    #[test]
    fn proposals_during_a_write_form_one_batch_after_it() {
        let mut member = leader();
        let first = step(&mut member, propose(vec![request(1)]));
        assert_eq!(appended(&first)[0].entries.len(), 1);
        assert!(applied(&first).is_empty(), "nothing is applied before it is durable");
        assert!(step(&mut member, propose(vec![request(2)])).is_empty());
        assert!(step(&mut member, propose(vec![request(3)])).is_empty());
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
        assert!(step(&mut member, propose(vec![request(1)])).is_empty());
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
    fn the_duty_of_a_leader_is_refused_if_this_member_does_not_lead_in_its_term() {
        let duty = |id, term| Proposal { as_leader_of: Some(term), ..request(id) };
        let is_refused = |effects: &[Effect]| {
            effects.iter().any(|effect| matches!(effect, Effect::Refuse(_, Refusal::NotLeader)))
        };
        let mut follower = sole_voter();
        let effects = step(&mut follower, propose(vec![duty(1, Term(1))]));
        assert!(is_refused(&effects), "it would wait for a leader");
        let mut member = leader();
        let term = member.leadership().term;
        let effects = step(&mut member, propose(vec![duty(2, Term(term.0 - 1))]));
        assert!(is_refused(&effects) && appended(&effects).is_empty());
        let effects = step(&mut member, propose(vec![duty(3, term)]));
        assert_eq!(appended(&effects)[0].entries.len(), 1);
    }

    #[test]
    fn a_log_that_hangs_bounds_the_bytes_of_requests() {
        let mut member = leader();
        let data = Bytes::from(vec![0; 1 << 20]);
        let mut refused = 0;
        let mut first = None;
        for id in 0..200 {
            let proposal = Proposal::request(id, data.clone());
            let effects = step(&mut member, propose(vec![proposal]));
            first = first.or_else(|| appended(&effects).first().map(|append| append.receipt));
            let is_refusal = |effect: &&Effect| matches!(effect, Effect::Refuse(..));
            refused += effects.iter().filter(is_refusal).count();
        }
        // 64 MiB are in the log and 64 MiB wait.
        assert!((70..=74).contains(&refused), "{refused} of 200 refused");
        let mut inputs = VecDeque::from([Input::Durable(first.unwrap())]);
        let mut done = 0;
        while let Some(input) = inputs.pop_front() {
            for effect in step(&mut member, input) {
                if let Effect::Append(append) = effect {
                    inputs.push_back(Input::Durable(append.receipt));
                } else if let Effect::Apply(entries) = effect {
                    done += entries.len();
                    inputs.push_back(Input::Applied(entries.last().unwrap().index));
                }
            }
        }
        assert_eq!(done + refused, 200, "all others are applied once the log goes on");
    }

    #[test]
    fn requests_that_wait_are_bounded_in_bytes_however_many_come_at_once() {
        let large = |id| Proposal::request(id, Bytes::from(vec![0; 1 << 20]));
        let mut member = sole_voter();
        let effects = step(&mut member, propose((0..200).map(large).collect()));
        let is_refusal = |effect: &&Effect| matches!(effect, Effect::Refuse(..));
        assert_eq!(effects.iter().filter(is_refusal).count(), 200 - 64, "there is no leader");
    }

    #[test]
    fn a_member_with_too_many_unapplied_entries_refuses_requests() {
        let mut member = leader();
        let many = (0..=APPLY_GAP_MAX).map(request).collect();
        let effects = step(&mut member, propose(many));
        step(&mut member, Input::Durable(appended(&effects)[0].receipt));
        let refused = step(&mut member, propose(vec![request(9)]));
        assert!(matches!(refused[..], [Effect::Refuse(9, Refusal::TooManyRequests)]));
    }

    /// A member of three that follows member 2 in term 1.
    fn follower() -> Member {
        let voters = vec![NodeId(1), NodeId(2), NodeId(3)];
        let conf_state = ConfState { voters, ..ConfState::default() };
        let restored = Restored { conf_state, ..Restored::default() };
        let mut member = Member::new(Node::new(Config::new(NodeId(1), 7), restored).unwrap());
        let effects = step(&mut member, of_leader(1, heartbeat()));
        let receipt = appended(&effects)[0].receipt;
        step(&mut member, Input::Durable(receipt));
        member
    }

    fn of_leader(term: u64, body: Body) -> Input {
        Input::Message(Message { from: NodeId(2), to: NodeId(1), term: Term(term), body })
    }

    fn heartbeat() -> Body {
        Body::Heartbeat { commit: Index(0), context: Bytes::new() }
    }

    fn sent(effects: &[Effect]) -> Vec<Body> {
        let mut sent = Vec::new();
        for effect in effects {
            if let Effect::Send(messages) = effect {
                sent.extend(messages.iter().map(|message| message.body.clone()));
            }
        }
        sent
    }

    fn leaderships(effects: &[Effect]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for effect in effects {
            if let Effect::Leadership(Leadership { term, leader, .. }) = effect {
                found.push((term.0, leader.0));
            }
        }
        found
    }

    #[test]
    fn a_follower_forwards_requests_to_its_leader() {
        let mut member = follower();
        let effects = step(&mut member, propose(vec![request(1)]));
        let [Body::Propose { entries }] = &sent(&effects)[..] else { panic!("{effects:?}") };
        assert_eq!(entries[0].data, "1");
    }

    #[test]
    fn a_response_belongs_to_the_batch_that_it_reports() {
        let mut member = follower();
        let entry = Entry { term: Term(1), index: Index(1), ..Entry::default() };
        let prev = EntryId::default();
        let append = Body::Append { prev, entries: vec![entry], commit: Index(1) };
        let effects = step(&mut member, of_leader(1, append));
        assert_eq!((sent(&effects), applied(&effects).len()), (Vec::new(), 0));
        let Append { receipt, answers, .. } = appended(&effects)[0];
        let answers: Vec<&Body> = answers.iter().map(|message| &message.body).collect();
        assert_eq!(answers, [&Body::AppendAccepted { index: Index(1) }]);
        let receipt = *receipt;
        let effects = step(&mut member, Input::Durable(receipt));
        assert_eq!(sent(&effects), []);
        assert_eq!(applied(&effects), [Bytes::new()]);
        let again = step(&mut member, Input::Durable(receipt));
        assert!(again.is_empty(), "a receipt that comes twice has no effect");
    }

    #[test]
    fn a_follower_waits_for_a_batch_only_if_more_depends_on_it() {
        let append = |index: u64, commit| {
            let entry = Entry { term: Term(1), index: Index(index), ..Entry::default() };
            let term = if index == 1 { Term(0) } else { Term(1) };
            let prev = EntryId { term, index: Index(index - 1) };
            of_leader(1, Body::Append { prev, entries: vec![entry], commit: Index(commit) })
        };
        let mut member = follower();
        step(&mut member, append(1, 0));
        assert!(!member.waits_for_durable());
        step(&mut member, append(2, 0));
        assert!(member.waits_for_durable(), "the next batch");
        let mut member = follower();
        step(&mut member, append(1, 1));
        assert!(member.waits_for_durable(), "an entry to apply");
        assert!(leader().waits_for_durable(), "a commit");
    }

    #[test]
    fn a_read_on_a_follower_asks_the_leader_and_gets_its_answer() {
        let mut member = follower();
        let effects = step(&mut member, Input::Read(7));
        let [Body::ReadIndex { context }] = &sent(&effects)[..] else { panic!("{effects:?}") };
        let answer = Body::ReadIndexResponse { index: Index(3), context: context.clone() };
        let effects = step(&mut member, of_leader(1, answer));
        assert!(matches!(effects[..], [Effect::Read(Read { context: 7, index: Index(3) })]));
    }

    #[test]
    fn the_term_of_the_leadership_follows_that_of_a_follower() {
        let mut member = follower();
        let leadership = Leadership { term: Term(1), leader: NodeId(2), alone_from: None };
        assert_eq!(member.leadership(), leadership);
        // The same leader, elected again in another term.
        let effects = step(&mut member, of_leader(2, heartbeat()));
        assert_eq!(leaderships(&effects), [(2, 2)]);
        assert_eq!(member.leadership().term, Term(2));
    }
}
