//! The table of commands and flags.

use cli::{Command, Flag, Kind};

const KV: &str = "Key-value commands";
const MAINTENANCE: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const AUTH: &str = "Authentication commands";
const UTILITY: &str = "Utility commands";

/// Flags that every command takes, and that `ETCDCTL_…` variables can set.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::new("auth-jwt-token", Kind::Text, "", "a token; excludes --user and --password"),
    Flag::new("cacert", Kind::Text, "", "CA certificates for TLS (not built yet)"),
    Flag::new("cert", Kind::Text, "", "client certificate for TLS (not built yet)"),
    Flag::new("command-timeout", Kind::Duration, "5s", "time for a command, without connecting"),
    Flag::switch("debug", "show the flags as they are understood"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "time for connecting"),
    Flag::new("discovery-srv", Kind::Text, "", "domain with SRV records (not built yet)")
        .short('d'),
    Flag::new("discovery-srv-name", Kind::Text, "", "service name in SRV records (not built yet)"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "servers to talk to"),
    Flag::switch("hex", "print keys, values and ids in hexadecimal"),
    Flag::new("insecure-discovery", Kind::Bool, "true", "take SRV records for plain connections"),
    Flag::switch("insecure-skip-tls-verify", "do not check certificates (not built yet)"),
    Flag::new("insecure-transport", Kind::Bool, "true", "connections need no TLS"),
    Flag::new("keepalive-time", Kind::Duration, "2s", "silence before a connection is probed"),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "time for the answer to a probe"),
    Flag::new("key", Kind::Text, "", "client key for TLS (not built yet)"),
    Flag::new("max-recv-bytes", Kind::Int, "0", "largest answer in bytes (0: 2 GiB)"),
    Flag::new("max-request-bytes", Kind::Int, "0", "largest request in bytes (0: 2 MiB)"),
    Flag::new("password", Kind::Text, "", "the password, if it is not in --user"),
    Flag::new("user", Kind::Text, "", "name[:password]"),
    Flag::new("write-out", Kind::Text, "simple", "simple, fields, json, protobuf or table")
        .short('w'),
];

/// The flags of `get`.
const GET: &[Flag] = &[
    Flag::new("consistency", Kind::Text, "l", "l: linearizable, s: serializable"),
    Flag::switch("count-only", "only count the keys"),
    Flag::switch("from-key", "all keys from this one on"),
    Flag::switch("keys-only", "leave the values out"),
    Flag::new("limit", Kind::Int, "0", "at most so many keys"),
    Flag::new("max-create-rev", Kind::Int, "0", "keys created up to this revision"),
    Flag::new("max-mod-rev", Kind::Int, "0", "keys changed last up to this revision"),
    Flag::new("min-create-rev", Kind::Int, "0", "keys created from this revision on"),
    Flag::new("min-mod-rev", Kind::Int, "0", "keys changed last from this revision on"),
    Flag::new("order", Kind::Text, "", "ASCEND or DESCEND"),
    Flag::switch("prefix", "all keys that begin with this one"),
    Flag::switch("print-value-only", "print no keys (format simple)"),
    Flag::new("rev", Kind::Int, "0", "as of this revision"),
    Flag::new("sort-by", Kind::Text, "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
    Flag::switch("stream", "receive the answer in parts"),
];

const PREV_KV: Flag = Flag::switch("prev-kv", "also print what was there before");
const PEER_URLS: Flag = Flag::new("peer-urls", Kind::Text, "", "the member's peer URLs, by commas");
const CLUSTER: Flag = Flag::switch("cluster", "ask every member of the cluster");

/// `get`, as a request of a transaction too.
pub(crate) const GET_COMMAND: Command = Command {
    usage: "get [options] <key> [range_end]",
    short: "Reads a key or a range of keys",
    group: KV,
    flags: GET,
    ..Command::NONE
};

/// `put`, as a request of a transaction too.
pub(crate) const PUT_COMMAND: Command = Command {
    usage: "put [options] <key> <value> (<value> can also be given from stdin)",
    short: "Writes a key",
    long: "Writes a key.\n\nA value that is not given is read from the standard input. Words that \
           begin with '-' are flags:\nput '--' in front of a key or value that does.",
    group: KV,
    flags: &[
        Flag::switch("ignore-lease", "keep the lease that the key has"),
        Flag::switch("ignore-value", "keep the value that the key has"),
        Flag::new("lease", Kind::Text, "0", "attach the key to this lease (hexadecimal)"),
        PREV_KV,
    ],
    ..Command::NONE
};

/// `del`, as a request of a transaction too.
pub(crate) const DEL_COMMAND: Command = Command {
    usage: "del [options] <key> [range_end]",
    short: "Deletes a key or a range of keys [key, range_end)",
    group: KV,
    flags: &[
        Flag::switch("from-key", "all keys from this one on"),
        Flag::switch("prefix", "all keys that begin with this one"),
        PREV_KV,
        Flag::switch("range", "a range is meant: do not warn and wait"),
    ],
    ..Command::NONE
};

/// `watch`, as a line of its interactive mode too.
pub(crate) const WATCH_COMMAND: Command = Command {
    usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Prints changes of keys as they happen",
    group: KV,
    flags: &[
        Flag::switch("interactive", "read 'watch …' and 'progress' lines").short('i'),
        Flag::switch("prefix", "all keys that begin with this one"),
        PREV_KV,
        Flag::switch("progress-notify", "be told now and then how far the watch has come"),
        Flag::new("rev", Kind::Int, "0", "begin with this revision"),
    ],
    ..Command::NONE
};

/// The commands of a line in a transaction.
pub(crate) static TXN_REQUESTS: Command =
    Command { commands: &[DEL_COMMAND, GET_COMMAND, PUT_COMMAND], ..Command::NONE };

/// A line of the interactive watch.
pub(crate) static WATCH: Command = WATCH_COMMAND;

const ALARM: Command = Command {
    usage: "alarm <subcommand>",
    short: "Alarms: see `etcdctl alarm --help`",
    long: "Alarms",
    group: MAINTENANCE,
    commands: &[
        Command { usage: "disarm", short: "Disarms all alarms", ..Command::NONE },
        Command { usage: "list", short: "Lists the alarms", ..Command::NONE },
    ],
    ..Command::NONE
};

const ENDPOINT: Command = Command {
    usage: "endpoint <subcommand>",
    short: "Endpoints: see `etcdctl endpoint --help`",
    long: "Endpoints",
    group: MAINTENANCE,
    persistent: &[CLUSTER],
    commands: &[
        Command {
            usage: "hashkv",
            short: "Prints the hash of the keys' history at each endpoint",
            persistent: &[Flag::new("rev", Kind::Int, "0", "up to this revision (0: all)")],
            ..Command::NONE
        },
        Command { usage: "health", short: "Tells whether the endpoints work", ..Command::NONE },
        Command {
            usage: "status",
            short: "Prints what each endpoint says of itself",
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const LEASE: Command = Command {
    usage: "lease <subcommand>",
    short: "Leases: see `etcdctl lease --help`",
    long: "Leases",
    group: KV,
    commands: &[
        Command { usage: "grant <ttl>", short: "Makes a lease", ..Command::NONE },
        Command {
            usage: "keep-alive [options] <leaseID>",
            short: "Renews a lease again and again",
            flags: &[Flag::switch("once", "renew it once and end")],
            ..Command::NONE
        },
        Command { usage: "list", short: "Lists all leases", ..Command::NONE },
        Command {
            usage: "revoke <leaseID>",
            short: "Ends a lease and deletes its keys",
            ..Command::NONE
        },
        Command {
            usage: "timetolive <leaseID> [options]",
            short: "Tells how long a lease still lives",
            flags: &[Flag::switch("keys", "also print the lease's keys")],
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const MEMBER: Command = Command {
    usage: "member <subcommand>",
    short: "Members: see `etcdctl member --help`",
    long: "Members",
    group: MAINTENANCE,
    commands: &[
        Command {
            usage: "add <memberName> [options]",
            short: "Adds a member to the cluster",
            flags: &[Flag::switch("learner", "it does not vote yet"), PEER_URLS],
            ..Command::NONE
        },
        Command {
            usage: "list",
            short: "Lists the members",
            long: "Lists the members: id, status, name, peer URLs, client URLs, whether it is a learner.",
            flags: &[Flag::new("consistency", Kind::Text, "l", "l: linearizable, s: serializable")],
            ..Command::NONE
        },
        Command { usage: "promote <memberID>", short: "Lets a learner vote", ..Command::NONE },
        Command {
            usage: "remove <memberID>",
            short: "Removes a member from the cluster",
            ..Command::NONE
        },
        Command {
            usage: "update <memberID> [options]",
            short: "Changes a member's peer URLs",
            flags: &[PEER_URLS],
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const DOWNGRADE: Command = Command {
    usage: "downgrade <TARGET_VERSION>",
    short: "Downgrades: see `etcdctl downgrade --help`",
    long: "Downgrades of the cluster to the minor version before",
    group: MAINTENANCE,
    commands: &[
        Command { usage: "cancel", short: "Ends a downgrade under way", ..Command::NONE },
        Command { usage: "enable <TARGET_VERSION>", short: "Starts a downgrade", ..Command::NONE },
        Command {
            usage: "validate <TARGET_VERSION>",
            short: "Tells whether a downgrade can start",
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const SNAPSHOT: Command = Command {
    usage: "snapshot <subcommand>",
    short: "Snapshots of a member's database",
    group: MAINTENANCE,
    commands: &[Command {
        usage: "save <filename>",
        short: "Stores a member's database in a file",
        ..Command::NONE
    }],
    ..Command::NONE
};

/// A command that is not implemented yet.
const fn later(usage: &'static str, short: &'static str, group: &'static str) -> Command {
    Command { usage, short, group, ..Command::NONE }
}

/// Commands that are not implemented yet; they print an error.
pub(crate) const LATER: &[&str] =
    &["auth", "check", "completion", "elect", "lock", "make-mirror", "role", "user"];

/// The program.
pub(crate) static ROOT: Command = Command {
    usage: "etcdctl",
    short: "A command line client for etcd's v3 API.",
    persistent: GLOBAL,
    hidden: true,
    groups: &[KV, MAINTENANCE, CONCURRENCY, AUTH, UTILITY],
    commands: &[
        ALARM,
        later("auth", "Authentication (not built yet)", AUTH),
        later("check", "Checks of the cluster (not built yet)", UTILITY),
        Command {
            usage: "compaction [options] <revision>",
            short: "Forgets revisions before this one",
            group: KV,
            flags: &[Flag::switch("physical", "wait until the space is free")],
            ..Command::NONE
        },
        later("completion", "A script for shells (not built yet)", UTILITY),
        Command {
            usage: "defrag",
            short: "Gives free space in the members' databases back",
            group: MAINTENANCE,
            persistent: &[CLUSTER],
            ..Command::NONE
        },
        DEL_COMMAND,
        DOWNGRADE,
        later("elect", "Leader election (not built yet)", CONCURRENCY),
        ENDPOINT,
        GET_COMMAND,
        later("help", "Help about a command", UTILITY),
        LEASE,
        later("lock", "A lock with a name (not built yet)", CONCURRENCY),
        later("make-mirror", "A copy in another cluster (not built yet)", UTILITY),
        MEMBER,
        Command {
            usage: "move-leader <transferee-member-id>",
            short: "Makes another member the leader",
            group: MAINTENANCE,
            ..Command::NONE
        },
        later("options", "Lists the flags that all commands take", UTILITY),
        PUT_COMMAND,
        later("role", "Roles (not built yet)", AUTH),
        SNAPSHOT,
        Command {
            usage: "txn [options]",
            short: "Does several requests in one transaction",
            long: "Reads a transaction from the standard input: comparisons, then the requests for \
                   when all of them hold,\nthen the requests for when one does not. Each part ends \
                   with an empty line.\n\n  mod(\"key1\") > \"0\"\n\n  put key1 \"new\"\n\n  put key1 \
                   \"first\"\n  put key2 \"and more\"\n",
            group: KV,
            flags: &[Flag::switch("interactive", "ask for each part").short('i')],
            ..Command::NONE
        },
        later("user", "Users (not built yet)", AUTH),
        later("version", "Prints the version of etcdctl", UTILITY),
        WATCH_COMMAND,
    ],
    ..Command::NONE
};
