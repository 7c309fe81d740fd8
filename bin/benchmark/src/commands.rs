//! The table of commands and flags.

use cli::{Arguments, Command, Flag, Kind, Offer};

const CONSISTENCY: Flag =
    Flag::new("consistency", Kind::Text, "l", "Linearizable(l) or Serializable(s)")
        .offering(Offer::Words(&["l", "s"]));
const KEY_SIZE: Flag = Flag::new("key-size", Kind::Int, "8", "size of a key in bytes");
const VALUE_SIZE: Flag = Flag::new("val-size", Kind::Int, "8", "size of a value in bytes");
const KEY_SPACE_SIZE: Flag =
    Flag::new("key-space-size", Kind::Int, "1", "number of different keys");
const RATE: Flag = Flag::new("rate", Kind::Int, "0", "maximum requests per second (0 is no limit)");
const TOTAL: Flag = Flag::new("total", Kind::Int, "10000", "number of requests");
const SEQUENTIAL_KEYS: Flag = Flag::switch("sequential-keys", "use the keys in their order");

/// Measures Go's storage inside the process. Here, writes reach the storage only through a server.
const MVCC: Command = Command {
    usage: "mvcc",
    short: "Measures the storage without a server (not built)",
    persistent: &[
        Flag::new("batch-interval", Kind::Int, "100", "milliseconds between two commits"),
        Flag::new("batch-limit", Kind::Int, "10000", "maximum writes of a commit"),
    ],
    commands: &[Command {
        usage: "put",
        short: "Writes keys (not built)",
        flags: &[
            Flag::new("cpuprofile", Kind::Text, "", "file for a profile of the CPU"),
            Flag::new("key-size", Kind::Int, "64", "size of a key in bytes"),
            Flag::new("memprofile", Kind::Text, "", "file for a profile of the memory"),
            Flag::new("total", Kind::Int, "100", "number of writes"),
            Flag::switch("txn", "write in transactions"),
            Flag::new("txn-ops", Kind::Int, "1", "number of writes of a transaction"),
            Flag::new("value-size", Kind::Int, "64", "size of a value in bytes"),
        ],
        ..Command::NONE
    }],
    ..Command::NONE
};

const PUT: Command = Command {
    usage: "put",
    short: "Writes keys",
    flags: &[
        Flag::switch("check-hashkv", "print the hash of the first endpoint's keys at the end"),
        Flag::new(
            "compact-index-delta",
            Kind::Int,
            "1000",
            "number of revisions that a compaction keeps",
        ),
        Flag::new(
            "compact-interval",
            Kind::Duration,
            "0s",
            "time between two compactions of the history (0: none)",
        ),
        KEY_SIZE,
        KEY_SPACE_SIZE,
        RATE,
        SEQUENTIAL_KEYS,
        TOTAL,
        VALUE_SIZE,
    ],
    ..Command::NONE
};

const RANGE: Command = Command {
    usage: "range key [end-range]",
    short: "Reads a range of keys",
    flags: &[
        CONSISTENCY,
        Flag::switch("count-only", "read the number of keys only"),
        Flag::switch("keys-only", "read the keys without values"),
        Flag::new("limit", Kind::Int, "0", "maximum number of keys of a response (0 is no limit)"),
        Flag::switch("paginate", "read pages of 10,000 keys"),
        Flag::switch("prefix", "all keys that begin with the key"),
        RATE,
        Flag::switch("stream", "receive the responses as streams of chunks"),
        TOTAL,
    ],
    ..Command::NONE
};

const STM: Command = Command {
    usage: "stm",
    short: "Executes transactions of transactional memory",
    flags: &[
        Flag::new(
            "isolation",
            Kind::Text,
            "r",
            "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)",
        )
        .offering(Offer::Words(&["c", "r", "s", "ss"])),
        Flag::new("keys", Kind::Int, "1", "number of different keys"),
        Flag::new("keys-per-txn", Kind::Int, "1", "number of keys that a transaction reads"),
        RATE,
        Flag::new(
            "stm-locker",
            Kind::Text,
            "stm",
            "what each transaction is wrapped in (stm: nothing, lock-client, lock-rpc)",
        )
        .offering(Offer::Words(&["stm", "lock-client", "lock-rpc"])),
        TOTAL,
        Flag::new(
            "txn-wr-percent",
            Kind::Int,
            "50",
            "percentage of its keys that a transaction overwrites",
        ),
        VALUE_SIZE,
    ],
    ..Command::NONE
};

const TXN_MIXED: Command = Command {
    usage: "txn-mixed key [end-range]",
    short: "Executes transactions that read or write",
    flags: &[
        CONSISTENCY,
        Flag::new("end-key", Kind::Text, "", "end of the range that is read (all keys by default)"),
        KEY_SIZE,
        KEY_SPACE_SIZE,
        Flag::new("limit", Kind::Int, "1000", "maximum number of keys that are read"),
        RATE,
        Flag::new("rw-ratio", Kind::Float, "1", "ratio of reads to writes"),
        TOTAL,
        VALUE_SIZE,
    ],
    ..Command::NONE
};

const TXN_PUT: Command = Command {
    usage: "txn-put",
    short: "Executes transactions that write",
    flags: &[
        KEY_SIZE,
        KEY_SPACE_SIZE,
        RATE,
        TOTAL,
        Flag::new("txn-ops", Kind::Int, "1", "number of writes of a transaction"),
        VALUE_SIZE,
    ],
    ..Command::NONE
};

const WATCH: Command = Command {
    usage: "watch",
    short: "Creates watchers and receives events",
    long: "Creates watchers, then writes the watched keys, and measures how fast watchers are created \
           and events\nreceived. Several watchers may watch the same key.",
    flags: &[
        Flag::new("key-size", Kind::Int, "32", "size of a key in bytes"),
        KEY_SPACE_SIZE,
        Flag::new("put-rate", Kind::Int, "0", "writes per second (0 is no limit)"),
        Flag::new("put-total", Kind::Int, "1000", "number of writes"),
        SEQUENTIAL_KEYS,
        Flag::new("streams", Kind::Int, "10", "number of watch streams"),
        Flag::new("watch-per-stream", Kind::Int, "100", "number of watchers on a stream"),
        Flag::new("watched-key-total", Kind::Int, "1", "number of watched keys"),
    ],
    ..Command::NONE
};

const WATCH_GET: Command = Command {
    usage: "watch-get",
    short: "Reads a key while watchers read the history",
    flags: &[
        Flag::new("events", Kind::Int, "8", "number of events for each watcher"),
        Flag::new("streams", Kind::Int, "1", "number of watch streams"),
        Flag::new("watchers", Kind::Int, "10000", "number of watchers"),
    ],
    ..Command::NONE
};

const WATCH_LATENCY: Command = Command {
    usage: "watch-latency",
    short: "Measures how long after a write its event arrives",
    flags: &[
        Flag::new("key-size", Kind::Int, "32", "size of the key in bytes"),
        Flag::switch("prevkv", "request the previous value with each event"),
        Flag::new("put-rate", Kind::Int, "100", "writes per second"),
        Flag::new("put-total", Kind::Int, "1000", "number of writes"),
        Flag::new("streams", Kind::Int, "10", "number of watch streams"),
        Flag::new("val-size", Kind::Int, "32", "size of a value in bytes"),
        Flag::new("watchers-per-stream", Kind::Int, "10", "number of watchers on a stream"),
    ],
    ..Command::NONE
};

/// The flags of all commands.
const GLOBAL: &[Flag] = &[
    Flag::new(
        "auto-sync-interval",
        Kind::Duration,
        "0s",
        "time between two updates of the endpoints (not built)",
    ),
    Flag::new("cacert", Kind::Text, "", "file with the authorities of servers' certificates"),
    Flag::new("cert", Kind::Text, "", "file with the certificate of this client"),
    Flag::new("clients", Kind::Uint, "1", "number of clients that send requests at the same time"),
    Flag::new("conns", Kind::Uint, "1", "number of connections"),
    Flag::new("dial-timeout", Kind::Duration, "0s", "time limit of a connection attempt"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "addresses of the servers"),
    Flag::switch("insecure-skip-tls-verify", "take the certificate of every server"),
    Flag::new("key", Kind::Text, "", "file with the key of this client"),
    Flag::new(
        "pid",
        Kind::List,
        "",
        "processes of servers on this machine, to measure CPU and memory",
    ),
    Flag::switch("precise", "print all digits"),
    Flag::switch("report-perfdash", "also write the report as JSON for perfdash, below $ARTIFACTS"),
    Flag::switch("sample", "also print the requests of each second"),
    Flag::new("svg", Kind::Text, "", "file for a plot of the latency over time"),
    Flag::switch("target-leader", "connect to the leader only"),
    Flag::new("user", Kind::Text, "", "name[:password]"),
];

/// The program.
pub(crate) static ROOT: Command = Command {
    usage: "benchmark",
    short: "Measures an etcd.",
    persistent: GLOBAL,
    commands: &[
        Command {
            usage: "completion [bash|zsh|fish|powershell]",
            short: "Prints a completion script for a shell",
            arguments: Arguments::OneOf(cli::SHELLS),
            flags: &[cli::NO_DESCRIPTIONS],
            ..Command::NONE
        },
        Command { usage: "help", short: "Help about a command", ..Command::NONE },
        Command {
            usage: "lease-keepalive",
            short: "Renews leases",
            flags: &[TOTAL],
            ..Command::NONE
        },
        MVCC,
        PUT,
        RANGE,
        STM,
        TXN_MIXED,
        TXN_PUT,
        WATCH,
        WATCH_GET,
        WATCH_LATENCY,
    ],
    ..Command::NONE
};
