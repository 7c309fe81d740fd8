//! The table of the server's flags. It drives the command line, the environment, the configuration
//! file, `--help`, the defaults, and the refusal of flags that are not implemented.
//!
//! Source of names, kinds and defaults: etcd server/etcdmain/{config,help}.go and
//! server/embed/config.go @ v3.7.1.

use crate::value::Kind;

/// Whether a flag is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// Implemented.
    Yes,
    /// The server refuses to start with any value but the default; the error names this capability.
    No(&'static str),
    /// Accepted without effect; a log line gives this reason.
    NoEffect(&'static str),
}

/// The section of `--help` that lists a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The member itself.
    Member,
    /// The cluster.
    Clustering,
    /// TLS and CORS.
    Security,
    /// Authentication.
    Auth,
    /// Profiles and metrics.
    Monitoring,
    /// Logs.
    Logging,
    /// Traces.
    Tracing,
    /// Tuning.
    Features,
    /// Options that can lose data.
    Unsafe,
    /// Options that etcd does not have.
    Retcd,
    /// Not in `--help`.
    Hidden,
}

/// The groups of `--help` with their titles, in order.
pub const GROUPS: [(Group, &str); 10] = [
    (Group::Member, "Member"),
    (Group::Clustering, "Clustering"),
    (Group::Security, "Security"),
    (Group::Auth, "Auth"),
    (Group::Monitoring, "Profiling and Monitoring"),
    (Group::Logging, "Logging"),
    (Group::Tracing, "Distributed tracing"),
    (Group::Features, "Features"),
    (Group::Unsafe, "Unsafe features"),
    (Group::Retcd, "Not in etcd"),
];

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// The default as text.
    pub default: &'static str,
    /// Whether it is implemented.
    pub built: Built,
    /// Its section of `--help`.
    pub group: Group,
    /// One or two sentences for `--help`.
    pub help: &'static str,
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Names of very old versions that are accepted and ignored, as in etcd.
pub const IGNORED: [&str; 15] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

/// Flags that log a deprecation when they are given.
pub const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

const IN_PROCESS: Built = Built::NoEffect("the JSON gateway calls the server without a connection");
const YES: Built = Built::Yes;

const V2_STAGES: &[&str] = &["gone", "write-only", "write-only-drop-data", "write-only-skip-check"];
const DEFAULT_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

macro_rules! flags {
    ($($group:ident { $($name:literal $kind:expr, $default:expr, $built:expr, $help:literal;)* })*) => {
        /// Every flag but the ignored ones.
        pub const FLAGS: &[Flag] = &[$($(Flag {
            name: $name,
            kind: $kind,
            default: $default,
            built: $built,
            group: Group::$group,
            help: $help,
        },)*)*];
    };
}

flags! {
    Member {
        "name" Kind::Text, "default", YES, "The human-readable name of this member.";
        "data-dir" Kind::Text, "", YES, "The data directory; ${name}.etcd if not given.";
        "wal-dir" Kind::Text, "", YES, "A dedicated directory for the write-ahead log; in the data directory if not given.";
        "snapshot-count" Kind::Uint, "10000", YES, "Applied entries after which a snapshot is taken and log files are released.";
        "heartbeat-interval" Kind::Uint, "100", YES, "Milliseconds between heartbeats.";
        "election-timeout" Kind::Uint, "1000", YES, "Milliseconds without a leader until an election.";
        "initial-election-tick-advance" Kind::Bool, "true", Built::NoEffect("a member that is alone elects itself at once"), "Hold the first election sooner after a start.";
        "listen-peer-urls" Kind::Urls, "http://localhost:2380", YES, "URLs to listen on for other members.";
        "listen-client-urls" Kind::Urls, "http://localhost:2379", YES, "URLs to listen on for clients: gRPC and HTTP on one port.";
        "listen-client-http-urls" Kind::Urls, "", YES, "URLs to listen on for HTTP alone: JSON, health, metrics. --listen-client-urls then serve gRPC alone.";
        "max-snapshots" Kind::Uint, "5", YES, "Snapshot files to keep; 0 keeps all. Deprecated in 3.6.";
        "max-wals" Kind::Uint, "5", YES, "Log files to keep; 0 keeps all.";
        "memory-mlock" Kind::Bool, "false", YES, "Lock the memory of the process, with the cache of database pages, so that it is never swapped out.";
        "quota-backend-bytes" Kind::Int, "0", YES, "The size that the database may reach, in bytes; then only reads and deletes are served. 0 means 2 GiB, a negative number no limit.";
        "backend-bbolt-freelist-type" Kind::Text, "map", Built::NoEffect("this server has its own freelist"), "The type of the freelist of a Go server: array or map.";
        "backend-batch-interval" Kind::Duration, "0s", YES, "The maximum time between commits of the database; 0 means 100ms.";
        "backend-batch-limit" Kind::Int, "0", YES, "The maximum number of batches in one commit of the database; 0 means 10000.";
        "max-txn-ops" Kind::Uint, "128", YES, "The maximum number of operations in one transaction.";
        "max-request-bytes" Kind::Uint, "1572864", YES, "The maximum size of a request, in bytes.";
        "max-concurrent-streams" Kind::Uint32, "4294967295", YES, "The maximum number of concurrent streams on one connection.";
        "grpc-keepalive-min-time" Kind::Duration, "5s", Built::NoEffect("clients may ping as often as they like"), "The shortest time between pings of one client.";
        "grpc-keepalive-interval" Kind::Duration, "2h", YES, "The time without traffic after which the server pings a client; 0 for never.";
        "grpc-keepalive-timeout" Kind::Duration, "20s", YES, "The time limit of the response to a ping; 0 for no pings.";
        "socket-reuse-port" Kind::Bool, "false", YES, "Set SO_REUSEPORT: a port that is in use can be listened on.";
        "socket-reuse-address" Kind::Bool, "false", YES, "Set SO_REUSEADDR: an address in TIME_WAIT can be listened on.";
        "enable-grpc-gateway" Kind::Bool, "true", YES, "Serve the API as JSON under /v3.";
        "raft-read-timeout" Kind::Duration, "5s", YES, "Time limit for reading from a peer; at least 5s.";
        "raft-write-timeout" Kind::Duration, "5s", YES, "Time limit for writing to a peer; at least 5s.";
        "feature-gates" Kind::Gates, "", YES, "Features to turn on or off: A=true,B=false.";
        "config-file" Kind::Text, "", YES, "A YAML file with the configuration. All other flags and the environment are then ignored.";
    }
    Clustering {
        "initial-advertise-peer-urls" Kind::Urls, "http://localhost:2380", YES, "This member's URLs for other members.";
        "initial-cluster" Kind::Text, "", YES, "The members to begin with: name=url,name=url. Follows --name if not given.";
        "initial-cluster-state" Kind::Choice(&["new", "existing"]), "new", YES, "new for a new cluster, existing to join one. Ignored once there is data.";
        "initial-cluster-token" Kind::Text, "etcd-cluster", YES, "A token that makes the ids of a cluster and its members unique.";
        "advertise-client-urls" Kind::Urls, "http://localhost:2379", YES, "This member's URLs for clients. Needed when --listen-client-urls is given.";
        "discovery-endpoints" Kind::UniqueWords, "", YES, "Endpoints of the discovery service.";
        "discovery-token" Kind::Text, "", YES, "The token of the cluster to discover.";
        "discovery-dial-timeout" Kind::Duration, "2s", YES, "Time limit for connecting to the discovery service.";
        "discovery-request-timeout" Kind::Duration, "5s", YES, "Time limit of a request to the discovery service.";
        "discovery-keepalive-time" Kind::Duration, "2s", YES, "Time between pings to the discovery service.";
        "discovery-keepalive-timeout" Kind::Duration, "6s", YES, "Time limit for the answer to such a ping.";
        "discovery-insecure-transport" Kind::Bool, "true", YES, "Talk to the discovery service without TLS.";
        "discovery-insecure-skip-tls-verify" Kind::Bool, "false", YES, "Do not verify the discovery service.";
        "discovery-cert" Kind::Text, "", YES, "The client certificate for discovery.";
        "discovery-key" Kind::Text, "", YES, "The client key for discovery.";
        "discovery-cacert" Kind::Text, "", YES, "The authorities for discovery.";
        "discovery-user" Kind::Text, "", YES, "The user for discovery, name or name:password.";
        "discovery-password" Kind::Text, "", YES, "The password for discovery.";
        "discovery-fallback" Kind::Choice(&["exit", "proxy"]), "exit", YES, "What to do when discovery fails: exit.";
        "discovery-srv" Kind::Text, "", YES, "The DNS domain whose SRV records name the cluster.";
        "discovery-srv-name" Kind::Text, "", YES, "A suffix to the name in the SRV records.";
        "strict-reconfig-check" Kind::Bool, "true", YES, "Refuse changes of members that would lose the quorum.";
        "pre-vote" Kind::Bool, "true", YES, "Ask for votes before raising the term.";
        "max-learners" Kind::Int, "1", YES, "Learners that the cluster may have. Must be the same for all members.";
        "auto-compaction-retention" Kind::Text, "0", YES, "What automatic compaction keeps: a time or a number of revisions; 0 turns it off.";
        "auto-compaction-mode" Kind::Text, "periodic", YES, "periodic: --auto-compaction-retention is a time, in hours without a unit; revision: a number of revisions.";
        "v2-deprecation" Kind::Choices(V2_STAGES), "write-only", YES, "Ignored: the v2 store is kept as it is. Deprecated.";
    }
    Security {
        "cert-file" Kind::Text, "", YES, "The server's certificate for clients.";
        "key-file" Kind::Text, "", YES, "The server's key for clients.";
        "client-cert-file" Kind::Text, "", IN_PROCESS, "The certificate of this server as a client.";
        "client-key-file" Kind::Text, "", IN_PROCESS, "The key of this server as a client.";
        "client-cert-auth" Kind::Bool, "false", YES, "Ask clients for certificates.";
        "client-crl-file" Kind::Text, "", YES, "Client certificates that are revoked.";
        "client-cert-allowed-hostname" Kind::Words, "", YES, "Host names that a client's certificate may have.";
        "trusted-ca-file" Kind::Text, "", YES, "The authorities for clients' certificates.";
        "auto-tls" Kind::Bool, "false", YES, "Make a certificate for clients.";
        "peer-cert-file" Kind::Text, "", YES, "The server's certificate for peers.";
        "peer-key-file" Kind::Text, "", YES, "The server's key for peers.";
        "peer-client-cert-file" Kind::Text, "", YES, "The certificate of this server when it calls peers.";
        "peer-client-key-file" Kind::Text, "", YES, "The key of this server when it calls peers.";
        "peer-client-cert-auth" Kind::Bool, "false", YES, "Ask peers for certificates.";
        "peer-crl-file" Kind::Text, "", YES, "Peer certificates that are revoked.";
        "peer-cert-allowed-cn" Kind::Words, "", YES, "Common names that a peer's certificate may have.";
        "peer-cert-allowed-hostname" Kind::Words, "", YES, "Host names that a peer's certificate may have.";
        "peer-trusted-ca-file" Kind::Text, "", YES, "The authorities for peers' certificates.";
        "peer-auto-tls" Kind::Bool, "false", YES, "Make a certificate for peers.";
        "peer-skip-client-san-verification" Kind::Bool, "false", YES, "Do not compare a peer's address with its certificate.";
        "self-signed-cert-validity" Kind::Uint, "1", YES, "Years that a made certificate lasts.";
        "cipher-suites" Kind::Words, "", YES, "Cipher suites to allow.";
        "tls-min-version" Kind::Text, "TLS1.2", YES, "The lowest version: TLS1.2 or TLS1.3.";
        "tls-max-version" Kind::Text, "", YES, "The highest version: TLS1.2 or TLS1.3.";
        "cors" Kind::UrlsOrStar, "*", YES, "Origins whose pages may read the answers of plain HTTP; * for all.";
        "host-whitelist" Kind::UniqueWords, "*", YES, "Host names that plain HTTP requests may carry; * for all.";
    }
    Auth {
        "auth-token" Kind::Text, "simple", YES, "The kind of token: simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m with any of RS, PS and ES 256, 384 and 512, HS256 to HS512, and EdDSA. HS methods have one secret, in priv-key; without priv-key, others only verify tokens. Changed key files are read again.";
        "bcrypt-cost" Kind::Uint, "10", YES, "The cost of hashing a password, 4 to 31.";
        "auth-token-ttl" Kind::Uint, "300", YES, "Seconds that a simple token lasts after its last use.";
    }
    Monitoring {
        "enable-pprof" Kind::Bool, "false", YES, "Serve CPU profiles under /debug/pprof/ of the client URLs. The log level debug turns it on, too.";
        "metrics" Kind::Text, "basic", YES, "basic, or extensive to measure the duration of gRPC calls too.";
        "listen-metrics-urls" Kind::Urls, "", YES, "URLs to listen on for /metrics and the health checks alone.";
    }
    Logging {
        "logger" Kind::Text, "zap", YES, "zap: structured lines with zap's field names.";
        "log-outputs" Kind::UniqueWords, "default", YES, "stderr, stdout or files, comma separated, or systemd/journal alone. default means stderr.";
        "log-level" Kind::Text, "info", YES, "debug, info, warn, error, panic or fatal.";
        "log-format" Kind::Text, "json", YES, "json or console.";
        "enable-log-rotation" Kind::Bool, "false", YES, "Rename the log file when it is full, and begin a new one. Needs one file in --log-outputs.";
        "log-rotation-config-json" Kind::Text, DEFAULT_ROTATION, YES, "When a log file is full (maxsize, in MB), and which renamed files are kept (maxage in days, maxbackups; 0 for all), with the local time in their names (localtime) or compressed (compress).";
        "warning-unary-request-duration" Kind::Duration, "300ms", YES, "A request that takes longer than this is logged.";
    }
    Tracing {
        "enable-distributed-tracing" Kind::Bool, "false", YES, "Send spans of gRPC calls to an OpenTelemetry collector, by OTLP over gRPC without TLS.";
        "distributed-tracing-address" Kind::Text, "localhost:4317", YES, "The host and port of the collector.";
        "distributed-tracing-service-name" Kind::Text, "etcd", YES, "The service's name in traces.";
        "distributed-tracing-instance-id" Kind::Text, "", YES, "This server's id in traces.";
        "distributed-tracing-sampling-rate" Kind::Int, "0", YES, "How many of a million traces that begin here are sent; a client's own trace decides for itself.";
    }
    Features {
        "corrupt-check-time" Kind::Duration, "0s", YES, "Time between comparisons of the members' data; 0 for never.";
        "compact-hash-check-time" Kind::Duration, "1m", YES, "Time between comparisons of compacted data, with feature gate CompactHashCheck.";
        "compaction-batch-limit" Kind::Int, "1000", YES, "The number of revisions that a compaction removes in each interval.";
        "compaction-sleep-interval" Kind::Duration, "10ms", YES, "The interval of the batches of a compaction.";
        "watch-progress-notify-interval" Kind::Duration, "10m", YES, "Time between progress notifications of a watch.";
        "warning-apply-duration" Kind::Duration, "100ms", YES, "Applying an entry that takes longer than this is logged.";
        "bootstrap-defrag-threshold-megabytes" Kind::Uint, "0", YES, "Defragment the database at the start if that frees this many MiB; 0 for never.";
        "snapshot-catchup-entries" Kind::Uint, "5000", YES, "Entries that stay in the log for slow followers.";
        "downgrade-check-time" Kind::Duration, "5s", YES, "Time between checks of whether a downgrade is complete; 0 for never.";
    }
    Unsafe {
        "force-new-cluster" Kind::Bool, "false", YES, "Start a cluster of one member with the data of this member.";
        "unsafe-no-fsync" Kind::Bool, "false", YES, "Do not sync files to disk. A crash of the machine loses data.";
    }
    Retcd {
        "cluster-version-upgrade" Kind::Choice(&["", "auto", "manual"]), "", YES, "Whether the cluster's version is raised to this server's: auto or manual. If not given, auto for a cluster that this server created and manual for older data, so that the way back stays open.";
        "auto-promote-learners" Kind::Bool, "false", YES, "While this member leads, make each learner a voter as soon as its log is in sync and the change is safe.";
        "backend-cache-bytes" Kind::Uint, "8388608", YES, "The size of the cache of database pages, in bytes.";
        "max-watchers-per-stream" Kind::Uint, "100000", YES, "Watchers on one stream; 0 for no limit. A further one is refused with 'etcdserver: too many requests'.";
        "max-watchers-per-connection" Kind::Uint, "250000", YES, "Watchers on all streams of one connection; 0 for no limit.";
        "client-cert-allowed-cn" Kind::Words, "", YES, "Common names that a client's certificate may have; in etcd only the configuration file can set them.";
        "audit-log" Kind::Text, "", YES, "The file of the audit log: a line of JSON for each call of a client, with its user, address, keys and result. If not given, none is written.";
        "audit-log-max-bytes" Kind::Uint, "104857600", YES, "The size at which the audit log gets the time into its name, as the log does, and a new file is begun.";
        "audit-log-max-files" Kind::Uint, "10", YES, "How many renamed files of the audit log are kept.";
        "max-requests-per-user" Kind::Uint, "0", YES, "Requests in progress of one user at this member; 0 for no limit. A further one is refused with ResourceExhausted.";
        "max-request-bytes-per-user" Kind::Uint, "0", YES, "Bytes of the requests in progress of one user at this member; 0 for no limit. A further request is refused with ResourceExhausted.";
        "max-watches-per-user" Kind::Uint, "0", YES, "Open watches of one user at this member; 0 for no limit. A further one is not created.";
        "max-watchers" Kind::Uint, "1000000", YES, "Watchers on all connections of this member; 0 for no limit.";
    }
    Hidden {
        "version" Kind::Bool, "false", YES, "Print the version and exit.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_default_can_be_read_and_no_name_stands_twice() {
        let mut names = BTreeSet::new();
        for flag in FLAGS {
            assert!(names.insert(flag.name), "{} stands twice", flag.name);
            flag.kind.parse(flag.default).unwrap_or_else(|e| panic!("{}: {e}", flag.name));
            assert!(flag.help.ends_with('.'), "{}", flag.name);
        }
        for (name, _) in DEPRECATED {
            assert!(names.contains(name));
        }
        assert!(IGNORED.iter().all(|name| !names.contains(name)));
    }

    /// The list has the flags that `etcd --help` prints in 3.7.1, except for two that it refuses.
    #[test]
    fn all_of_etcds_flags_are_known() {
        let theirs = include_str!("../testdata/etcd-3.7.1-flags.txt");
        let mut count = 0;
        for name in theirs.split_whitespace() {
            assert!(find(name).is_some() || IGNORED.contains(&name), "{name}");
            count += 1;
        }
        assert_eq!(count, 113, "the list is whole");
    }
}
