//! One member's raft state, and its way in: settings, restart, ticks, requests, accessors. What
//! happens then stands by role and message in `election`, `leader`, `follower`, `read`; what comes
//! out, in `ready`.
//!
//! Source: etcd raft v3.7 raft.go, rawnode.go.

use crate::confchange::{self, Changer, Changes, Configured};
use crate::error::{Dropped, Error};
use crate::log::{Log, Progressed};
use crate::random::Random;
use crate::read::Reads;
use crate::ready::{Outbox, Writes};
use crate::tracker::{self, ProgressMap, Tracker};
use bytes::Bytes;
use prost::Message as _;
use proto::raftpb;
use proto::{ConfChange, ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use std::fmt;

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// A follower campaigns after this many ticks without a leader, and up to twice as many.
    pub election_ticks: u64,
    /// A leader sends heartbeats every so many ticks.
    pub heartbeat_ticks: u64,
    /// The size of the entries in one append to a member, in bytes; one entry may be larger.
    pub append_bytes_max: usize,
    /// The size of the committed entries in one [`crate::Ready`], in bytes; one may be larger.
    pub committed_bytes_max: usize,
    /// The memory of the entries that are kept although they are applied, in bytes.
    pub log_window_bytes_max: usize,
    /// How many appends may be on their way to one member.
    pub inflight_max: usize,
    /// How many writes may be under way; while as many are, [`crate::Ready`] holds no entries, and
    /// what comes meanwhile is gathered into the next.
    pub writes_max: usize,
    /// The seed of the election timeouts. Members need different ones.
    pub seed: u64,
}

/// What the entries in memory may take, in bytes, if nothing else is said.
pub const LOG_WINDOW_BYTES_MAX: usize = 8 << 20;

impl Config {
    /// etcd's settings, with one write at a time.
    #[must_use]
    pub fn new(id: NodeId, seed: u64) -> Config {
        Config {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 20,
            committed_bytes_max: 1 << 20,
            log_window_bytes_max: LOG_WINDOW_BYTES_MAX,
            inflight_max: 512,
            writes_max: 1,
            seed,
        }
    }

    fn validate(&self) -> Result<(), Error> {
        let bad = |why: &str| Err(Error::Config(why.into()));
        if self.id == NodeId::NONE {
            return bad("the id of a member cannot be 0");
        }
        if self.heartbeat_ticks == 0 {
            return bad("heartbeat ticks must be greater than 0");
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return bad("election ticks must be greater than heartbeat ticks");
        }
        if self.inflight_max == 0 || self.writes_max == 0 {
            return bad("at least one append and one write must be possible at a time");
        }
        Ok(())
    }
}

/// What a member remembers of raft when it starts; all empty for a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The newest hard state. Its commit index may lie behind `applied`.
    pub hard_state: HardState,
    /// The configuration as of `applied`.
    pub conf_state: ConfState,
    /// The entry before the first of `entries`.
    pub snapshot: EntryId,
    /// The log behind it.
    pub entries: Vec<Entry>,
    /// How far the log has been applied; at least the snapshot's index.
    pub applied: Index,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It decides what the log holds.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "StateFollower",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        })
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It is in this member's log, which may still lose it to another leader.
    Appended {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// It goes to the leader, and may get lost on the way.
    Forwarded,
    /// A configuration change that cannot be made now: an empty entry took its place.
    Ignored {
        /// Why, in etcd's words.
        why: String,
    },
}

/// Time, as this member counts it.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) election_elapsed: u64,
    pub(crate) heartbeat_elapsed: u64,
    /// When to campaign, drawn anew for each term.
    timeout: u64,
    random: Random,
}

/// One member's raft: a state machine without I/O, clock or randomness of its own.
///
/// - *Invariant:* terms and the commit index never fall, and one vote is given in each term.
/// - *Invariant:* there is at most one configuration change in the log that is not applied.
/// - *Invariant:* only entries of the leader's own term are committed by counting (thesis §3.6.2);
///   older ones are committed with them.
/// - *Invariant:* a member's own vote and its own entries count only when they are durable, and so
///   does everything that it tells others about them.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) vote: NodeId,
    pub(crate) role: Role,
    pub(crate) leader: NodeId,
    pub(crate) log: Log,
    pub(crate) tracker: Tracker,
    pub(crate) clock: Clock,
    pub(crate) reads: Reads,
    pub(crate) outbox: Outbox,
    pub(crate) writes: Writes,
    /// No configuration change may be proposed until this index is applied.
    pub(crate) pending_conf_index: Index,
}

impl Node {
    /// A member as it was when it stopped. It begins as a follower.
    ///
    /// # Errors
    /// When the settings make no sense, or what was stored does not fit together.
    pub fn new(config: Config, restored: Restored) -> Result<Node, Error> {
        config.validate()?;
        let Restored { hard_state, conf_state, snapshot, entries, applied } = restored;
        let fresh = hard_state.is_empty() && entries.is_empty();
        let at = Progressed { committed: hard_state.commit, applied };
        let log = Log::new(snapshot, entries, at, config.log_window_bytes_max)?;
        let last = log.last();
        // A torn batch can leave entries without the hard state that followed them. Nothing was
        // said or voted in their term then. (A cluster may begin with a hand-made snapshot of term
        // 1 and nothing else: its members begin before it, as etcd's do.)
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
        // What was stored is not news.
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

    /// Time goes on by one tick. A sole voter campaigns at once: there is nobody to wait for.
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
        // A sole voter whose vote is being written on a slow disk has nothing to gain by another.
        if due && self.is_promotable() && !(alone && own_vote_under_way) {
            self.clock.election_elapsed = 0;
            self.campaign();
        }
    }

    /// Proposes entries, in this order and next to each other. A leader appends them; a follower
    /// sends them on.
    ///
    /// # Errors
    /// [`Dropped`] when nobody would take them.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Result<Proposed, Dropped> {
        let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        self.propose_entries(entries)
    }

    /// Proposes the change of one member, as etcd does.
    ///
    /// # Errors
    /// [`Dropped`] when nobody would take it.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, Dropped> {
        let (kind, data) = (EntryKind::ConfChange, change.encode());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    /// Proposes changes that are made in one step, or, with none, to leave the joint configuration.
    ///
    /// # Errors
    /// [`Dropped`] when nobody would take it.
    pub fn propose_conf_changes(
        &mut self,
        changes: &raftpb::ConfChangeV2,
    ) -> Result<Proposed, Dropped> {
        let (kind, data) = (EntryKind::ConfChangeV2, changes.encode_to_vec().into());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    /// Makes the change of a committed entry; to be called for each one before [`Node::applied`]
    /// reports it. A change that was found invalid is passed with nobody as its member.
    ///
    /// # Errors
    /// When the change cannot be made. Members cannot go on then, for they would part.
    pub fn apply_conf_change(&mut self, changes: &Changes) -> Result<ConfState, Error> {
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
            // The quorum may have become smaller.
            if self.commit_and_tell() {
                self.release_reads();
            } else {
                self.send_what_is_new();
            }
            self.advance_reads();
        }
    }

    /// Everything up to `index` has been applied: it comes from what [`Node::ready`] handed out.
    ///
    /// # Panics
    /// When it was not handed out, or goes back.
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

    /// Releases the entries up to `index` from memory; those that are not applied or not durable
    /// stay.
    pub fn compact(&mut self, index: Index) {
        self.log.release(index);
    }

    pub(crate) fn reset(&mut self, term: Term) {
        assert!(term >= self.term, "terms never fall: {} after {}", term, self.term);
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

    /// Whether this member votes, and so may lead.
    pub(crate) fn is_promotable(&self) -> bool {
        self.tracker.config.voters.contains(self.config.id)
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What this member is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Who leads as far as is known; nobody otherwise.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// How far the log is committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.log.committed()
    }

    /// How far it has been applied.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.log.applied()
    }

    /// How far it is durable here.
    #[must_use]
    pub fn persisted(&self) -> Index {
        self.log.persisted()
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The first entry that is still in memory.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.log.first_index()
    }

    /// The term of an entry; nothing if it was released or does not exist.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// The memory of the entries, in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The entries in memory from `first` on, up to a size in bytes and at least one if there is
    /// any.
    #[must_use]
    pub fn entries(&self, first: Index, bytes_max: usize) -> Vec<Entry> {
        self.log.slice(first, self.log.last().index, bytes_max)
    }

    /// Who is in the configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.tracker.config.conf_state()
    }

    /// What a leader knows of each member; old news on others.
    #[must_use]
    pub fn progress(&self) -> &ProgressMap {
        &self.tracker.progress
    }

    /// Whether this member is the only voter.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        self.tracker.config.is_singleton() && self.is_promotable()
    }

    /// Whether an entry of the current term is committed, so that the commit index is what it
    /// claims to be on a leader.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }

    /// Checks the invariants, for tests and the simulation.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        self.log.check();
        let id = self.config.id;
        let begins = self.log.last().index < self.log.first_index();
        assert!(begins || self.log.last().term <= self.term, "no entry is from a later term");
        match self.role {
            Role::Follower => {}
            Role::Candidate => assert_eq!(self.vote, id, "a candidate votes for itself"),
            Role::Leader => {
                assert_eq!(self.leader, id, "a leader knows that it leads");
                for (member, progress) in &self.tracker.progress {
                    assert!(progress.matched < progress.next, "matched < next for {member:x}");
                    assert!(
                        progress.matched <= self.log.last().index,
                        "nobody matches more than there is: {member:x}"
                    );
                }
                let own = self.tracker.progress.get(&id).map(|progress| progress.matched);
                assert!(
                    own.is_none_or(|matched| matched <= self.log.persisted()),
                    "the leader's own entries count only when they are durable"
                );
            }
        }
        let members = self.tracker.config.voters.ids();
        let known = members.iter().chain(&self.tracker.config.learners);
        assert!(
            known.clone().all(|id| self.tracker.progress.contains_key(id)),
            "each member has a progress"
        );
    }
}
