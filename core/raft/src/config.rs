//! The settings of a node, and the stored state from which it starts.

use crate::error::Error;
use crate::message::{OWN_APPLIER, RaftSnapshot};
use crate::tracker::InflightLimits;
use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId};

/// The default of [`RaftLimits::log_window_bytes_max`].
pub const LOG_WINDOW_BYTES_MAX: usize = 4 << 20;

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The id of this member.
    pub id: NodeId,
    /// The seed of the election timeouts. Members need different seeds.
    pub seed: u64,
    /// A follower campaigns after this many ticks without a message from a leader, or up to twice
    /// as many.
    pub election_ticks: u64,
    /// The ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u64,
    /// The limits on memory and messages.
    pub limits: RaftLimits,
    /// The optional parts of the protocol.
    pub rules: ProtocolRules,
}

/// The limits on memory and messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftLimits {
    /// The most bytes of entries in one append message. A single entry may be larger.
    pub append_bytes_max: usize,
    /// The most bytes of committed entries in one [`crate::Ready`]. A single entry may be larger.
    pub committed_bytes_max: usize,
    /// While the committed entries that were handed out and are not applied have this many bytes,
    /// no further ones are handed out.
    pub applying_bytes_max: usize,
    /// A leader refuses proposals if the data of its entries that are not applied would exceed
    /// this many bytes. A proposal is always accepted if there are no such entries.
    pub uncommitted_bytes_max: usize,
    /// The most bytes of applied entries that are kept in memory.
    pub log_window_bytes_max: usize,
    /// The appends in flight to one member.
    pub inflight: InflightLimits,
}

/// How a leader makes sure that no newer leader exists before it answers a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// A quorum answers a heartbeat that was sent after the read arrived.
    #[default]
    Quorum,
    /// The lease of check-quorum: fast, and wrong if the clocks of members run at different
    /// speeds.
    Lease,
}

/// The optional parts of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolRules {
    /// A member asks whether it would be elected before it raises its term (thesis §9.6).
    pub pre_vote: bool,
    /// A leader steps down if it does not hear from a quorum for an election timeout, and members
    /// that hear from a leader ignore candidates (thesis §6.2, §4.2.3).
    pub check_quorum: bool,
    /// How reads are confirmed.
    pub read_mode: ReadMode,
    /// A read that arrives while heartbeats confirm earlier ones waits for the next round of
    /// heartbeats, which serves all that wait by then. Without it, each read makes a round.
    pub gathers_reads: bool,
    /// A follower forwards proposals to its leader.
    pub forwards_proposals: bool,
    /// A leader refuses a configuration change that is not possible in its configuration. Switch
    /// this off only if the applying side refuses such changes.
    pub validates_conf_changes: bool,
    /// A leader that is removed or becomes a learner steps down when it applies the change.
    pub steps_down_on_removal: bool,
    /// Committed entries are handed out for applying although they are not durable here. Switch
    /// this on only if each [`crate::Ready`] is written before its entries are applied.
    pub applies_unpersisted: bool,
    /// The caller can read older entries from its log file ([`crate::Ready::log_reads`]). Without
    /// it, a member that needs them gets a snapshot.
    pub reads_log: bool,
}

impl Config {
    /// etcd's settings. Pre-vote and check-quorum are switched off, as in etcd's raft library.
    #[must_use]
    pub fn new(id: NodeId, seed: u64) -> Config {
        Config {
            id,
            seed,
            election_ticks: 10,
            heartbeat_ticks: 1,
            limits: RaftLimits {
                append_bytes_max: 1 << 20,
                committed_bytes_max: 1 << 20,
                applying_bytes_max: 16 << 20,
                uncommitted_bytes_max: 64 << 20,
                log_window_bytes_max: LOG_WINDOW_BYTES_MAX,
                inflight: InflightLimits { count: 512, bytes: 16 << 20 },
            },
            rules: ProtocolRules {
                pre_vote: false,
                check_quorum: false,
                read_mode: ReadMode::Quorum,
                gathers_reads: false,
                forwards_proposals: true,
                validates_conf_changes: true,
                steps_down_on_removal: false,
                applies_unpersisted: false,
                reads_log: false,
            },
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let bad = |why: &str| Err(Error::Config(why.into()));
        if self.id == NodeId::NONE || self.id >= OWN_APPLIER {
            return bad("the id of a member cannot be 0 or one of the two highest numbers");
        }
        if self.heartbeat_ticks == 0 {
            return bad("heartbeat ticks must be greater than 0");
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return bad("election ticks must be greater than heartbeat ticks");
        }
        let RaftLimits { inflight, applying_bytes_max, .. } = self.limits;
        if inflight.count == 0 || inflight.bytes == 0 || applying_bytes_max == 0 {
            return bad("limits must be greater than 0");
        }
        if self.rules.read_mode == ReadMode::Lease && !self.rules.check_quorum {
            return bad("reads by lease need check-quorum");
        }
        Ok(())
    }
}

/// The stored state of a member that starts; empty for a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The newest hard state. Its commit index may be below `applied`.
    pub hard_state: HardState,
    /// The configuration as of `applied`.
    pub conf_state: ConfState,
    /// The entry before the first of `entries`.
    pub snapshot: EntryId,
    /// The log after `snapshot`.
    pub entries: Vec<Entry>,
    /// The index of the last applied entry; at least the snapshot's index.
    pub applied: Index,
    /// The newest stored snapshot, for members that need it. `None` if there is none.
    pub newest: Option<RaftSnapshot>,
}
