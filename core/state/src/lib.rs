//! The replicated half of a member: what a committed entry does to keys, leases, alarms and
//! membership, and what watchers and readers are told of it. It reads its own store inside
//! [`State::step`]; there is no consensus here (see `member`), no file, thread or clock.
//!
//! - **Invariant:** the applied index goes into the same batch as the changes of its entry.
//! - **Invariant:** no answer is an effect before the view that contains what it tells.
//! - **Invariant:** what an entry does depends on the entries before it and on nothing else, so
//!   that members agree; only an answer of "no space" is a member's own.
//!
//! Reading order: [`Input`] and [`Effect`] here, then `apply`, `kv`, `txn`.

#![forbid(unsafe_code)]

pub mod alarms;
mod apply;
mod failure;
mod guard;
mod kv;
mod leader;
mod leases;
mod membership;
mod open;
#[cfg(test)]
mod permission_tests;
pub mod quota;
pub mod range;
mod reject;
mod snapshot;
pub mod txn;
mod waiters;

pub use failure::{Fatal, ReadError};
pub use guard::GuardedTxn;
pub use open::Log;
pub use reject::Reject;
pub use snapshot::Snapshot;

use alarms::Alarms;
use auth::{AuthStore, Caller};
use backend::{Batch, Bucket, Overlay};
use bytes::Bytes;
use cluster::{Attributes, Cluster, Member, StorageVersion};
use leader::Leadership;
use lease::Lessor;
use mvcc::{EventBatch, Slice, Store, View};
use proto::answer::Answer;
use proto::etcdserverpb::InternalRaftRequest;
use proto::{ConfChange, Entry, EntryId, Index, LeaseId, NodeId, Term};
use quota::Quota;
use std::sync::Arc;
use waiters::Waiters;

/// What a state is set to do. Those that entries depend on must be equal on all members.
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
    /// The least time to live of a lease, in seconds.
    pub lease_ttl_s_min: i64,
    /// Leases of a new leader live on for so much longer, in milliseconds: an election timeout.
    pub lease_extend_ms: u64,
    /// Checkpoints of leases.
    pub lease_checkpoints: LeaseCheckpoints,
    /// How many learners there may be.
    pub learners_max: usize,
    /// Whether a leader raises the cluster version to the server's.
    pub raise_cluster_version: bool,
    /// What this member tells of itself.
    pub attributes: Attributes,
}

/// Checkpoints of the remaining time of leases. Without them each new leader gives all leases
/// their whole time to live again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCheckpoints {
    /// Whether this member proposes them while it leads. Feature gate `LeaseCheckpoint`.
    pub propose: bool,
    /// Whether they are stored below cluster version 3.6; from 3.6 on they always are. Feature
    /// gate `LeaseCheckpointPersist`.
    pub persist: bool,
}

/// What a state is told.
#[derive(Debug)]
pub enum Input {
    /// These entries are committed; they follow each other and the last applied one.
    Apply(Vec<Entry>),
    /// Time has passed.
    Tick,
    /// There is time for a slice of housekeeping.
    Idle,
    /// The oldest batches are in this view of the file.
    BackendDurable {
        /// How many batches.
        batches: usize,
        /// The file with them.
        file: bolt::View,
    },
    /// This member leads in this term, or (none) it does not lead. What depends on leading begins
    /// when the first entry of the term is applied.
    Leads(Option<Term>),
    /// Something that needs no entry.
    Ask(u64, Question),
}

/// A question, which needs no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub caller: Caller,
    /// What is asked.
    pub query: LeaseQuery,
}

/// A question about leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuery {
    /// Lets a lease live on.
    KeepAlive(LeaseId),
    /// How long a lease lives, and which keys it has.
    TimeToLive {
        /// The lease.
        lease: LeaseId,
        /// Whether its keys are wanted.
        keys: bool,
    },
    /// Which leases exist.
    List,
}

/// The reply to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The lease lives on for this time.
    KeptAlive {
        /// In seconds.
        ttl_s: i64,
    },
    /// What is known of the lease.
    TimeToLive {
        /// What was granted, in seconds.
        granted_ttl_s: i64,
        /// What is left of it, in seconds.
        remaining_s: i64,
        /// Its keys in byte order, if they were wanted.
        keys: Vec<Bytes>,
    },
    /// The leases, the one that expires first in front.
    Leases(Vec<LeaseId>),
    /// There is no such lease.
    NoLease,
    /// Only the leader knows.
    NotLeader,
    /// The lease has expired, and the CORRUPT alarm forbids its revocation.
    Corrupt,
    /// The caller may not ask this.
    Denied(auth::Denied),
}

/// What a state wants done. Effects are in order.
#[derive(Debug)]
pub enum Effect {
    /// Bring this batch into the file, after those before it.
    Commit(Arc<Batch>),
    /// Readers see this from now on.
    Publish(Box<Published>),
    /// What watchers are to be told, in order.
    Events(Vec<Arc<EventBatch>>),
    /// The result of the request with this id; whoever waits for it may be elsewhere.
    Answer(u64, Result<Answer, Reject>),
    /// The reply to a question.
    Reply(u64, Reply),
    /// Put this into the log; nobody waits for it.
    Propose(Box<InternalRaftRequest>),
    /// Raft has to hear what a configuration change came to.
    ConfChanged(Option<ConfChange>),
    /// Everything up to here is applied.
    Applied(Index),
    /// A .snap file is due, as soon as the file holds its index.
    Snapshot(Snapshot),
}

/// What readers see: one moment of everything.
#[derive(Clone, Debug)]
pub struct Published {
    /// The keys.
    pub view: View,
    /// The last entry that was applied.
    pub applied: EntryId,
    /// The alarms in force.
    pub alarms: Alarms,
    /// The members, the cluster's version; shared as long as nothing of it changes.
    pub cluster: Arc<Cluster>,
    /// Who may read what.
    pub auth: Arc<AuthStore>,
    /// What was applied since the start.
    pub totals: Totals,
}

/// Sums over all that was applied since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations.
    pub ops: mvcc::Ops,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Versions that compactions have dropped.
    pub dropped: u64,
    /// Compactions that are done.
    pub compactions: u64,
    /// Leases that were revoked because this member found them expired.
    pub expired_leases: u64,
}

impl Totals {
    fn add(&mut self, ops: mvcc::Ops) {
        self.ops.ranges += ops.ranges;
        self.ops.puts += ops.puts;
        self.ops.deletes += ops.deletes;
        self.ops.put_bytes += ops.put_bytes;
        self.txns += u64::from(ops.ranges + ops.puts + ops.deletes > 1);
    }
}

/// What one batch came to.
#[derive(Debug, Default)]
struct Outcome {
    answers: Vec<(u64, Result<Answer, Reject>)>,
    replies: Vec<(u64, Reply)>,
    events: Vec<Arc<EventBatch>>,
}

/// What is replicated.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    totals: Totals,
    store: Store,
    overlay: Overlay,
    lessor: Lessor,
    cluster: Cluster,
    alarms: Alarms,
    auth: Arc<AuthStore>,
    v2: v2store::Store,
    storage_version: StorageVersion,
    /// The last entry whose effects are in the store.
    applied: EntryId,
    snapshot_index: Index,
    log_bytes_since_snapshot: u64,
    /// The size of the database as of the last commit, in bytes.
    backend_size: u64,
    /// What the file lacks although no entry brings it.
    pending_writes: Vec<(Bucket, Bytes, Bytes)>,
    waiters: Waiters,
    outcome: Outcome,
    published_cluster: Option<Arc<Cluster>>,
    leadership: Leadership,
}

impl State {
    /// Takes one input at a time, in milliseconds that only grow, and pushes what is to be done.
    ///
    /// # Errors
    /// When the member cannot go on.
    pub fn step(
        &mut self,
        now_ms: u64,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fatal> {
        match input {
            Input::Apply(entries) => self.apply(now_ms, entries, effects)?,
            Input::Tick => self.tick(now_ms, effects),
            Input::Idle => self.compact_on(effects),
            Input::BackendDurable { batches, file } => {
                self.backend_size = file.size();
                self.overlay.retire(batches, file);
                self.store.attach(self.overlay.view());
                self.publish(effects);
            }
            Input::Leads(term) => self.leads(now_ms, term, effects),
            Input::Ask(id, question) => self.ask(now_ms, id, question, effects),
        }
        Ok(())
    }

    /// False while so much waits for the backend that these entries have to wait too.
    #[must_use]
    pub fn has_room_for(&self, entries: &[Entry]) -> bool {
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        !self.overlay.is_full_for(bytes)
    }

    /// True if [`Input::Idle`] has something to do.
    #[must_use]
    pub fn has_housekeeping(&self) -> bool {
        self.store.is_compacting() && !self.overlay.is_full_for(0)
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// The members and versions.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Decides whether a leader raises the cluster version to the server's.
    pub fn raise_cluster_version(&mut self, raises: bool) {
        self.settings.raise_cluster_version = raises;
    }

    /// Who may do what.
    #[must_use]
    pub fn auth(&self) -> &AuthStore {
        &self.auth
    }

    /// The bytes that wait for the backend.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// What readers see at first.
    #[must_use]
    pub fn published(&mut self) -> Published {
        let cluster = match &self.published_cluster {
            Some(cluster) => Arc::clone(cluster),
            None => Arc::new(self.cluster.clone()),
        };
        self.published_cluster = Some(Arc::clone(&cluster));
        Published {
            view: self.store.view(),
            applied: self.applied,
            alarms: self.alarms.clone(),
            cluster,
            auth: Arc::clone(&self.auth),
            totals: self.totals,
        }
    }

    fn publish(&mut self, effects: &mut Vec<Effect>) {
        let published = self.published();
        effects.push(Effect::Publish(Box::new(published)));
    }

    /// Does a slice of the compaction that is under way.
    fn compact_on(&mut self, effects: &mut Vec<Effect>) {
        if !self.has_housekeeping() {
            return;
        }
        let mut batch = Batch::new(self.applied);
        let limit = self.settings.compaction_slice;
        let slice = self.store.compaction_slice(&mut batch, limit);
        if slice == Slice::More(0) {
            // Only the index has changed, and readers see no difference.
            return;
        }
        if let Slice::More(dropped) | Slice::Finished { dropped, .. } = slice {
            self.totals.dropped += dropped as u64;
        }
        if let Slice::Finished { revision, .. } = slice {
            self.totals.compactions += 1;
            let current = self.store.revision();
            let finished = self.waiters.compaction_finished(revision).into_iter();
            let answer = || Ok(Answer::Compact { revision: current });
            self.outcome.answers.extend(finished.map(|id| (id, answer())));
            tracing::info!(revision, "finished scheduled compaction");
        }
        self.finish(batch, effects);
    }

    fn put_pending_writes(&mut self, batch: &mut Batch) {
        for (bucket, key, value) in self.pending_writes.drain(..) {
            batch.put(bucket, key, value);
        }
    }

    /// Hands a batch on: to the backend, to readers, to watchers, and to who waits for answers.
    fn finish(&mut self, batch: Batch, effects: &mut Vec<Effect>) {
        let batch = Arc::new(batch);
        self.overlay.push(Arc::clone(&batch));
        self.store.attach(self.overlay.view());
        effects.push(Effect::Commit(batch));
        effects.push(Effect::Applied(self.applied.index));
        self.publish(effects);
        let outcome = std::mem::take(&mut self.outcome);
        if !outcome.events.is_empty() {
            effects.push(Effect::Events(outcome.events));
        }
        let replies = outcome.replies.into_iter();
        effects.extend(replies.map(|(id, reply)| Effect::Reply(id, reply)));
        let answers = outcome.answers.into_iter();
        effects.extend(answers.map(|(id, result)| Effect::Answer(id, result)));
    }

    /// The members as they are published.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.cluster.members()
    }
}
