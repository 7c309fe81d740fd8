//! A member's raft state, its start, and its accessors. Its inputs are in `tick`, `step`, `own`,
//! `proposal`, `membership`, `read` and `transfer`; its output is in `ready`.
//!
//! Source: etcd raft v3.7 raft.go, rawnode.go.

use crate::confchange;
use crate::config::{Config, Restored};
use crate::error::Error;
use crate::log::RaftLog;
use crate::message::RaftSnapshot;
use crate::output::{Handed, Outbox, Role, SoftState};
use crate::reads::Reads;
use crate::tracker::{self, ProgressMap, Tracker};
use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId, Term};
use random::Random;

/// The ticks since the last events.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) election_elapsed: u64,
    pub(crate) heartbeat_elapsed: u64,
    /// The ticks after which to campaign, drawn at random for each term.
    pub(crate) timeout: u64,
    random: Random,
}

/// The state of a leader in its term.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    /// No configuration change may be proposed until this index is applied.
    pub(crate) pending_conf_index: Index,
    /// The target of a leadership transfer; [`NodeId::NONE`] if there is none.
    pub(crate) transferee: NodeId,
    /// The bytes of data of the entries that were appended in this term and are not applied.
    pub(crate) uncommitted_bytes: usize,
}

/// One member's raft: a state machine without I/O, clock or randomness of its own.
///
/// - *Invariant:* terms and the commit index never decrease; a member votes once in a term.
/// - *Invariant:* the log has at most one configuration change that is not applied.
/// - *Invariant:* only entries of the leader's own term are committed by counting replicas (thesis
///   §3.6.2). Older entries are committed with them.
/// - *Invariant:* a member's own vote and entries count, and are reported to other members, only
///   once they are durable. A candidate asks for votes only once its log and its own vote are
///   durable: otherwise it could lose entries in a crash, campaign again in the same term, and win
///   with votes that were given to the longer log.
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
    pub(crate) leading: Leading,
    pub(crate) reads: Reads,
    /// The output that the caller has not taken yet, and the state of the last [`crate::Ready`].
    pub(crate) out: Out,
    /// The newest snapshot for members that are too far behind.
    pub(crate) newest_snapshot: Option<RaftSnapshot>,
}

/// The output on both sides of [`Node::ready`].
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) outbox: Outbox,
    pub(crate) handed: Handed,
}

impl Node {
    /// A node that continues from the stored state. It starts as a follower.
    ///
    /// # Errors
    /// [`Error::Config`] for invalid settings, [`Error::Restored`] for an inconsistent state.
    pub fn new(config: Config, restored: Restored) -> Result<Node, Error> {
        config.validate()?;
        let hard_state = restored.hard_state;
        let fresh = hard_state.is_empty() && restored.entries.is_empty();
        let conf_state = restored.conf_state.clone();
        let newest_snapshot = restored.newest.clone();
        let log = RaftLog::new(restored, &config.limits, config.rules.applies_unpersisted)?;
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
        let inflight = config.limits.inflight;
        let configured = confchange::restore(&conf_state, last.index, inflight)
            .map_err(|why| Error::Restored(why.to_string()))?;
        let mut node = Node {
            term: hard_state.term,
            vote: hard_state.vote,
            role: Role::Follower,
            leader: NodeId::NONE,
            log,
            tracker: Tracker::new(inflight),
            clock: Clock {
                election_elapsed: 0,
                heartbeat_elapsed: 0,
                timeout: config.election_ticks,
                random: Random::new(config.seed),
            },
            leading: Leading::default(),
            reads: Reads::default(),
            out: Out::default(),
            newest_snapshot,
            config,
        };
        node.switch_to(configured);
        node.become_follower(node.term, NodeId::NONE);
        node.out.handed = Handed { hard: node.hard_state(), soft: node.soft_state() };
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
                inflights: tracker::Inflights::new(self.config.limits.inflight),
                ..tracker::Progress::default()
            };
            if *id == self.config.id {
                progress.matched = self.log.persisted();
            }
        }
        self.leading = Leading::default();
        self.reads = Reads::default();
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: NodeId) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        tracing::info!("{:x} became follower at term {}", self.config.id, self.term);
    }

    /// Sets the ticks after which this member campaigns, until its term or its role changes. For
    /// tests and simulations that need a fixed timeout.
    pub fn set_election_timeout(&mut self, ticks: u64) {
        self.clock.timeout = ticks;
    }

    /// Keeps a snapshot for members that need entries that this member no longer has. Without one,
    /// [`crate::Ready::wants_snapshot`] asks for it when it is needed.
    pub fn set_snapshot(&mut self, snapshot: impl Into<Option<RaftSnapshot>>) {
        self.newest_snapshot = snapshot.into();
    }

    /// Removes the entries up to `index` from memory, except those that are not applied or not
    /// durable.
    pub fn compact(&mut self, index: Index) {
        self.log.release(index);
    }

    /// True if this member is a voter, so that it may become leader.
    pub(crate) fn is_promotable(&self) -> bool {
        // A log that is being replaced by a snapshot does not have its configuration yet.
        self.tracker.config.voters.contains(self.config.id) && !self.log.has_pending_snapshot()
    }

    /// The ticks without a leader after which an election begins, before the random part.
    #[must_use]
    pub fn election_ticks(&self) -> u64 {
        self.config.election_ticks
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

    /// The target of a leadership transfer; [`NodeId::NONE`] if there is none.
    #[must_use]
    pub fn transferee(&self) -> NodeId {
        self.leading.transferee
    }

    /// The leader and the role.
    #[must_use]
    pub fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    /// The current hard state.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
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

    /// True if this member is the only voter; there may be learners.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.tracker.config.is_singleton() && self.is_promotable()
    }

    /// True if this member is the only one: there is no other voter and no learner.
    #[must_use]
    pub fn is_sole_member(&self) -> bool {
        self.is_sole_voter() && self.tracker.progress.len() == 1
    }

    /// True if an entry of the current term is committed. Only then does a leader's commit index
    /// include all entries that earlier leaders committed.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }
}
