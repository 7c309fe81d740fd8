//! The settings of a node, and the stored state from which it starts.

use crate::error::Error;
use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId};

/// The default of [`Config::log_window_bytes_max`].
pub const LOG_WINDOW_BYTES_MAX: usize = 8 << 20;

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The id of this member.
    pub id: NodeId,
    /// A follower campaigns after this many ticks without a message from a leader, or up to twice
    /// as many.
    pub election_ticks: u64,
    /// The ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u64,
    /// The most bytes of entries in one append message. A single entry may be larger.
    pub append_bytes_max: usize,
    /// The most bytes of committed entries in one [`crate::Ready`]. A single entry may be larger.
    pub committed_bytes_max: usize,
    /// The most bytes of applied entries that are kept in memory.
    pub log_window_bytes_max: usize,
    /// The most append messages in flight to one member.
    pub inflight_max: usize,
    /// The most log writes in flight. While there are as many, [`crate::Ready`] has no entries, and
    /// new entries are gathered for the next write.
    pub writes_max: usize,
    /// The seed of the election timeouts. Members need different seeds.
    pub seed: u64,
}

impl Config {
    /// etcd's settings, with one log write at a time.
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

    pub(crate) fn validate(&self) -> Result<(), Error> {
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
            return bad("inflight_max and writes_max must be greater than 0");
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
}
