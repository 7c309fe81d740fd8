//! What the threads share: the current moment, which readers clone, and the way to the core.
//!
//! **Invariant:** no answer leaves before the moment that contains what it tells is current.

use crate::core_loop::CoreInput;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::running::Options;
use proto::answer::Origin;
use proto::{Index, NodeId};
use state::Published;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

/// One moment of the member, as readers see it.
#[derive(Clone, Debug)]
pub struct Current {
    /// What is replicated.
    pub published: Arc<Published>,
    /// The raft term.
    pub term: u64,
    /// The leader, or nobody.
    pub leader: NodeId,
    /// How far the log is committed.
    pub commit: Index,
    /// Reading this moment is a linearizable read.
    pub is_linearizable: bool,
    /// What the machines hold in memory.
    pub held: Held,
}

/// What the machines hold in memory, in bytes, and how much waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Applied and not yet in the file.
    pub overlay_bytes: usize,
    /// Entries of the log.
    pub log_bytes: usize,
    /// Proposals and questions without an answer.
    pub waiting: usize,
}

/// Who this member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: NodeId,
}

/// What one worker shares with the others; aligned, so that what one counts slows no other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerGauges {
    /// It has watchers, and wants events.
    pub(crate) wants_events: AtomicBool,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Ranges answered from views.
    pub(crate) ranges: AtomicU64,
    /// Bytes of messages from clients.
    pub(crate) received_bytes: AtomicU64,
    /// Bytes of messages to clients.
    pub(crate) sent_bytes: AtomicU64,
    /// Its watchers; written by itself alone.
    pub(crate) watch: WatchGauges,
}

/// What a worker's shard of watchers held when it last had something to do.
#[derive(Debug, Default)]
pub(crate) struct WatchGauges {
    watchers: AtomicUsize,
    slow_watchers: AtomicUsize,
    pending_events: AtomicU64,
    sent_events: AtomicU64,
}

impl WatchGauges {
    pub(crate) fn set(&self, stats: &watch::Stats) {
        self.watchers.store(stats.watchers, Ordering::Relaxed);
        self.slow_watchers.store(stats.slow_watchers, Ordering::Relaxed);
        self.pending_events.store(stats.pending_events, Ordering::Relaxed);
        self.sent_events.store(stats.sent_events, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, stats: &mut watch::Stats) {
        stats.watchers += self.watchers.load(Ordering::Relaxed);
        stats.slow_watchers += self.slow_watchers.load(Ordering::Relaxed);
        stats.pending_events += self.pending_events.load(Ordering::Relaxed);
        stats.sent_events += self.sent_events.load(Ordering::Relaxed);
    }
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    current: RwLock<Arc<Current>>,
    core: Sender<CoreInput>,
    next_id: AtomicU64,
    identity: Identity,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: Vec<WorkerGauges>,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        current: Current,
        core: Sender<CoreInput>,
        options: &Options,
    ) -> Shared {
        Shared {
            current: RwLock::new(Arc::new(current)),
            core,
            next_id: AtomicU64::new(first_id(identity.member, options.unix_ms)),
            identity,
            metrics: Arc::clone(&options.metrics),
            workers: (0..options.workers).map(|_| WorkerGauges::default()).collect(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn origin(&self, current: &Current) -> Origin {
        let Identity { cluster, member } = self.identity;
        Origin { cluster_id: cluster, member_id: member.0, raft_term: current.term }
    }

    /// The lock is held only to clone, so that nothing can panic under it.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, current: Current) {
        let current = Arc::new(current);
        let old = {
            let mut slot = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, current)
        };
        // Freed outside of the lock: the last holder of a view may have much to free.
        drop(old);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn send(&self, input: CoreInput) -> Result<(), Error> {
        self.core.send(input).map_err(|_| Error::Stopped)
    }
}

/// The low 16 bits of the member's id above 48 bits that count on from the time of the start, so
/// that ids are not given twice, by other members or before a restart.
///
/// Source: etcd v3.7 pkg/idutil/id.go.
fn first_id(member: NodeId, unix_ms: u64) -> u64 {
    let suffix = ((unix_ms & ((1 << 40) - 1)) << 8) + 1;
    (member.0 << 48) | suffix
}
