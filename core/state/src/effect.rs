//! The effects of a state.

use crate::alarms::Alarms;
use crate::reject::Reject;
use auth::{AuthStore, Denied, TokenChange};
use backend::Batch;
use bytes::Bytes;
use cluster::Cluster;
use mvcc::{EventBatch, View};
use proto::answer::Answer;
use proto::etcdserverpb::InternalRaftRequest;
use proto::{ConfChange, ConfState, EntryId, Index, LeaseId};
use std::sync::Arc;

/// An action for the caller of [`State::step`](crate::State::step). Effects are in order.
#[derive(Debug)]
pub enum Effect {
    /// Write this batch to the file, after those before it.
    Commit(Arc<Batch>),
    /// These tokens of clients have become valid or invalid. Comes before the view that contains
    /// the cause is published.
    Tokens(Vec<TokenChange>),
    /// Readers see this from now on.
    Publish(Box<Published>),
    /// Events for watchers, in order.
    Events(Vec<Arc<EventBatch>>),
    /// The result of the request with this id, which another member may have proposed.
    Answer(u64, Result<Answer, Reject>),
    /// The reply to the question with this id.
    Reply(u64, Reply),
    /// Propose this request of the member itself. No client waits for its answer.
    Propose(Box<InternalRaftRequest>, Proposer),
    /// Tell raft the outcome of a configuration change: the change, or `None` if it was rejected.
    ConfChanged(Option<ConfChange>),
    /// Everything up to this index is applied.
    Applied(Index),
    /// Save a .snap file as soon as the file holds its index.
    Snapshot(Snapshot),
}

/// Who makes a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposer {
    /// Any member, whoever leads.
    Member,
    /// The leader. The proposal is void once this member no longer leads in this term.
    Leader,
}

/// The reply to a [`Question`](crate::Question).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The lease was renewed.
    KeptAlive {
        /// Its TTL in seconds.
        ttl_s: i64,
    },
    /// The remaining time of a lease.
    TimeToLive {
        /// The granted TTL in seconds.
        granted_ttl_s: i64,
        /// The remaining time, in seconds.
        remaining_s: i64,
        /// Its keys in byte order, if they were asked for.
        keys: Vec<Bytes>,
    },
    /// All leases, in order of expiry.
    Leases(Vec<LeaseId>),
    /// There is no such lease.
    NoLease,
    /// This member does not lead, and only the leader knows.
    NotLeader,
    /// The lease has expired, and the CORRUPT alarm forbids its revocation.
    Corrupt,
    /// The caller has no permission.
    Denied(Denied),
}

/// The state that readers see, at one moment.
#[derive(Clone, Debug)]
pub struct Published {
    /// The keys.
    pub view: View,
    /// The last applied entry.
    pub applied: EntryId,
    /// The active alarms.
    pub alarms: Alarms,
    /// The members and the cluster version; shared until either changes.
    pub cluster: Arc<Cluster>,
    /// The permissions.
    pub auth: Arc<AuthStore>,
    /// Sums over everything applied since the start.
    pub totals: Totals,
}

/// Sums over everything applied since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations.
    pub ops: mvcc::Ops,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Versions dropped by compactions.
    pub dropped: u64,
    /// Finished compactions.
    pub compactions: u64,
    /// Revoked leases that had expired at this member.
    pub expired_leases: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, ops: mvcc::Ops) {
        self.ops.ranges += ops.ranges;
        self.ops.puts += ops.puts;
        self.ops.deletes += ops.deletes;
        self.ops.put_bytes += ops.put_bytes;
        self.txns += u64::from(ops.ranges + ops.puts + ops.deletes > 1);
    }
}

/// The content of a .snap file. It may be written as soon as the backend is durable up to its
/// index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub id: EntryId,
    /// The configuration at that entry.
    pub conf_state: ConfState,
    /// The v2 tree at that entry, as JSON.
    pub data: Bytes,
}
