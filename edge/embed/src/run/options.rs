//! Conversion of the configuration into the options of the layers below.

use super::failure::StartFailure;
use super::records::CallRecords;
use crate::audit::AuditLog;
use crate::config::{Config, VersionUpgrade};
use crate::corruption::CheckTimes;
use crate::forwarding::AtPeerUrls;
use crate::initial::{self, Members};
use crate::others;
use crate::traces::TraceExport;
use executor::{BootOptions, Booted, Founding, LogSizes};
use peer::{Dialer, TransportOptions};
use server::metrics::Metrics;
use server::{Options, RetentionLimits, Tuning};
use state::quota::Quota;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vfs::{RealDisk, UnsyncedDisk, Vfs};

/// A compaction batch is divided into this many slices, spread evenly over its interval, so that a
/// request waits for at most one slice.
const COMPACTION_PARTS: u32 = 10;

/// The largest database that is received from another member, as etcd's limit: 1 TiB.
const DATABASE_BYTES_MAX: u64 = 1 << 40;

/// Where the write-ahead log is.
pub(super) fn wal_dir(config: &Config) -> PathBuf {
    let own = config.member.wal_dir.clone();
    own.unwrap_or_else(|| config.member.data_dir.join("member").join("wal"))
}

/// The disk, which syncs files unless the configuration says otherwise.
pub(super) fn disk(config: &Config) -> Arc<dyn Vfs> {
    if config.member.storage.syncs_files {
        return Arc::new(RealDisk);
    }
    tracing::warn!(
        "--unsafe-no-fsync is set: files are not synced, and a crash of the machine loses or damages \
         data"
    );
    Arc::new(UnsyncedDisk::new(Arc::new(RealDisk)))
}

/// Whether this member has a log already.
pub(super) fn has_data(disk: &Arc<dyn Vfs>, config: &Config) -> Result<bool, StartFailure> {
    wal::exists(&**disk, &wal_dir(config)).map_err(StartFailure::Log)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn quota(config: &Config) -> Quota {
    // The flag's own value: 0 is the default, a negative one no limit.
    Quota::from_flag(match config.limits.quota_bytes {
        Some(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        None => -1,
    })
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn strings(urls: &[net::Url]) -> Vec<String> {
    urls.iter().map(net::Url::to_string).collect()
}

/// The attributes that the member publishes.
pub(super) fn attributes(config: &Config) -> cluster::Attributes {
    cluster::Attributes {
        name: config.member.name.clone(),
        client_urls: strings(&config.urls.advertise_client),
    }
}

pub(super) fn boot(config: &Config, founding: Option<Founding>) -> BootOptions {
    let member = &config.member;
    let attributes = attributes(config);
    let (ticks, tick_ms) = (member.election_ticks(), member.tick_ms);
    BootOptions {
        data_dir: member.data_dir.clone(),
        wal_dir: member.wal_dir.clone(),
        founding,
        attributes: attributes.clone(),
        cache_bytes: to_usize(config.limits.backend_cache_bytes),
        election_ticks: ticks,
        pre_vote: config.bootstrap.pre_vote,
        raise_cluster_version: match config.version_upgrade {
            VersionUpgrade::ByOrigin => None,
            VersionUpgrade::Auto => Some(true),
            VersionUpgrade::Manual => Some(false),
        },
        settings: state::Settings {
            member: proto::NodeId::NONE,
            quota: quota(config),
            snapshot_count: member.snapshot_count,
            compaction_slice: config.commits.compaction_batch.div_ceil(COMPACTION_PARTS as usize),
            lease_ttl_s_min: lease::ttl_s_min(ticks, tick_ms),
            lease_extend_ms: ticks.saturating_mul(tick_ms),
            lease_checkpoints: state::LeaseCheckpoints {
                propose: config.gates.enabled("LeaseCheckpoint"),
                persist: config.gates.enabled("LeaseCheckpointPersist"),
            },
            bcrypt_cost: config.member.auth.bcrypt_cost,
            learners_max: config.limits.learners_max,
            raise_cluster_version: true,
            downgrade_check_ms: u64::try_from(config.checks.downgrade.as_millis())
                .unwrap_or(u64::MAX),
            attributes,
        },
        seed: seed(),
        log_sizes: LogSizes::default(),
        forces_new_cluster: config.bootstrap.forces_new_cluster,
    }
}

/// The seed of the member's random numbers: differs between starts and between members.
fn seed() -> u64 {
    let nanos = u64::try_from(now().as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    nanos ^ (u64::from(std::process::id()) << 32)
}

pub(super) fn server(config: &Config, metrics: &Arc<Metrics>, dialer: &Dialer) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Options {
        workers: cores,
        tuning: Tuning {
            tick: Duration::from_millis(config.member.tick_ms),
            slice_interval: config.commits.compaction_interval / COMPACTION_PARTS,
            auto_compaction: config.commits.auto_compaction,
            slow_apply: config.notices.slow_apply,
            batch_interval: config.commits.interval,
            batch_limit: config.commits.batches_max,
        },
        retention: RetentionLimits {
            catch_up_entries: config.member.snapshot_catchup_entries,
            snapshots_max: to_usize(config.member.max_snapshots),
            segments_max: to_usize(config.member.max_wals),
        },
        limits: server::Limits {
            request_bytes_max: to_usize(config.limits.max_request_bytes),
            request_time_max: config.member.request_timeout(),
            progress_interval: config.notices.watch_progress,
            watchers: config.limits.watchers,
            quota: quota(config),
            strict_reconfiguration: config.limits.strict_reconfiguration,
            election: Duration::from_millis(config.member.election_ms),
            slow_read: config.notices.slow_apply,
            prefers_revocations: config.gates.enabled("PriorityRequest"),
        },
        token_ttl: config.member.auth.token_ttl,
        unix_ms: u64::try_from(now().as_millis()).unwrap_or(0),
        metrics: Arc::clone(metrics),
        forwarding: Arc::new(AtPeerUrls(dialer.clone())),
    }
}

/// When the data of the members is compared.
pub(super) fn check_times(config: &Config) -> CheckTimes {
    let compacts = config.gates.enabled("CompactHashCheck");
    CheckTimes {
        all: Some(config.checks.corruption).filter(|every| !every.is_zero()),
        compacted: compacts.then_some(config.checks.compact_hash),
        answer_max: config.member.request_timeout(),
    }
}

/// The options of the transport between members.
pub(super) fn transport(
    config: &Config,
    booted: &Booted,
    disk: &Arc<dyn Vfs>,
    metrics: &Arc<Metrics>,
    dialer: &Dialer,
) -> TransportOptions {
    TransportOptions {
        member: booted.metadata.node,
        cluster: booted.metadata.cluster,
        version: booted.announced_version,
        peer_urls: strings(&config.urls.advertise_peer),
        dialer: dialer.clone(),
        read_time_max: config.urls.peer_read,
        write_time_max: config.urls.peer_write,
        request_bytes_max: to_usize(config.limits.max_request_bytes),
        database_bytes_max: DATABASE_BYTES_MAX,
        disk: Arc::clone(disk),
        snap_dir: booted.snap_dir.clone(),
        metrics: Arc::clone(metrics),
    }
}

/// How this member begins. The flags for it are ignored once there is data, unless a first start
/// ended before it wrote anything.
pub(super) fn founding(
    config: &Config,
    has_data: bool,
    dialer: &Dialer,
) -> Result<(Option<Members>, Option<Founding>), StartFailure> {
    let (name, token) = (&config.member.name, &config.bootstrap.token);
    let is_new = config.bootstrap.new_cluster;
    if has_data {
        let members = initial::members(config).ok().filter(|_| is_new);
        let founding = members.map(|members| others::found_again(name, &members, token));
        return Ok((None, founding));
    }
    let members = initial::members(config)?;
    let founding = if is_new {
        others::found(name, &members, token, dialer)?
    } else {
        others::join(name, &members, config.limits.learners_max, dialer)?
    };
    Ok((Some(members), Some(founding)))
}

pub(super) fn api_limits(config: &Config, records: &CallRecords) -> api::Limits {
    let keepalive = config.keepalive;
    api::Limits {
        request_bytes_max: to_usize(config.limits.max_request_bytes),
        txn_ops_max: to_usize(config.limits.max_txn_ops),
        streams_max: config.limits.max_concurrent_streams,
        no_leader_max: Duration::from_millis(config.member.election_ms.saturating_mul(3)),
        pings: (!keepalive.interval.is_zero() && !keepalive.timeout.is_zero())
            .then_some((keepalive.interval, keepalive.timeout)),
        slow_request: config.notices.slow_request,
        http: config.urls.http.clone(),
        audit: records.audit.as_ref().map(AuditLog::sink),
        tracer: records.traces.as_ref().map(TraceExport::tracer),
    }
}

/// Sets the metrics that do not change.
pub(super) fn describe(config: &Config, metrics: &Metrics) {
    let identity = &metrics.identity;
    identity.server_version.with_label_values(&[crate::help::ETCD_VERSION]).set(1);
    identity.go_version.with_label_values(&["none"]).set(1);
    for (name, stage, on) in config.gates.all() {
        identity.feature_enabled.with_label_values(&[name, stage.label()]).set(i64::from(on));
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes")]
    identity.quota.set(config.limits.quota_bytes.map_or(0.0, |bytes| bytes as f64));
    let cache = i64::try_from(config.limits.backend_cache_bytes).unwrap_or(i64::MAX);
    metrics.memory.page_cache_limit.set(cache);
    let watchers = i64::try_from(config.limits.watchers.total).unwrap_or(i64::MAX);
    metrics.store.watch.watchers_limit.set(watchers);
    let overlay = i64::try_from(backend::Overlay::LIMIT).unwrap_or(i64::MAX);
    metrics.memory.overlay_limit.set(overlay);
}
