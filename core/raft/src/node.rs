//! A member's raft state and its inputs: start, ticks, proposals, applied entries, accessors. The
//! handling of messages is in `step`, `election`, `leader`, `follower` and `read`; the output is in
//! `ready`.
//!
//! Source: etcd raft v3.7 raft.go, rawnode.go.

use crate::confchange::{self, Changer, ConfChanges, Configured};
use crate::config::{Config, Restored};
use crate::error::{DroppedRequest, Error};
use crate::log::{Progressed, RaftLog};
use crate::output::{Outbox, Role, Writes};
use crate::reads::Reads;
use crate::tracker::{self, ProgressMap, Tracker};
use bytes::Bytes;
use prost::Message as _;
use proto::raftpb;
use proto::{ConfChange, ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use random::Random;

/// The outcome of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It was appended to this member's log. Another leader may still overwrite it.
    Appended {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// It was sent to the leader. The message may get lost.
    Forwarded,
    /// A configuration change that is not possible now. An empty entry was appended instead.
    Ignored {
        /// The reason, in etcd's words.
        why: String,
    },
}

/// The ticks since the last events.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) election_elapsed: u64,
    pub(crate) heartbeat_elapsed: u64,
    /// The ticks after which to campaign, drawn at random for each term.
    timeout: u64,
    random: Random,
}

/// One member's raft: a state machine without I/O, clock or randomness of its own.
///
/// - *Invariant:* terms and the commit index never decrease; a member votes once in a term.
/// - *Invariant:* the log has at most one configuration change that is not applied.
/// - *Invariant:* only entries of the leader's own term are committed by counting replicas (thesis
///   §3.6.2). Older entries are committed with them.
/// - *Invariant:* a member's own vote and entries count, and are reported to other members, only
///   once they are durable.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) vote: NodeId,
    pub(crate) role: Role,
    pub(crate) leader: NodeId,
    pub(crate) log: RaftLog,
    pub(crate) tracker: Tracker,
    pub(crate) clock: Clock,
    pub(crate) reads: Reads,
    pub(crate) outbox: Outbox,
    pub(crate) writes: Writes,
    /// No configuration change may be proposed until this index is applied.
    pub(crate) pending_conf_index: Index,
}

impl Node {
    /// A node that continues from the stored state. It starts as a follower.
    ///
    /// # Errors
    /// [`Error::Config`] for invalid settings, [`Error::Restored`] for an inconsistent state.
    pub fn new(config: Config, restored: Restored) -> Result<Node, Error> {
        config.validate()?;
        let Restored { hard_state, conf_state, snapshot, entries, applied } = restored;
        let fresh = hard_state.is_empty() && entries.is_empty();
        let at = Progressed { committed: hard_state.commit, applied };
        let log = RaftLog::new(snapshot, entries, at, config.log_window_bytes_max)?;
        let last = log.last();
        // A torn batch can leave entries without the hard state of the same batch. No vote was
        // given and no message was sent in their term then. (A cluster may start from a hand-made
        // snapshot of term 1 without a hard state: its members start in term 0, as etcd's do.)
        let made_by_hand = fresh && last.term <= Term(1);
        let hard_state = if hard_state.term < last.term && !made_by_hand {
            HardState { term: last.term, vote: NodeId::NONE, ..hard_state }
        } else {
            hard_state
        };
        let configured = confchange::restore(&conf_state, last.index, config.inflight_max)
            .map_err(|why| Error::Restored(why.to_string()))?;
        let mut node = Node {
            term: hard_state.term,
            vote: hard_state.vote,
            role: Role::Follower,
            leader: NodeId::NONE,
            log,
            tracker: Tracker::new(config.inflight_max),
            clock: Clock {
                election_elapsed: 0,
                heartbeat_elapsed: 0,
                timeout: config.election_ticks,
                random: Random::new(config.seed),
            },
            reads: Reads::default(),
            outbox: Outbox::default(),
            writes: Writes::default(),
            pending_conf_index: Index(0),
            config,
        };
        node.switch_to(configured);
        node.become_follower(node.term, NodeId::NONE);
        node.writes.begin(node.hard_state(), node.soft_state());
        let peers: Vec<String> =
            node.tracker.config.voters.ids().iter().map(|id| format!("{id:x}")).collect();
        tracing::info!(
            "newRaft {:x} [peers: [{}], term: {}, commit: {}, applied: {}, lastindex: {}, lastterm: {}]",
            node.config.id,
            peers.join(","),
            node.term,
            node.log.committed(),
            node.log.applied(),
            last.index,
            last.term
        );
        Ok(node)
    }

    /// Advances the time by one tick. A sole voter campaigns at once.
    pub fn tick(&mut self) {
        self.clock.election_elapsed += 1;
        if self.role == Role::Leader {
            self.clock.heartbeat_elapsed += 1;
            if self.clock.heartbeat_elapsed >= self.config.heartbeat_ticks {
                self.clock.heartbeat_elapsed = 0;
                self.broadcast_heartbeat();
            }
            return;
        }
        let alone = self.tracker.config.is_singleton();
        let own_vote_under_way =
            self.role == Role::Candidate && !self.tracker.votes.contains_key(&self.config.id);
        let due = self.clock.election_elapsed >= self.clock.timeout
            || (alone && self.role == Role::Follower);
        // A sole voter whose own vote is still being written does not start another election.
        if due && self.is_promotable() && !(alone && own_vote_under_way) {
            self.clock.election_elapsed = 0;
            self.campaign();
        }
    }

    /// Proposes entries, which stay together in this order. A leader appends them; a follower
    /// forwards them to the leader.
    ///
    /// # Errors
    /// [`DroppedRequest`] if there is no leader, or the leader is not a member any more.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Result<Proposed, DroppedRequest> {
        let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        self.propose_entries(entries)
    }

    /// Proposes the change of one member, as etcd does.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, DroppedRequest> {
        let (kind, data) = (EntryKind::ConfChange, change.encode());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    /// Proposes several changes in one step. Without changes, proposes to leave the joint
    /// configuration.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub fn propose_conf_changes(
        &mut self,
        changes: &raftpb::ConfChangeV2,
    ) -> Result<Proposed, DroppedRequest> {
        let (kind, data) = (EntryKind::ConfChangeV2, changes.encode_to_vec().into());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    /// Applies the change of a committed entry. To be called for each such entry before
    /// [`Node::applied`] reports it. An invalid change is passed with [`NodeId::NONE`] as its
    /// member.
    ///
    /// # Errors
    /// [`Error::ConfChange`] if the change is not possible. The member must stop then: another
    /// member may have applied it.
    pub fn apply_conf_change(&mut self, changes: &ConfChanges) -> Result<ConfState, Error> {
        let changer = Changer { tracker: &self.tracker, last_index: self.log.last().index };
        let configured = if changes.leaves_joint() {
            changer.leave_joint()
        } else if let Some(auto_leave) = changes.enters_joint() {
            changer.enter_joint(auto_leave, &changes.changes)
        } else {
            changer.simple(&changes.changes)
        };
        let configured = configured?;
        self.switch_to(configured);
        Ok(self.conf_state())
    }

    fn switch_to(&mut self, (config, progress): Configured) {
        self.tracker.config = config;
        self.tracker.progress = progress;
        tracing::info!("{:x} switched to configuration {}", self.config.id, self.tracker.config);
        if self.role == Role::Leader && self.is_promotable() {
            // The quorum may be smaller now.
            if self.advance_commit() {
                self.release_reads();
            } else {
                self.send_new_entries();
            }
            self.advance_reads();
        }
    }

    /// The entries up to `index` have been applied.
    ///
    /// # Panics
    /// If they were not handed out by [`Node::ready`], or `index` decreases.
    pub fn applied(&mut self, index: Index) {
        self.log.applied_to(index);
        let leaves = self.tracker.config.auto_leave
            && self.role == Role::Leader
            && index >= self.pending_conf_index;
        if leaves {
            let leave = Entry { kind: EntryKind::ConfChangeV2, ..Entry::default() };
            if self.propose_entries(vec![leave]).is_ok() {
                tracing::info!(
                    "initiating automatic transition out of joint configuration {}",
                    self.tracker.config
                );
            }
        }
    }

    /// Removes the entries up to `index` from memory, except those that are not applied or not
    /// durable.
    pub fn compact(&mut self, index: Index) {
        self.log.release(index);
    }

    pub(crate) fn reset(&mut self, term: Term) {
        assert!(term >= self.term, "terms never decrease: {} after {}", term, self.term);
        if self.term != term {
            self.term = term;
            self.vote = NodeId::NONE;
        }
        self.leader = NodeId::NONE;
        let ticks = self.config.election_ticks;
        self.clock.election_elapsed = 0;
        self.clock.heartbeat_elapsed = 0;
        self.clock.timeout = ticks + self.clock.random.below(ticks);
        self.tracker.votes.clear();
        let next = self.log.last().index.next();
        for (id, progress) in &mut self.tracker.progress {
            *progress = tracker::Progress {
                next,
                is_learner: progress.is_learner,
                inflights: tracker::Inflights::new(self.config.inflight_max),
                ..tracker::Progress::default()
            };
            if *id == self.config.id {
                progress.matched = self.log.persisted();
            }
        }
        self.pending_conf_index = Index(0);
        self.reads = Reads::default();
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: NodeId) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        tracing::info!("{:x} became follower at term {}", self.config.id, self.term);
    }

    /// True if this member is a voter, so that it may become leader.
    pub(crate) fn is_promotable(&self) -> bool {
        self.tracker.config.voters.contains(self.config.id)
    }

    /// The id of this member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The role of this member.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The leader; [`NodeId::NONE`] if it is not known.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.log.committed()
    }

    /// The index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.log.applied()
    }

    /// The index of the last entry that is durable here.
    #[must_use]
    pub fn persisted(&self) -> Index {
        self.log.persisted()
    }

    /// The last entry of the log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The index of the first entry in memory.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.log.first_index()
    }

    /// The term of an entry; `None` if the entry is not in memory or does not exist.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// The memory used by entries, in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The entries in memory from `first` on, up to `bytes_max` bytes but at least one if there is
    /// any.
    #[must_use]
    pub fn entries(&self, first: Index, bytes_max: usize) -> Vec<Entry> {
        self.log.slice(first, self.log.last().index, bytes_max)
    }

    /// The current configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.tracker.config.conf_state()
    }

    /// The leader's knowledge of each member's log. Outdated if this member does not lead.
    #[must_use]
    pub fn progress(&self) -> &ProgressMap {
        &self.tracker.progress
    }

    /// True if this member is the only voter.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.tracker.config.is_singleton() && self.is_promotable()
    }

    /// True if an entry of the current term is committed. Only then does a leader's commit index
    /// include all entries that earlier leaders committed.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }

    /// Checks the invariants, for tests and the simulation.
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
                let own = self.tracker.progress.get(&id).map(|progress| progress.matched);
                assert!(
                    own.is_none_or(|matched| matched <= self.log.persisted()),
                    "the leader counts its own entries only once they are durable"
                );
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
