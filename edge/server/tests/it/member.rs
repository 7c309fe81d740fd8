//! How the tests start a member.

use executor::BootOptions;
use server::metrics::Metrics;
use server::{
    Connections, Forwarding, Limits, NoForwarding, NoPeers, Options, RetentionLimits, Running,
    Tuning, WatcherLimits,
};
use state::quota::Quota;
use std::sync::Arc;
use std::time::Duration;
use vfs::Vfs;

/// Starts a quick member: ticks of a millisecond, and no quota.
pub(crate) fn start(
    vfs: Arc<dyn Vfs>,
    workers: usize,
    request_time_max: Duration,
    connections: Arc<dyn Connections>,
) -> Running {
    let booted = BootOptions::simulated(1);
    let around = (connections, Arc::new(NoForwarding) as Arc<dyn Forwarding>);
    start_with(vfs, workers, request_time_max, &booted, around)
}

/// As [`start`], with these options of the boot, and this way to the leader.
pub(crate) fn start_with(
    vfs: Arc<dyn Vfs>,
    workers: usize,
    request_time_max: Duration,
    boot: &BootOptions,
    (connections, forwarding): (Arc<dyn Connections>, Arc<dyn Forwarding>),
) -> Running {
    let booted = server::boot(&vfs, boot).unwrap();
    let options = Options {
        workers,
        tuning: Tuning {
            tick: Duration::from_millis(1),
            slice_interval: Duration::from_millis(1),
            auto_compaction: executor::AutoCompaction::Off,
            slow_apply: Duration::from_secs(1),
            batch_interval: Duration::from_millis(1),
            batch_limit: 10,
        },
        retention: RetentionLimits { catch_up_entries: 100, snapshots_max: 1, segments_max: 1 },
        limits: Limits {
            request_bytes_max: 1 << 20,
            request_time_max,
            progress_interval: Duration::from_secs(600),
            watchers: WatcherLimits { stream: 100, connection: 100, total: 100 },
            quota: Quota::from_flag(-1),
            strict_reconfiguration: true,
            election: Duration::from_millis(10),
            slow_read: Duration::from_secs(1),
            prefers_revocations: false,
        },
        token_ttl: Duration::from_secs(300),
        unix_ms: 1,
        metrics: Arc::new(Metrics::new(false)),
        forwarding,
    };
    server::start(vfs, booted, options, connections, Arc::new(NoPeers)).unwrap()
}
