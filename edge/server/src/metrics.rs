//! Every metric at `/metrics`. Names, types, labels and buckets are etcd's, since dashboards and
//! alerts depend on them. A few `retcd_` metrics are added, mainly for memory that has a limit.
//!
//! Not here: the HTTP endpoint (`net`). Handles are resolved once, so that a request costs an
//! atomic addition and no look-up by label.
//!
//! Source: the metrics of etcd v3.7.1 as its `/metrics` lists them.

pub mod grpc;
mod ops;
mod process;
#[cfg(test)]
mod tests;

pub(crate) use ops::CLIENT_VERSIONS_MAX;
pub use ops::{ClientRequests, OpHistogram};

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// Buckets for latencies: 14 buckets from 1 ms, each twice the one before.
const LATENCY: Exponential = Exponential(0.001, 2.0, 14);

/// The start, factor and number of a histogram's buckets.
struct Exponential(f64, f64, usize);

impl From<Exponential> for Vec<f64> {
    fn from(e: Exponential) -> Self {
        exponential_buckets(e.0, e.1, e.2).expect("constants: a positive start, a factor above 1")
    }
}

/// Builds a metric from a table row. `Extra` is the buckets of a histogram, or the label names of a
/// vector.
trait Build<Extra>: Clone + prometheus::core::Collector + 'static {
    fn build(name: &str, help: &str, extra: Extra) -> prometheus::Result<Self>;
}

macro_rules! build_plain {
    ($($kind:ty),*) => {$(
        impl Build<()> for $kind {
            fn build(name: &str, help: &str, (): ()) -> prometheus::Result<Self> {
                Self::new(name, help)
            }
        }
    )*};
}
macro_rules! build_vector {
    ($($kind:ty),*) => {$(
        impl<const N: usize> Build<[&str; N]> for $kind {
            fn build(name: &str, help: &str, labels: [&str; N]) -> prometheus::Result<Self> {
                Self::new(Opts::new(name, help), &labels)
            }
        }
    )*};
}
build_plain!(IntCounter, IntGauge, Gauge);
build_vector!(IntCounterVec, IntGaugeVec, GaugeVec, CounterVec);

impl Build<Exponential> for Histogram {
    fn build(name: &str, help: &str, buckets: Exponential) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::new(name, help).buckets(buckets.into()))
    }
}

impl<const N: usize> Build<([&str; N], Exponential)> for HistogramVec {
    fn build(
        name: &str,
        help: &str,
        (labels, buckets): ([&str; N], Exponential),
    ) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::new(name, help).buckets(buckets.into()), &labels)
    }
}

/// Defines a group's struct and its registration from one table, so that they cannot differ.
macro_rules! group {
    ($(#[$doc:meta])* $group:ident { $(
        $field:ident : $kind:ident = $name:literal, $help:literal $(, $extra:expr)? ;
    )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $group { $( #[doc = $help] pub $field: $kind, )* }

        impl $group {
            fn register(registry: &Registry) -> prometheus::Result<Self> {
                Ok(Self { $( $field: {
                    let extra = group!(@extra $($extra)?);
                    let metric = <$kind as Build<_>>::build($name, $help, extra)?;
                    registry.register(Box::new(metric.clone()))?;
                    metric
                }, )* })
            }
        }
    };
    (@extra) => { () };
    (@extra $extra:expr) => { $extra };
}

group! {
    /// The member's raft state and its proposals.
    Consensus {
        has_leader: IntGauge = "etcd_server_has_leader", "1 while a leader is known, else 0.";
        is_leader: IntGauge = "etcd_server_is_leader", "1 while this member leads, else 0.";
        is_learner: IntGauge = "etcd_server_is_learner", "1 while this member is a learner, else 0.";
        leader_changes: IntCounter = "etcd_server_leader_changes_seen_total", "Changes of leader seen by this member.";
        applied: IntGauge = "etcd_server_proposals_applied_total", "The index of the last applied entry.";
        committed: IntGauge = "etcd_server_proposals_committed_total", "The index of the last committed entry.";
        pending: IntGauge = "etcd_server_proposals_pending", "Proposals that wait to be committed.";
        failed: IntCounter = "etcd_server_proposals_failed_total", "Proposals that failed.";
        heartbeat_failures: IntCounter = "etcd_server_heartbeat_send_failures_total", "Heartbeats that left too late.";
        read_indexes_slow: IntCounter = "etcd_server_slow_read_indexes_total", "Read-index rounds that were slow or timed out.";
        read_indexes_failed: IntCounter = "etcd_server_read_indexes_failed_total", "Read-index rounds that failed.";
    }
}

group! {
    /// The identity of this member: labels with the value 1.
    Identity {
        cluster_version: IntGaugeVec = "etcd_cluster_version", "1 for the label with the cluster's version.", ["cluster_version"];
        server_version: IntGaugeVec = "etcd_server_version", "1 for the label with this server's version.", ["server_version"];
        go_version: IntGaugeVec = "etcd_server_go_version", "1 for the label with the Go version, which this server does not use.", ["server_go_version"];
        server_id: IntGaugeVec = "etcd_server_id", "1 for the label with this member's id in hexadecimal.", ["server_id"];
        feature_enabled: IntGaugeVec = "etcd_server_feature_enabled", "1 for each feature gate that is on, 0 for each that is off.", ["name", "stage"];
        alarms: IntGaugeVec = "etcd_debugging_server_alarms", "1 for each alarm that is raised.", ["server_id", "alarm_type"];
        quota: Gauge = "etcd_server_quota_backend_bytes", "The size that the database may reach, in bytes.";
        auth_revision: IntGauge = "etcd_debugging_auth_revision", "The revision of the auth store.";
        learner_promotions: IntCounter = "etcd_server_learner_promote_successes", "Learners promoted while this member leads.";
        learner_promotion_failures: IntCounterVec = "etcd_server_learner_promote_failures", "Learners that could not be promoted while this member leads.", ["Reason"];
    }
}

group! {
    /// Health checks and their answers.
    Health {
        successes: IntCounter = "etcd_server_health_success", "Answers of /health that said true.";
        failures: IntCounter = "etcd_server_health_failures", "Answers of /health that said false.";
        check: IntGaugeVec = "etcd_server_healthcheck", "The last result of each check: 1 or 0.", ["type", "name"];
        checks: IntCounterVec = "etcd_server_healthchecks_total", "Results of each check.", ["type", "name", "status"];
        scrapes: IntCounterVec = "promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", ["code"];
        scrapes_in_flight: IntGauge = "promhttp_metric_handler_requests_in_flight", "Scrapes being answered.";
    }
}

group! {
    /// Applying committed entries.
    Apply {
        slow: IntCounter = "etcd_server_slow_apply_total", "Entries whose apply was slower than --warning-apply-duration.";
        snapshots_in_progress: IntGauge = "etcd_server_snapshot_apply_in_progress_total", "1 while a snapshot from a peer is applied.";
        lease_expired: IntCounter = "etcd_debugging_server_lease_expired_total", "Leases that expired.";
    }
}

group! {
    /// The key-value store.
    Mvcc {
        ranges: IntCounter = "etcd_mvcc_range_total", "Ranges seen by this member.";
        puts: IntCounter = "etcd_mvcc_put_total", "Puts seen by this member.";
        deletes: IntCounter = "etcd_mvcc_delete_total", "Deletes seen by this member.";
        txns: IntCounter = "etcd_mvcc_txn_total", "Transactions with a write seen by this member.";
        keys: IntGauge = "etcd_debugging_mvcc_keys_total", "Keys in the store.";
        put_bytes: IntGauge = "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.";
        current_revision: IntGauge = "etcd_debugging_mvcc_current_revision", "The store's revision.";
        compact_revision: IntGauge = "etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.";
        hash_seconds: Histogram = "etcd_mvcc_hash_duration_seconds", "Time of a hash of the whole file.", Exponential(0.01, 2.0, 15);
        hash_rev_seconds: Histogram = "etcd_mvcc_hash_rev_duration_seconds", "Time of a hash up to a revision.", Exponential(0.01, 2.0, 15);
    }
}

group! {
    /// Compaction of history.
    Compaction {
        keys: IntCounter = "etcd_debugging_mvcc_db_compaction_keys_total", "Revisions deleted by compactions.";
        last: Gauge = "etcd_debugging_mvcc_db_compaction_last", "When the last compaction ended, in Unix seconds; 0 after a start.";
        pause_ms: Histogram = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Time of one slice of a compaction.", Exponential(1.0, 2.0, 13);
        total_ms: Histogram = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Time of a whole compaction.", Exponential(100.0, 2.0, 14);
        index_pause_ms: Histogram = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Time of one slice of a compaction in the index.", Exponential(0.5, 2.0, 14);
    }
}

group! {
    /// Watchers and their events.
    Watch {
        events: IntCounter = "etcd_debugging_mvcc_events_total", "Events sent to watchers.";
        pending_events: IntGauge = "etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.";
        slow_watchers: IntGauge = "etcd_debugging_mvcc_slow_watcher_total", "Watchers that read history.";
        streams: IntGauge = "etcd_debugging_mvcc_watch_stream_total", "Watch streams.";
        watchers: IntGauge = "etcd_debugging_mvcc_watcher_total", "Watchers.";
        watchers_limit: IntGauge = "retcd_watchers_limit", "The watchers that there may be, --max-watchers.";
        refused: IntCounter = "retcd_watchers_refused_total", "Watchers refused because there were too many on a stream, on a connection or in all.";
        send_control: Histogram = "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Time to send a control answer.", LATENCY;
        send_progress: Histogram = "etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Time to send a progress notification.", LATENCY;
        send_per_event: Histogram = "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "Time to send one event, on average over an answer.", LATENCY;
        send_events: Histogram = "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Time to send an answer with events.", LATENCY;
    }
}

group! {
    /// Leases.
    Lease {
        granted: IntCounter = "etcd_debugging_lease_granted_total", "Leases granted.";
        revoked: IntCounter = "etcd_debugging_lease_revoked_total", "Leases revoked.";
        renewed: IntCounter = "etcd_debugging_lease_renewed_total", "Leases renewed by this member.";
        ttl: Histogram = "etcd_debugging_lease_ttl_total", "TTLs of granted leases, in seconds.", Exponential(1.0, 2.0, 24);
    }
}

group! {
    /// The write-ahead log and the files of snapshots.
    Log {
        fsync: Histogram = "etcd_disk_wal_fsync_duration_seconds", "Time of a sync of the WAL.", LATENCY;
        reads: IntCounter = "retcd_wal_reads_total", "Pieces of the WAL read for members that are behind.";
        write: Histogram = "etcd_disk_wal_write_duration_seconds", "Time of a write to the WAL.", LATENCY;
        written_bytes: IntGauge = "etcd_disk_wal_write_bytes_total", "Bytes written to the WAL.";
        snap_marshal: Histogram = "etcd_debugging_snap_save_marshalling_duration_seconds", "Time to encode a .snap file.", LATENCY;
        snap_save: Histogram = "etcd_debugging_snap_save_total_duration_seconds", "Time to save a .snap file.", LATENCY;
        snap_fsync: Histogram = "etcd_snap_fsync_duration_seconds", "Time of a sync of a .snap file.", LATENCY;
        snap_db_fsync: Histogram = "etcd_snap_db_fsync_duration_seconds", "Time of a sync of a .snap.db file.", LATENCY;
        snap_db_save: Histogram = "etcd_snap_db_save_total_duration_seconds", "Time to save a database sent by a peer.", Exponential(0.1, 2.0, 10);
    }
}

group! {
    /// The database file.
    Backend {
        commit: Histogram = "etcd_disk_backend_commit_duration_seconds", "Time of a commit.", LATENCY;
        rebalance: Histogram = "etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Time of a commit spent on merging pages.", LATENCY;
        spill: Histogram = "etcd_debugging_disk_backend_commit_spill_duration_seconds", "Time of a commit spent on splitting pages.", LATENCY;
        write: Histogram = "etcd_debugging_disk_backend_commit_write_duration_seconds", "Time of a commit spent on writing.", LATENCY;
        defrag: Histogram = "etcd_disk_backend_defrag_duration_seconds", "Time of a defragmentation.", Exponential(0.1, 2.0, 13);
        snapshot: Histogram = "etcd_disk_backend_snapshot_duration_seconds", "Time of sending the database.", Exponential(0.01, 2.0, 17);
        defrag_inflight: IntGauge = "etcd_disk_defrag_inflight", "1 while a defragmentation runs.";
        size: IntGauge = "etcd_mvcc_db_total_size_in_bytes", "Size of the database file.";
        size_in_use: IntGauge = "etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the database's used pages.";
        open_views: IntGauge = "etcd_mvcc_db_open_read_transactions", "Open views of the database.";
    }
}

group! {
    /// Bytes and streams of clients, and the state of connections to peers.
    Network {
        task_panics: IntCounter = "retcd_task_panics_total", "Tasks of connections and calls that panicked.";
        tls_rejected: IntCounter = "retcd_tls_rejected_connections_total", "Connections that were not opened because their TLS handshake failed.";
        tls_failed_reloads: IntCounter = "retcd_tls_failed_reloads_total", "Changed files with certificates, keys, authorities or revocations that were not valid.";
        client_received: IntCounter = "etcd_network_client_grpc_received_bytes_total", "Bytes received from gRPC clients.";
        client_sent: IntCounter = "etcd_network_client_grpc_sent_bytes_total", "Bytes sent to gRPC clients.";
        refused: IntCounterVec = "retcd_http2_requests_refused_total", "Requests that did not become calls: too many streams, too many headers, or malformed ones.", ["cause"];
        closed: IntCounterVec = "retcd_http2_connections_closed_total", "Connections closed because the client broke a rule of HTTP/2, by the code that it was told.", ["code"];
        stream_failures: IntCounterVec = "etcd_network_server_stream_failures_total", "Streams that failed at this member.", ["Type", "API"];
        known_peers: IntGaugeVec = "etcd_network_known_peers", "1 for each known member.", ["Local", "Remote"];
        active_peers: IntGaugeVec = "etcd_network_active_peers", "1 for each connected peer.", ["Local", "Remote"];
        disconnected_peers: IntCounterVec = "etcd_network_disconnected_peers_total", "Connections to peers that were lost.", ["Local", "Remote"];
    }
}

group! {
    /// Messages between members.
    Peers {
        sent_bytes: IntCounterVec = "etcd_network_peer_sent_bytes_total", "Bytes sent to each peer.", ["To"];
        received_bytes: IntCounterVec = "etcd_network_peer_received_bytes_total", "Bytes received from each peer.", ["From"];
        sent_failures: IntCounterVec = "etcd_network_peer_sent_failures_total", "Messages that could not be sent to each peer.", ["To"];
        received_failures: IntCounterVec = "etcd_network_peer_received_failures_total", "Messages of each peer that could not be read.", ["From"];
        round_trip_seconds: HistogramVec = "etcd_network_peer_round_trip_time_seconds", "Time of a probe of each peer.", (["To"], Exponential(0.0001, 2.0, 16));
    }
}

group! {
    /// Databases sent between members.
    PeerSnapshots {
        send_success: IntCounterVec = "etcd_network_snapshot_send_success", "Snapshots sent to each peer.", ["To"];
        send_failures: IntCounterVec = "etcd_network_snapshot_send_failures", "Snapshots that could not be sent to each peer.", ["To"];
        send_inflight: IntGaugeVec = "etcd_network_snapshot_send_inflights_total", "Snapshots on their way to each peer.", ["To"];
        send_seconds: HistogramVec = "etcd_network_snapshot_send_total_duration_seconds", "Time to send a snapshot to each peer.", (["To"], Exponential(0.1, 2.0, 10));
        receive_success: IntCounterVec = "etcd_network_snapshot_receive_success", "Snapshots received from each peer.", ["From"];
        receive_failures: IntCounterVec = "etcd_network_snapshot_receive_failures", "Snapshots of each peer that could not be received.", ["From"];
        receive_inflight: IntGaugeVec = "etcd_network_snapshot_receive_inflights_total", "Snapshots on their way from each peer.", ["From"];
        receive_seconds: HistogramVec = "etcd_network_snapshot_receive_total_duration_seconds", "Time to receive a snapshot of each peer.", (["From"], Exponential(0.1, 2.0, 10));
    }
}

group! {
    /// The v2 store. We do not have it; the metrics are always 0, since etcd's server shows them.
    Legacy {
        v2_expires: IntCounter = "etcd_debugging_store_expires_total", "v2 keys that expired.";
        v2_watch_requests: IntCounter = "etcd_debugging_store_watch_requests_total", "v2 watch requests.";
        v2_watchers: IntGauge = "etcd_debugging_store_watchers", "v2 watchers.";
    }
}

group! {
    /// The gRPC proxy. As in etcd, a server shows them, too, with the value 0.
    GrpcProxy {
        cache_hits: IntGauge = "etcd_grpc_proxy_cache_hits_total", "Reads that the gRPC proxy answered from its cache.";
        cache_keys: IntGauge = "etcd_grpc_proxy_cache_keys_total", "Responses in the cache of the gRPC proxy.";
        cache_misses: IntGauge = "etcd_grpc_proxy_cache_misses_total", "Serializable reads of the gRPC proxy that were not in its cache.";
        events_coalescing: IntCounter = "etcd_grpc_proxy_events_coalescing_total", "Responses of watches that the gRPC proxy did not have to ask a server for.";
        watchers_coalescing: IntGauge = "etcd_grpc_proxy_watchers_coalescing_total", "Watchers of the gRPC proxy that share the watch of another one.";
    }
}

group! {
    /// Tokens, certificates, the audit log and limits of users. The names are our own.
    Security {
        jwt_failed_reloads: IntCounter = "retcd_jwt_failed_reloads_total", "Changed key files of JSON Web Tokens that were not valid.";
        certificate_expiry: IntGaugeVec = "retcd_tls_certificate_expiry_seconds", "Seconds until the certificate of a port expires, or the first of its issuers in the same file; negative after that.", ["port"];
        over_limit: IntCounterVec = "retcd_user_limit_refusals_total", "Requests and watches that were refused because their user has too many, or too many bytes of requests.", ["what"];
        audit_written: IntCounter = "retcd_audit_lines_written_total", "Lines written to the audit log.";
        audit_dropped: IntCounter = "retcd_audit_lines_dropped_total", "Lines that are missing in the audit log: the queue was full, or the file could not be written.";
    }
}

group! {
    /// The export of traces. The names are our own.
    Traces {
        sent: IntCounter = "retcd_trace_spans_sent_total", "Spans that the collector of traces has accepted.";
        dropped: IntCounter = "retcd_trace_spans_dropped_total", "Spans that were not sent: the queue was full, or the collector did not accept them.";
    }
}

group! {
    /// Memory that has a limit, in bytes. The names are our own.
    Memory {
        page_cache: IntGauge = "retcd_page_cache_bytes", "Bytes in the page cache.";
        page_cache_limit: IntGauge = "retcd_page_cache_limit_bytes", "The limit of the page cache.";
        overlay: IntGauge = "retcd_overlay_bytes", "Bytes applied and not yet committed to the database.";
        overlay_limit: IntGauge = "retcd_overlay_limit_bytes", "The limit of the overlay.";
        raft_log: IntGauge = "retcd_raft_log_bytes", "Bytes of raft entries in memory.";
        raft_log_limit: IntGauge = "retcd_raft_log_limit_bytes", "The limit of raft entries in memory.";
        watch_queues: IntGauge = "retcd_watch_queues_bytes", "Bytes of events that wait in streams.";
    }
}

/// Every metric of one server. It cannot be cloned: share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Raft's side.
    pub raft: RaftMetrics,
    /// The identity of this member.
    pub identity: Identity,
    /// Health checks.
    pub health: Health,
    /// Requests: durations by kind, counts by client version.
    pub requests: Requests,
    /// The store, its watchers and leases.
    pub store: StoreMetrics,
    /// The log and the database.
    pub disk: Disk,
    /// Bytes and streams.
    pub network: Network,
    /// The rows of each gRPC method.
    pub grpc: grpc::Table,
    /// Limits of memory.
    pub memory: Memory,
    /// Tokens, certificates, the audit log and limits of users.
    pub security: Security,
    process: process::Process,
}

/// The metrics of raft and apply.
#[derive(Debug)]
pub struct RaftMetrics {
    /// Raft's state and proposals.
    pub consensus: Consensus,
    /// Apply.
    pub apply: Apply,
    /// Messages between members.
    pub peers: Peers,
    /// Databases between members.
    pub peer_snapshots: PeerSnapshots,
}

/// The metrics of the store, its compactions, watchers and leases.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Keys and revisions.
    pub mvcc: Mvcc,
    /// Compactions.
    pub compaction: Compaction,
    /// Watchers.
    pub watch: Watch,
    /// Leases.
    pub lease: Lease,
    /// Rows of the v2 store, which stay at 0.
    pub legacy: Legacy,
    /// The gRPC proxy.
    pub proxy: GrpcProxy,
}

/// The log and the database.
#[derive(Debug)]
pub struct Disk {
    /// WAL and snapshots.
    pub log: Log,
    /// The database.
    pub backend: Backend,
}

/// Durations of requests by kind and result, and their traces.
#[derive(Debug)]
pub struct Requests {
    /// From the proposal to the answer; `etcd_server_request_duration_seconds`.
    pub total: OpHistogram,
    /// Inside apply; `etcd_server_apply_duration_seconds`.
    pub apply: OpHistogram,
    /// A range's reading; `etcd_server_range_duration_seconds`.
    pub range: OpHistogram,
    /// Requests by kind and the client's version; `etcd_server_client_requests_total`.
    pub clients: ClientRequests,
    /// The export of traces.
    pub traces: Traces,
}

impl Metrics {
    /// Creates all metrics at 0, in a registry of their own. With `extensive`, includes gRPC
    /// durations.
    ///
    /// # Panics
    /// If a table above contains a name twice, which every test would show.
    pub fn new(extensive: bool) -> Self {
        Self::build(extensive).expect("names and buckets are constants and unique")
    }

    fn build(extensive: bool) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            raft: RaftMetrics {
                consensus: Consensus::register(r)?,
                apply: Apply::register(r)?,
                peers: Peers::register(r)?,
                peer_snapshots: PeerSnapshots::register(r)?,
            },
            identity: Identity::register(r)?,
            health: Health::register(r)?,
            requests: Requests {
                total: OpHistogram::request(r)?,
                apply: OpHistogram::apply(r)?,
                range: OpHistogram::range(r)?,
                clients: ClientRequests::register(r)?,
                traces: Traces::register(r)?,
            },
            store: StoreMetrics {
                mvcc: Mvcc::register(r)?,
                compaction: Compaction::register(r)?,
                watch: Watch::register(r)?,
                lease: Lease::register(r)?,
                legacy: Legacy::register(r)?,
                proxy: GrpcProxy::register(r)?,
            },
            disk: Disk { log: Log::register(r)?, backend: Backend::register(r)? },
            network: Network::register(r)?,
            grpc: grpc::Table::register(r, extensive)?,
            memory: Memory::register(r)?,
            security: Security::register(r)?,
            process: process::Process::register(r)?,
            registry,
        };
        metrics.health.scrapes.with_label_values(&["200"]).inc_by(0);
        metrics.health.scrapes.with_label_values(&["500"]).inc_by(0);
        metrics.health.scrapes.with_label_values(&["503"]).inc_by(0);
        for cause in ["streams", "headers", "malformed"] {
            metrics.network.refused.with_label_values(&[cause]).inc_by(0);
        }
        for code in ["ENHANCE_YOUR_CALM", "PROTOCOL_ERROR"] {
            metrics.network.closed.with_label_values(&[code]).inc_by(0);
        }
        for what in ["requests", "bytes", "watches"] {
            metrics.security.over_limit.with_label_values(&[what]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Raises a counter to a total that is counted elsewhere.
    pub fn raise(counter: &IntCounter, total: u64) {
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// The text of `/metrics`, in the Prometheus text format 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        self.health.scrapes_in_flight.inc();
        self.process.refresh();
        let mut text = Vec::with_capacity(256 * 1024);
        let written = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        self.health.scrapes_in_flight.dec();
        let code = if written.is_ok() { "200" } else { "500" };
        self.health.scrapes.with_label_values(&[code]).inc();
        with_bounds_of_go(text)
    }
}

/// Writes the upper bounds of buckets from a million on as Go does, since they are labels.
fn with_bounds_of_go(text: Vec<u8>) -> Vec<u8> {
    let text = match String::from_utf8(text) {
        Ok(text) => text,
        Err(error) => return error.into_bytes(),
    };
    let mut parts = text.split("le=\"");
    let mut out = String::with_capacity(text.len());
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str("le=\"");
        let (bound, rest) = part.split_once('"').unwrap_or((part, ""));
        match bound.parse::<f64>() {
            Ok(number) if (1e6..1e21).contains(&number) => out.push_str(&go_exponent(number)),
            Ok(_) | Err(_) => out.push_str(bound),
        }
        out.push('"');
        out.push_str(rest);
    }
    out.into_bytes()
}

/// A number with an exponent as Go writes it: a sign and at least two digits.
fn go_exponent(number: f64) -> String {
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}e+{exponent:0>2}")
}
