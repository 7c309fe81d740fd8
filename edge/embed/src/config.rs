//! The validated configuration of a server, in the types that the layers below need.
//!
//! Source: etcd server/embed/config.go `Config` @ v3.7.1.

use crate::gates::Gates;
use crate::log_rotation::Rotation;
use crate::settings::Settings;
use crate::srv::Domain;
use crate::tls::{self, Tls};
use cli::duration::GoDuration;
use executor::AutoCompaction;
use net::{SocketOptions, Url};
use std::path::PathBuf;
use std::time::Duration;

/// The default quota, in bytes.
pub const DEFAULT_QUOTA: i64 = 2 * 1024 * 1024 * 1024;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member itself.
    pub member: Member,
    /// The URLs to listen on and to advertise.
    pub urls: Urls,
    /// The bootstrap of a new member.
    pub bootstrap: Bootstrap,
    /// Limits of requests and memory.
    pub limits: Limits,
    /// When the database is committed.
    pub commits: Commits,
    /// HTTP/2 pings.
    pub keepalive: Keepalive,
    /// Checks that a leader makes from time to time.
    pub checks: Checks,
    /// Intervals and thresholds of notifications.
    pub notices: Notices,
    /// Where log lines go.
    pub logging: Logging,
    /// Metrics, profiles and traces.
    pub monitoring: Monitoring,
    /// Whether the cluster's version is raised to this server's.
    pub version_upgrade: VersionUpgrade,
    /// Feature gates.
    pub gates: Gates,
}

/// The member itself.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The directory of its data.
    pub data_dir: PathBuf,
    /// The directory of the write-ahead log, when it is a dedicated one.
    pub wal_dir: Option<PathBuf>,
    /// Applied entries between snapshots.
    pub snapshot_count: u64,
    /// Entries that stay in memory after a snapshot.
    pub snapshot_catchup_entries: u64,
    /// Snapshot files to keep; 0 for all.
    pub max_snapshots: u64,
    /// Log files to keep; 0 for all.
    pub max_wals: u64,
    /// Milliseconds of a tick, which is a heartbeat.
    pub tick_ms: u64,
    /// Milliseconds without a leader until an election.
    pub election_ms: u64,
    /// Whether the first election is held sooner.
    pub initial_election_tick_advance: bool,
    /// Passwords and tokens at this member.
    pub auth: Auth,
    /// How its files and their pages in memory are treated.
    pub storage: StorageUse,
}

impl Member {
    /// Ticks of the election timeout.
    pub fn election_ticks(&self) -> u64 {
        self.election_ms / self.tick_ms
    }

    /// The time without a leader until an election.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.election_ticks().saturating_mul(self.tick_ms))
    }

    /// How long a request may take before it times out: five seconds for queues and disks, and
    /// two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout()
    }
}

/// How the files of a member and their pages in memory are treated.
#[derive(Clone, Copy, Debug)]
pub struct StorageUse {
    /// Whether files are synced. Without it, a crash of the machine loses data.
    pub syncs_files: bool,
    /// Whether the memory of the process is locked.
    pub locks_memory: bool,
    /// The free space in the database at which it is defragmented at the start, in bytes; 0 for never.
    pub defragments_from: u64,
}

/// Metrics, profiles and traces.
#[derive(Clone, Debug)]
pub struct Monitoring {
    /// Whether the time of each kind of gRPC call is measured.
    pub has_extensive_metrics: bool,
    /// Whether profiles are served.
    pub has_profiles: bool,
    /// The export of traces; `None` for none.
    pub tracing: Option<Tracing>,
}

/// The export of traces.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// The host and port of the collector.
    pub address: String,
    /// The service's name.
    pub service: String,
    /// This server's id within the service.
    pub instance: Option<String>,
    /// How many of a million traces that begin here are recorded.
    pub per_million: u32,
}

/// The URLs to listen on and to advertise.
#[derive(Clone, Debug)]
pub struct Urls {
    /// For peers.
    pub listen_peer: Vec<Url>,
    /// For clients: of gRPC, and of HTTP unless that has URLs of its own.
    pub listen_client: Vec<Url>,
    /// For clients of HTTP alone.
    pub listen_client_http: Vec<Url>,
    /// For metrics and health alone.
    pub listen_metrics: Vec<Url>,
    /// Advertised to peers.
    pub advertise_peer: Vec<Url>,
    /// Advertised to clients.
    pub advertise_client: Vec<Url>,
    /// The time without a byte after which the reader of a peer's stream closes it.
    pub peer_read: Duration,
    /// The same for its writer.
    pub peer_write: Duration,
    /// Plain HTTP on the clients' URLs.
    pub http: api::HttpOptions,
    /// Options of the listening sockets.
    pub sockets: SocketOptions,
    /// TLS at the URLs.
    pub tls: Tls,
}

/// The bootstrap of a new member. Once there is data, all fields but `forces_new_cluster` and
/// `pre_vote` are ignored.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `name=url,…` as given, or made of the name and the advertised URLs.
    pub initial_cluster: String,
    /// Whether the cluster is new.
    pub new_cluster: bool,
    /// Whether a member with data goes on as the only one of its cluster.
    pub forces_new_cluster: bool,
    /// Part of the ids' hash.
    pub token: String,
    /// Whether a member asks whether it would be elected before it campaigns.
    pub pre_vote: bool,
    /// Where the members are found, unless `initial_cluster` names them.
    pub discovery: Discovery,
}

/// Where the members of a new cluster are found.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// In `--initial-cluster`.
    Off,
    /// In the SRV records of a domain.
    Srv(Domain),
    /// At a discovery service.
    Service(Box<DiscoveryService>),
}

/// A discovery service, and the place of a cluster in it.
#[derive(Clone, Debug)]
pub struct DiscoveryService {
    /// The token of the cluster.
    pub token: String,
    /// How the service is reached.
    pub client: client::Config,
    /// The time limit of a request.
    pub request_timeout: Duration,
}

/// Limits of requests and memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The database's size at which writes are refused, in bytes; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// The quota as it was given: 0 for the default, a negative number for no limit.
    pub quota_given: i64,
    /// Operations in a transaction.
    pub max_txn_ops: u64,
    /// Bytes of a request.
    pub max_request_bytes: u64,
    /// Streams on a connection.
    pub max_concurrent_streams: u32,
    /// Bytes of the page cache.
    pub backend_cache_bytes: u64,
    /// Watchers.
    pub watchers: server::WatcherLimits,
    /// Requests and watches of each user.
    pub users: api::UserLimits,
    /// Learners of the cluster.
    pub learners_max: usize,
    /// Whether a leader makes a learner that is in sync a voter.
    pub promotes_learners: bool,
    /// Whether a change of the members that would lose the quorum is refused.
    pub strict_reconfiguration: bool,
}

/// Passwords and tokens.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The kind of tokens.
    pub tokens: api::TokenKind,
    /// How long a simple token is valid after its last use.
    pub token_ttl: Duration,
    /// The cost of hashing a password.
    pub bcrypt_cost: u32,
    /// The cost that was given, for which the default stands if bcrypt does not permit it.
    pub bcrypt_cost_given: u64,
}

/// When the database is committed, and compacted.
#[derive(Clone, Copy, Debug)]
pub struct Commits {
    /// The longest time between two commits.
    pub interval: Duration,
    /// The maximal number of batches in one commit.
    pub batches_max: usize,
    /// Revisions that a compaction goes through in each interval.
    pub compaction_batch: usize,
    /// The interval.
    pub compaction_interval: Duration,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
}

/// Checks that a leader makes from time to time.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// The time between two comparisons of the members' data; zero for never.
    pub corruption: Duration,
    /// The time between two comparisons of compacted data.
    pub compact_hash: Duration,
    /// The time between two checks of whether a downgrade is complete; zero for never.
    pub downgrade: Duration,
}

/// HTTP/2 pings.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Time between the server's pings; zero for none.
    pub interval: Duration,
    /// Time for the answer; zero for no pings.
    pub timeout: Duration,
}

/// Intervals and thresholds of notifications.
#[derive(Clone, Copy, Debug)]
pub struct Notices {
    /// The interval of progress notifications to watches without events.
    pub watch_progress: Duration,
    /// An apply that takes longer is logged.
    pub slow_apply: Duration,
    /// A unary request that takes longer is logged.
    pub slow_request: Duration,
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub struct Logging {
    /// `stderr`, `stdout`, `systemd/journal`, or paths.
    pub outputs: Vec<String>,
    /// The lowest level that is written.
    pub level: String,
    /// `json` or `console`.
    pub format: String,
    /// When the file is renamed; `None` for never.
    pub rotation: Option<Rotation>,
    /// The audit log; `None` for none.
    pub audit: Option<AuditFile>,
}

/// The file of the audit log.
#[derive(Clone, Debug)]
pub struct AuditFile {
    /// The file.
    pub path: PathBuf,
    /// When it is renamed, and how many renamed files are kept.
    pub rules: Rotation,
}

impl AuditFile {
    /// A file of so many bytes, of which so many renamed ones are kept, with UTC in their names.
    #[must_use]
    pub fn new(path: PathBuf, bytes_max: u64, files_max: usize) -> AuditFile {
        let backups_max = Some(files_max);
        let rules =
            Rotation { bytes_max, days_max: 0, backups_max, local_time: false, compress: false };
        AuditFile { path, rules }
    }
}

/// `--cluster-version-upgrade`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionUpgrade {
    /// Auto for a cluster that this server created, manual for older data.
    ByOrigin,
    /// Raise it.
    Auto,
    /// Leave it.
    Manual,
}

impl Config {
    /// Converts settings that the validation has accepted.
    pub(crate) fn from_settings(
        s: &Settings,
        logging: Logging,
        auto_compaction: AutoCompaction,
    ) -> Self {
        let member = member(s);
        Self {
            urls: urls(s),
            bootstrap: Bootstrap {
                initial_cluster: s.text("initial-cluster"),
                new_cluster: s.text("initial-cluster-state") == "new",
                forces_new_cluster: s.bool("force-new-cluster"),
                token: s.text("initial-cluster-token"),
                pre_vote: s.bool("pre-vote"),
                discovery: discovery(s),
            },
            limits: limits(s),
            commits: Commits {
                interval: or(s.duration("backend-batch-interval"), 100),
                batches_max: positive(s.int("backend-batch-limit"), 10_000),
                compaction_batch: positive(s.int("compaction-batch-limit"), 1_000),
                compaction_interval: or(s.duration("compaction-sleep-interval"), 10),
                auto_compaction,
            },
            keepalive: Keepalive {
                interval: s.duration("grpc-keepalive-interval").to_std(),
                timeout: s.duration("grpc-keepalive-timeout").to_std(),
            },
            checks: Checks {
                corruption: s.duration("corrupt-check-time").to_std(),
                compact_hash: s.duration("compact-hash-check-time").to_std(),
                downgrade: s.duration("downgrade-check-time").to_std(),
            },
            notices: Notices {
                watch_progress: or(s.duration("watch-progress-notify-interval"), 600_000),
                slow_apply: s.duration("warning-apply-duration").to_std(),
                slow_request: or(s.duration("warning-unary-request-duration"), 300),
            },
            monitoring: Monitoring {
                has_extensive_metrics: s.text("metrics") == "extensive",
                // As in etcd, the level `debug` turns them on, too.
                has_profiles: s.bool("enable-pprof") || logging.level == "debug",
                tracing: tracing(s),
            },
            logging,
            version_upgrade: match s.text("cluster-version-upgrade").as_str() {
                "auto" => VersionUpgrade::Auto,
                "manual" => VersionUpgrade::Manual,
                _ => VersionUpgrade::ByOrigin,
            },
            gates: Gates::parse(&s.text("feature-gates")).unwrap_or_default(),
            member,
        }
    }
}

/// A duration of 0 means its default.
fn or(duration: GoDuration, default_ms: u64) -> Duration {
    if duration.0 <= 0 { Duration::from_millis(default_ms) } else { duration.to_std() }
}

/// A number of 0 or less means its default.
fn positive(given: i64, default: usize) -> usize {
    usize::try_from(given).ok().filter(|n| *n > 0).unwrap_or(default)
}

/// A number, or its default instead of 0.
fn non_zero(s: &Settings, name: &str, default: u64) -> u64 {
    match s.uint(name) {
        0 => default,
        given => given,
    }
}

fn discovery(s: &Settings) -> Discovery {
    let (domain, endpoints) = (s.text("discovery-srv"), s.words("discovery-endpoints"));
    if !domain.is_empty() {
        return Discovery::Srv(Domain { name: domain, suffix: s.text("discovery-srv-name") });
    }
    if endpoints.is_empty() {
        return Discovery::Off;
    }
    let file = |name: &str| Some(s.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (pair, trusted_ca) =
        (file("discovery-cert").zip(file("discovery-key")), file("discovery-cacert"));
    let skips_verification = s.bool("discovery-insecure-skip-tls-verify");
    let is_secure = pair.is_some()
        || trusted_ca.is_some()
        || skips_verification
        || !s.bool("discovery-insecure-transport");
    let tls = client::TlsOptions {
        pair: pair.map(|(cert, key)| client::KeyPair { cert, key }),
        trusted_ca,
        skips_verification,
        ..client::TlsOptions::default()
    };
    let client = client::Config {
        tls: is_secure.then_some(tls),
        dial_timeout: s.duration("discovery-dial-timeout").to_std(),
        keep_alive_time: s.duration("discovery-keepalive-time").to_std(),
        keep_alive_timeout: s.duration("discovery-keepalive-timeout").to_std(),
        user: discovery_user(s),
        ..client::Config::new(endpoints)
    };
    let request_timeout = s.duration("discovery-request-timeout").to_std();
    let token = s.text("discovery-token");
    Discovery::Service(Box::new(DiscoveryService { token, client, request_timeout }))
}

/// The user at the discovery service, with the password.
pub(crate) fn discovery_user(s: &Settings) -> Option<(String, String)> {
    let (user, password) = (s.text("discovery-user"), s.text("discovery-password"));
    if password.is_empty() {
        let (name, password) = user.split_once(':')?;
        return Some((name.to_owned(), password.to_owned()));
    }
    (!user.is_empty()).then_some((user, password))
}

fn member(s: &Settings) -> Member {
    let wal_dir = s.text("wal-dir");
    Member {
        name: s.text("name"),
        data_dir: s.text("data-dir").into(),
        wal_dir: (!wal_dir.is_empty()).then(|| wal_dir.into()),
        snapshot_count: non_zero(s, "snapshot-count", 10_000),
        snapshot_catchup_entries: non_zero(s, "snapshot-catchup-entries", 5_000),
        max_snapshots: s.uint("max-snapshots"),
        max_wals: s.uint("max-wals"),
        tick_ms: s.uint("heartbeat-interval"),
        election_ms: s.uint("election-timeout"),
        initial_election_tick_advance: s.bool("initial-election-tick-advance"),
        auth: Auth {
            // Set by the validation.
            tokens: api::TokenKind::Simple,
            token_ttl: Duration::from_secs(non_zero(s, "auth-token-ttl", 300)),
            bcrypt_cost: api::bcrypt_cost(s.uint("bcrypt-cost")),
            bcrypt_cost_given: s.uint("bcrypt-cost"),
        },
        storage: StorageUse {
            syncs_files: !s.bool("unsafe-no-fsync"),
            locks_memory: s.bool("memory-mlock"),
            defragments_from: s
                .uint("bootstrap-defrag-threshold-megabytes")
                .saturating_mul(1024 * 1024),
        },
    }
}

fn urls(s: &Settings) -> Urls {
    // On the command line, `--listen-client-urls` without advertised URLs removes the default of
    // those.
    let unset = s.file.is_none()
        && s.is_given("listen-client-urls")
        && !s.is_given("advertise-client-urls");
    // An empty list stands for the default.
    let listed = |name: &str| {
        let urls = s.urls(name);
        if urls.is_empty() { Settings::default().urls(name) } else { urls }
    };
    Urls {
        listen_peer: listed("listen-peer-urls"),
        listen_client: listed("listen-client-urls"),
        listen_client_http: s.urls("listen-client-http-urls"),
        listen_metrics: s.urls("listen-metrics-urls"),
        advertise_peer: listed("initial-advertise-peer-urls"),
        advertise_client: if unset { Vec::new() } else { listed("advertise-client-urls") },
        peer_read: s.duration("raft-read-timeout").to_std().max(peer::STREAM_TIME_MIN),
        peer_write: s.duration("raft-write-timeout").to_std().max(peer::STREAM_TIME_MIN),
        http: api::HttpOptions {
            gateway: s.bool("enable-grpc-gateway"),
            origins: s.words("cors"),
            hosts: s.words("host-whitelist"),
        },
        sockets: SocketOptions {
            reuse_port: s.bool("socket-reuse-port"),
            reuse_address: s.bool("socket-reuse-address"),
        },
        tls: tls::from_settings(s),
    }
}

/// A number of things, of which 0 means no limit.
fn count_limit(s: &Settings, flag: &str) -> usize {
    match usize::try_from(s.uint(flag)) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(count) => count,
    }
}

fn limits(s: &Settings) -> Limits {
    let quota = s.int("quota-backend-bytes");
    Limits {
        quota_bytes: match quota {
            0 => u64::try_from(DEFAULT_QUOTA).ok(),
            given => u64::try_from(given).ok(),
        },
        quota_given: quota,
        max_txn_ops: s.uint("max-txn-ops"),
        max_request_bytes: s.uint("max-request-bytes"),
        max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        backend_cache_bytes: s.uint("backend-cache-bytes"),
        watchers: server::WatcherLimits {
            stream: count_limit(s, "max-watchers-per-stream"),
            connection: count_limit(s, "max-watchers-per-connection"),
            total: count_limit(s, "max-watchers"),
        },
        users: api::UserLimits {
            requests: count_limit(s, "max-requests-per-user"),
            bytes: count_limit(s, "max-request-bytes-per-user"),
            watches: count_limit(s, "max-watches-per-user"),
        },
        learners_max: usize::try_from(s.int("max-learners")).unwrap_or(0),
        promotes_learners: s.bool("auto-promote-learners"),
        strict_reconfiguration: s.bool("strict-reconfig-check"),
    }
}

fn tracing(s: &Settings) -> Option<Tracing> {
    let text = |name| Some(s.text(name)).filter(|text| !text.is_empty());
    s.bool("enable-distributed-tracing").then(|| Tracing {
        address: s.text("distributed-tracing-address"),
        service: s.text("distributed-tracing-service-name"),
        instance: text("distributed-tracing-instance-id"),
        per_million: u32::try_from(s.int("distributed-tracing-sampling-rate")).unwrap_or(0),
    })
}

/// The settings of the log, without its rotation.
pub(crate) fn logging(s: &Settings) -> Logging {
    let outputs = s.words("log-outputs");
    Logging {
        outputs: if outputs.is_empty() { vec!["default".to_owned()] } else { outputs },
        level: s.text("log-level"),
        format: match s.text("log-format") {
            none if none.is_empty() => "json".to_owned(),
            given => given,
        },
        audit: Some(s.text("audit-log")).filter(|path| !path.is_empty()).map(|path| {
            let files_max = usize::try_from(s.uint("audit-log-max-files")).unwrap_or(usize::MAX);
            AuditFile::new(path.into(), s.uint("audit-log-max-bytes"), files_max)
        }),
        rotation: None,
    }
}
