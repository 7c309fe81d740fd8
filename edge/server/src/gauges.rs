//! The counts that each worker keeps, which other threads read.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The counts of one worker. Aligned to a cache line of its own, so that workers do not slow each
/// other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerGauges {
    /// True if it has watchers, so that it needs events.
    pub(crate) wants_events: AtomicBool,
    /// Requests and queries without an answer.
    pub(crate) waiting: AtomicUsize,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Ranges answered from views.
    pub(crate) ranges: AtomicU64,
    /// Bytes of messages from clients.
    pub(crate) received_bytes: AtomicU64,
    /// Bytes of messages to clients.
    pub(crate) sent_bytes: AtomicU64,
    /// Its watchers; only the worker itself writes this.
    pub(crate) watch: WatchGauges,
}

/// The counts of a worker's shard of watchers, as of its last change.
#[derive(Debug, Default)]
pub(crate) struct WatchGauges {
    watchers: AtomicUsize,
    slow_watchers: AtomicUsize,
    pending_events: AtomicU64,
    sent_events: AtomicU64,
    refused_watchers: AtomicU64,
}

impl WatchGauges {
    pub(crate) fn set(&self, stats: &watch::Stats) {
        self.watchers.store(stats.watchers, Ordering::Relaxed);
        self.slow_watchers.store(stats.slow_watchers, Ordering::Relaxed);
        self.pending_events.store(stats.pending_events, Ordering::Relaxed);
        self.sent_events.store(stats.sent_events, Ordering::Relaxed);
        self.refused_watchers.store(stats.refused_watchers, Ordering::Relaxed);
    }

    /// The number of watchers.
    pub(crate) fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    pub(crate) fn add_to(&self, stats: &mut watch::Stats) {
        stats.watchers += self.watchers.load(Ordering::Relaxed);
        stats.slow_watchers += self.slow_watchers.load(Ordering::Relaxed);
        stats.pending_events += self.pending_events.load(Ordering::Relaxed);
        stats.sent_events += self.sent_events.load(Ordering::Relaxed);
        stats.refused_watchers += self.refused_watchers.load(Ordering::Relaxed);
    }
}
