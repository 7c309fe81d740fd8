//! The settings of a state.

use crate::quota::Quota;
use cluster::Attributes;
use proto::NodeId;

/// The settings of a state. Those that the effects of entries depend on must be equal on all
/// members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This member.
    pub member: NodeId,
    /// The limit of the database's size.
    pub quota: Quota,
    /// A snapshot is due when more entries than this were applied since the last one.
    pub snapshot_count: u64,
    /// How many revisions a slice of a compaction goes through.
    pub compaction_slice: usize,
    /// The minimum TTL of a lease, in seconds.
    pub lease_ttl_s_min: i64,
    /// How long a new leader extends all leases, in milliseconds: an election timeout.
    pub lease_extend_ms: u64,
    /// Checkpoints of leases.
    pub lease_checkpoints: LeaseCheckpoints,
    /// The bcrypt cost for passwords that entries of etcd 3.4 contain as plain text.
    pub bcrypt_cost: u32,
    /// The limit of learners.
    pub learners_max: usize,
    /// Whether a leader raises the cluster version to the server's.
    pub raise_cluster_version: bool,
    /// How often a leader checks whether a downgrade is complete, in milliseconds; 0 for never.
    pub downgrade_check_ms: u64,
    /// The name and client URLs that this member publishes.
    pub attributes: Attributes,
}

/// Checkpoints of the remaining time of leases. Without them, each new leader gives all leases
/// their full TTL again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCheckpoints {
    /// Whether this member proposes them while it leads. Feature gate `LeaseCheckpoint`.
    pub propose: bool,
    /// Whether they are stored below cluster version 3.6; from 3.6 on they always are. Feature
    /// gate `LeaseCheckpointPersist`.
    pub persist: bool,
}
