//! The table of commands and flags.

use cli::{Arguments, Command, Flag, Format, Kind, Offer};

const KV: &str = "Key-value commands";
const MAINTENANCE: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const AUTH: &str = "Authentication commands";
const UTILITY: &str = "Utility commands";

/// Flags that every command takes, and that `ETCDCTL_…` variables can set.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::new(
        "auth-jwt-token",
        Kind::Text,
        "",
        "JWT for authentication; cannot be combined with --user",
    ),
    Flag::new("cacert", Kind::Text, "", "file with the authorities of servers' certificates"),
    Flag::new("cert", Kind::Text, "", "file with the certificate of this client"),
    Flag::new(
        "command-timeout",
        Kind::Duration,
        "5s",
        "time limit of a command, not counting the connection",
    ),
    Flag::switch("debug", "print the parsed values of the global flags"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "time limit of a connection attempt"),
    Flag::new("discovery-srv", Kind::Text, "", "domain whose SRV records name the servers")
        .short('d'),
    Flag::new("discovery-srv-name", Kind::Text, "", "suffix to the service in the SRV records"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "addresses of the servers"),
    Flag::switch("hex", "print keys, values and ids in hexadecimal"),
    Flag::new(
        "insecure-discovery",
        Kind::Bool,
        "true",
        "accept SRV records of servers without TLS",
    ),
    Flag::switch("insecure-skip-tls-verify", "take the certificate of every server"),
    Flag::new(
        "insecure-transport",
        Kind::Bool,
        "true",
        "connect without TLS where nothing asks for it",
    ),
    Flag::new("keepalive-time", Kind::Duration, "2s", "time without traffic before a ping is sent"),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "time limit of the response to a ping"),
    Flag::new("key", Kind::Text, "", "file with the key of this client"),
    Flag::new("max-recv-bytes", Kind::Int, "0", "maximum size of a response in bytes (0: 2 GiB)"),
    Flag::new("max-request-bytes", Kind::Int, "0", "maximum size of a request in bytes (0: 2 MiB)"),
    Flag::new("password", Kind::Text, "", "the password, if it is not in --user"),
    Flag::new("user", Kind::Text, "", "name[:password]"),
    Flag::new("write-out", Kind::Text, "simple", "simple, fields, json, protobuf or table")
        .short('w')
        .offering(Offer::Words(Format::NAMES)),
];

const CONSISTENCY: Flag =
    Flag::new("consistency", Kind::Text, "l", "l: linearizable, s: serializable")
        .offering(Offer::Words(&["l", "s"]));

/// The flags of `get`.
const GET: &[Flag] = &[
    CONSISTENCY,
    Flag::switch("count-only", "print the number of keys only"),
    Flag::switch("from-key", "all keys from this one on"),
    Flag::switch("keys-only", "print keys without values"),
    Flag::new("limit", Kind::Int, "0", "maximum number of keys"),
    Flag::new("max-create-rev", Kind::Int, "0", "only keys with at most this creation revision"),
    Flag::new("max-mod-rev", Kind::Int, "0", "only keys with at most this modification revision"),
    Flag::new("min-create-rev", Kind::Int, "0", "only keys with at least this creation revision"),
    Flag::new("min-mod-rev", Kind::Int, "0", "only keys with at least this modification revision"),
    Flag::new("order", Kind::Text, "", "ASCEND or DESCEND")
        .offering(Offer::Words(&["ASCEND", "DESCEND"])),
    Flag::switch("prefix", "all keys that begin with this one"),
    Flag::switch("print-value-only", "print values without keys (format simple)"),
    Flag::new("rev", Kind::Int, "0", "read at this revision"),
    Flag::new("sort-by", Kind::Text, "", "CREATE, KEY, MODIFY, VALUE or VERSION")
        .offering(Offer::Words(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"])),
    Flag::switch("stream", "receive the response as a stream of chunks"),
];

const PREV_KV: Flag = Flag::switch("prev-kv", "also print the previous key-value pair");
const PEER_URLS: Flag =
    Flag::new("peer-urls", Kind::Text, "", "the member's peer URLs, separated by commas");
const CLUSTER: Flag = Flag::switch("cluster", "use the endpoints of all members of the cluster");

/// `get`, also used as a request of a transaction.
pub(crate) const GET_COMMAND: Command = Command {
    usage: "get [options] <key> [range_end]",
    short: "Reads a key or a range of keys",
    group: KV,
    flags: GET,
    ..Command::NONE
};

/// `put`, also used as a request of a transaction.
pub(crate) const PUT_COMMAND: Command = Command {
    usage: "put [options] <key> <value> (<value> can also be given from stdin)",
    short: "Writes a key",
    long: "Writes a key.\n\nIf no value is given, it is read from the standard input. Arguments that \
           begin with '-' are flags;\nput '--' before a key or value that begins with '-'.",
    group: KV,
    flags: &[
        Flag::switch("ignore-lease", "keep the current lease of the key"),
        Flag::switch("ignore-value", "keep the current value of the key"),
        Flag::new(
            "lease",
            Kind::Text,
            "0",
            "attach the key to the lease with this id (hexadecimal)",
        ),
        PREV_KV,
    ],
    ..Command::NONE
};

/// `del`, also used as a request of a transaction.
pub(crate) const DEL_COMMAND: Command = Command {
    usage: "del [options] <key> [range_end]",
    short: "Deletes a key or a range of keys [key, range_end)",
    group: KV,
    flags: &[
        Flag::switch("from-key", "all keys from this one on"),
        Flag::switch("prefix", "all keys that begin with this one"),
        PREV_KV,
        Flag::switch("range", "delete a range without a warning and a delay"),
    ],
    ..Command::NONE
};

/// `watch`, also used as a line of its interactive mode.
pub(crate) const WATCH_COMMAND: Command = Command {
    usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Prints changes of keys as they happen",
    group: KV,
    flags: &[
        Flag::switch(
            "interactive",
            "read 'watch …' and 'progress' commands from the standard input",
        )
        .short('i'),
        Flag::switch("prefix", "all keys that begin with this one"),
        PREV_KV,
        Flag::switch("progress-notify", "request periodic progress notifications"),
        Flag::new("rev", Kind::Int, "0", "first revision to watch"),
    ],
    ..Command::NONE
};

/// The requests of a transaction, one on each line.
pub(crate) static TXN_REQUESTS: Command =
    Command { commands: &[DEL_COMMAND, GET_COMMAND, PUT_COMMAND], ..Command::NONE };

/// `watch` in the interactive mode.
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
            short: "Prints the hash of the key-value history of each endpoint",
            persistent: &[Flag::new(
                "rev",
                Kind::Int,
                "0",
                "last revision to hash (0: the current one)",
            )],
            ..Command::NONE
        },
        Command { usage: "health", short: "Checks the health of the endpoints", ..Command::NONE },
        Command { usage: "status", short: "Prints the status of each endpoint", ..Command::NONE },
    ],
    ..Command::NONE
};

const LEASE: Command = Command {
    usage: "lease <subcommand>",
    short: "Leases: see `etcdctl lease --help`",
    long: "Leases",
    group: KV,
    commands: &[
        Command { usage: "grant <ttl>", short: "Creates a lease", ..Command::NONE },
        Command {
            usage: "keep-alive [options] <leaseID>",
            short: "Keeps a lease alive by renewing it",
            flags: &[Flag::switch("once", "renew the lease once and exit")],
            ..Command::NONE
        },
        Command { usage: "list", short: "Lists all leases", ..Command::NONE },
        Command {
            usage: "revoke <leaseID>",
            short: "Revokes a lease and deletes its keys",
            ..Command::NONE
        },
        Command {
            usage: "timetolive <leaseID> [options]",
            short: "Prints the remaining time to live of a lease",
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
            flags: &[
                Flag::switch("learner", "add the member as a learner, which does not vote"),
                PEER_URLS,
            ],
            ..Command::NONE
        },
        Command {
            usage: "list",
            short: "Lists the members",
            long: "Lists the members: id, status, name, peer URLs, client URLs, and whether it is a learner.",
            flags: &[CONSISTENCY],
            ..Command::NONE
        },
        Command {
            usage: "promote <memberID>",
            short: "Promotes a learner to a voting member",
            ..Command::NONE
        },
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
    long: "Downgrades of the cluster to the previous minor version",
    group: MAINTENANCE,
    commands: &[
        Command { usage: "cancel", short: "Cancels the downgrade", ..Command::NONE },
        Command { usage: "enable <TARGET_VERSION>", short: "Starts a downgrade", ..Command::NONE },
        Command {
            usage: "validate <TARGET_VERSION>",
            short: "Checks whether a downgrade is possible",
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

/// The flags of `snapshot restore` in etcdctl 3.5, so that its command lines get an answer that
/// names the new command.
const MOVED_RESTORE: &[Flag] = &[
    Flag::new("data-dir", Kind::Text, "", "see `etcdutl snapshot restore`"),
    Flag::new("initial-advertise-peer-urls", Kind::Text, "", "see `etcdutl snapshot restore`"),
    Flag::new("initial-cluster", Kind::Text, "", "see `etcdutl snapshot restore`"),
    Flag::new("initial-cluster-token", Kind::Text, "", "see `etcdutl snapshot restore`"),
    Flag::new("name", Kind::Text, "", "see `etcdutl snapshot restore`"),
    Flag::switch("skip-hash-check", "see `etcdutl snapshot restore`"),
    Flag::new("wal-dir", Kind::Text, "", "see `etcdutl snapshot restore`"),
];

const SNAPSHOT: Command = Command {
    usage: "snapshot <subcommand>",
    short: "Snapshots of a member's database",
    group: MAINTENANCE,
    commands: &[
        Command {
            usage: "restore <filename> [options]",
            short: "Moved to `etcdutl snapshot restore`",
            is_unlisted: true,
            flags: MOVED_RESTORE,
            ..Command::NONE
        },
        Command {
            usage: "save <filename>",
            short: "Saves the database of a member to a file",
            ..Command::NONE
        },
        Command {
            usage: "status <filename>",
            short: "Moved to `etcdutl snapshot status`",
            is_unlisted: true,
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const AUTHENTICATION: Command = Command {
    usage: "auth <enable or disable>",
    short: "Authentication: see `etcdctl auth --help`",
    long: "Authentication",
    group: AUTH,
    commands: &[
        Command { usage: "disable", short: "Turns authentication off", ..Command::NONE },
        Command { usage: "enable", short: "Turns authentication on", ..Command::NONE },
        Command { usage: "status", short: "Prints whether it is on", ..Command::NONE },
    ],
    ..Command::NONE
};

const ASK: Flag = Flag::new(
    "interactive",
    Kind::Bool,
    "true",
    "ask for the password at the terminal; if false, read it from the standard input",
);

const USER: Command = Command {
    usage: "user <subcommand>",
    short: "Users: see `etcdctl user --help`",
    long: "Users",
    group: AUTH,
    commands: &[
        Command {
            usage: "add <user name or user:password> [options]",
            short: "Adds a user",
            flags: &[
                ASK,
                Flag::new("new-user-password", Kind::Text, "", "the password"),
                Flag::switch("no-password", "add a user without a password"),
            ],
            ..Command::NONE
        },
        Command { usage: "delete <user name>", short: "Deletes a user", ..Command::NONE },
        Command {
            usage: "get <user name> [options]",
            short: "Prints the roles of a user",
            flags: &[Flag::switch("detail", "print the permissions of the roles too")],
            ..Command::NONE
        },
        Command {
            usage: "grant-role <user name> <role name>",
            short: "Grants a role to a user",
            ..Command::NONE
        },
        Command { usage: "list", short: "Lists all users", ..Command::NONE },
        Command {
            usage: "passwd <user name> [options]",
            short: "Changes the password of a user",
            flags: &[ASK],
            ..Command::NONE
        },
        Command {
            usage: "revoke-role <user name> <role name>",
            short: "Revokes a role from a user",
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

/// The keys of a permission.
const PERMISSION_KEYS: &[Flag] = &[
    Flag::switch("from-key", "all keys from this one on"),
    Flag::switch("prefix", "all keys that begin with this one"),
];

const ROLE: Command = Command {
    usage: "role <subcommand>",
    short: "Roles: see `etcdctl role --help`",
    long: "Roles",
    group: AUTH,
    commands: &[
        Command { usage: "add <role name>", short: "Adds a role", ..Command::NONE },
        Command { usage: "delete <role name>", short: "Deletes a role", ..Command::NONE },
        Command {
            usage: "get <role name>",
            short: "Prints the permissions of a role",
            ..Command::NONE
        },
        Command {
            usage: "grant-permission [options] <role name> <permission type> <key> [endkey]",
            short: "Grants a permission to a role",
            flags: PERMISSION_KEYS,
            ..Command::NONE
        },
        Command { usage: "list", short: "Lists all roles", ..Command::NONE },
        Command {
            usage: "revoke-permission <role name> <key> [endkey]",
            short: "Revokes a permission from a role",
            flags: PERMISSION_KEYS,
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const MAKE_MIRROR: Command = Command {
    usage: "make-mirror [options] <destination>",
    short: "Copies the keys to another cluster",
    long: "Copies the keys to another cluster, and then every change, until it is stopped or a request \
           fails.\nPrints the number of copied keys every 30 seconds. Leases are not copied, and keys \
           that only the destination\nhas stay.",
    group: UTILITY,
    flags: &[
        Flag::new(
            "dest-cacert",
            Kind::Text,
            "",
            "file with the authorities of the destination's certificates",
        ),
        Flag::new(
            "dest-cert",
            Kind::Text,
            "",
            "file with the certificate of this client for the destination",
        ),
        Flag::new(
            "dest-insecure-transport",
            Kind::Bool,
            "true",
            "connect to the destination without TLS where nothing asks for it",
        ),
        Flag::new("dest-key", Kind::Text, "", "file with the key of that certificate"),
        Flag::new("dest-password", Kind::Text, "", "the password, if it is not in --dest-user"),
        Flag::new("dest-prefix", Kind::Text, "", "replaces the prefix at the destination"),
        Flag::new("dest-user", Kind::Text, "", "name[:password] at the destination"),
        Flag::new(
            "max-txn-ops",
            Kind::Uint,
            "128",
            "maximum number of operations in a transaction at the destination",
        ),
        Flag::switch("no-dest-prefix", "remove the prefix at the destination"),
        Flag::new("prefix", Kind::Text, "", "copy the keys with this prefix only"),
        Flag::new(
            "rev",
            Kind::Int,
            "0",
            "copy the changes from this revision on only, not the keys of before",
        ),
    ],
    ..Command::NONE
};

const COMPACTS: Flag = Flag::switch("auto-compact", "compact the history afterwards");
const DEFRAGMENTS: Flag =
    Flag::switch("auto-defrag", "defragment the databases of the endpoints afterwards");

const CHECK: Command = Command {
    usage: "check <subcommand>",
    short: "Checks of the cluster: see `etcdctl check --help`",
    long: "Checks of the cluster",
    group: UTILITY,
    commands: &[
        Command {
            usage: "datascale [options]",
            short: "Measures how much memory a server needs for more keys",
            long: "Writes keys of 1 KiB with many clients, prints how much the resident memory of the \
                   server has grown,\nand deletes the keys. The memory is that of the first endpoint.",
            flags: &[
                COMPACTS,
                DEFRAGMENTS,
                Flag::new(
                    "load",
                    Kind::Text,
                    "s",
                    "s (10,000 keys, 50 clients), m (100,000, 200), l (1,000,000, 500) or xl \
                     (3,000,000, 1,000)",
                )
                .offering(LOADS),
                Flag::new(
                    "prefix",
                    Kind::Text,
                    "/etcdctl-check-datascale/",
                    "the prefix of the keys; no other keys may have it",
                ),
            ],
            ..Command::NONE
        },
        Command {
            usage: "perf [options]",
            short: "Checks the throughput and the latency of writes",
            long: "Writes keys at a fixed rate with many clients for 60 seconds, and deletes them. The \
                   check passes if no write fails,\nif more than 90 % of the rate is reached, and if \
                   no write takes more than 500 ms, with a standard deviation\nof at most 100 ms.",
            flags: &[
                COMPACTS,
                DEFRAGMENTS,
                Flag::new(
                    "load",
                    Kind::Text,
                    "s",
                    "s (150 writes/s, 50 clients), m (1,000, 200), l (8,000, 500) or xl (15,000, \
                     1,000)",
                )
                .offering(LOADS),
                Flag::new(
                    "prefix",
                    Kind::Text,
                    "/etcdctl-check-perf/",
                    "the prefix of the keys; no other keys may have it",
                ),
            ],
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

const LOADS: Offer = Offer::Words(&["small", "medium", "large", "xLarge"]);

/// The program.
pub(crate) static ROOT: Command = Command {
    usage: "etcdctl",
    short: "A command line client for etcd's v3 API.",
    persistent: GLOBAL,
    hidden: true,
    groups: &[KV, MAINTENANCE, CONCURRENCY, AUTH, UTILITY],
    commands: &[
        ALARM,
        AUTHENTICATION,
        CHECK,
        Command {
            usage: "compaction [options] <revision>",
            short: "Compacts the history: removes the revisions before this one",
            group: KV,
            flags: &[Flag::switch(
                "physical",
                "wait until the revisions are removed from the database",
            )],
            ..Command::NONE
        },
        Command {
            usage: "completion [bash|zsh|fish|powershell]",
            short: "Prints a completion script for a shell",
            long: "Prints a script by which a shell completes the command lines of etcdctl. Load it \
                   with\n\n  bash:        source <(etcdctl completion bash)\n  zsh:         source \
                   <(etcdctl completion zsh)\n  fish:        etcdctl completion fish | source\n  \
                   PowerShell:  etcdctl completion powershell | Out-String | Invoke-Expression\n\nor \
                   write it to the shell's directory of completions, as etcdctl for bash, _etcdctl \
                   for zsh\nand etcdctl.fish for fish.",
            group: UTILITY,
            arguments: Arguments::OneOf(cli::SHELLS),
            flags: &[cli::NO_DESCRIPTIONS],
            ..Command::NONE
        },
        Command {
            usage: "defrag",
            short: "Defragments the databases of the members",
            group: MAINTENANCE,
            persistent: &[
                CLUSTER,
                Flag::new("data-dir", Kind::Text, "", "moved to `etcdutl defrag --data-dir`")
                    .offering(Offer::Directories),
            ],
            ..Command::NONE
        },
        DEL_COMMAND,
        DOWNGRADE,
        Command {
            usage: "elect <election-name> [proposal]",
            short: "Takes part in a leader election, or prints its leaders",
            group: CONCURRENCY,
            flags: &[Flag::switch("listen", "print the leaders").short('l')],
            ..Command::NONE
        },
        ENDPOINT,
        GET_COMMAND,
        Command { usage: "help", short: "Help about a command", group: UTILITY, ..Command::NONE },
        LEASE,
        Command {
            usage: "lock <lockname> [exec-command arg1 arg2 ...]",
            short: "Acquires a named lock",
            long: "Acquires a named lock, and holds it until a signal comes, or until the given \
                   command has ended.\nThe command finds the key and its revision in ETCD_LOCK_KEY \
                   and ETCD_LOCK_REV. Put '--' before a command\nthat has flags.",
            group: CONCURRENCY,
            flags: &[Flag::new(
                "ttl",
                Kind::Int,
                "10",
                "time to live of the lock's lease in seconds",
            )],
            ..Command::NONE
        },
        MAKE_MIRROR,
        MEMBER,
        Command {
            usage: "move-leader <transferee-member-id>",
            short: "Transfers the leadership to another member",
            group: MAINTENANCE,
            ..Command::NONE
        },
        Command {
            usage: "options",
            short: "Lists the global flags",
            group: UTILITY,
            ..Command::NONE
        },
        PUT_COMMAND,
        ROLE,
        SNAPSHOT,
        Command {
            usage: "txn [options]",
            short: "Executes several requests in one transaction",
            long: "Reads a transaction from the standard input: the comparisons, the requests if all \
                   of them are true,\nand the requests if one is false. Each part ends \
                   with an empty line.\n\n  mod(\"key1\") > \"0\"\n\n  put key1 \"new\"\n\n  put key1 \
                   \"first\"\n  put key2 \"and more\"\n",
            group: KV,
            flags: &[Flag::switch("interactive", "print a prompt for each part").short('i')],
            ..Command::NONE
        },
        USER,
        Command {
            usage: "version",
            short: "Prints the version of etcdctl",
            group: UTILITY,
            ..Command::NONE
        },
        WATCH_COMMAND,
    ],
    ..Command::NONE
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_commands_and_flags_of_etcds_tool_are_there() {
        let list = include_str!("../checklist/etcd-3.7.1-commands.txt");
        assert_eq!(list.lines().count(), 144, "the list is whole");
        assert_eq!(cli::missing(&ROOT, list), [""; 0]);
    }
}
