//! The table of commands and flags.

use cli::{Command, Flag, Kind};

const RESTORE: &[Flag] = &[
    Flag::new(
        "bump-revision",
        Kind::Uint,
        "0",
        "amount to add to the latest revision (needs --mark-compacted)",
    ),
    Flag::new("data-dir", Kind::Text, "", "the data directory to create"),
    Flag::new(
        "initial-advertise-peer-urls",
        Kind::Text,
        "http://localhost:2380",
        "the peer URLs of this member, separated by commas",
    ),
    Flag::new(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "names and peer URLs of all members of the new cluster",
    ),
    Flag::new("initial-cluster-token", Kind::Text, "etcd-cluster", "the new cluster's token"),
    Flag::new(
        "initial-memory-map-size",
        Kind::Uint,
        "10737418240",
        "ignored: the database is not mapped into memory",
    ),
    Flag::switch(
        "mark-compacted",
        "mark the revisions of the snapshot as compacted (needs --bump-revision)",
    ),
    Flag::new("name", Kind::Text, "default", "the name of this member"),
    Flag::switch(
        "skip-hash-check",
        "do not check the hash; for a file that was copied from a data directory",
    ),
    Flag::new("wal-dir", Kind::Text, "", "the directory of the log, if not in the data directory"),
];

/// A command that is not implemented yet.
const fn later(usage: &'static str, short: &'static str) -> Command {
    Command { usage, short, ..Command::NONE }
}

/// The program.
pub(crate) static ROOT: Command = Command {
    usage: "etcdutl",
    short: "A tool for etcd's files.",
    persistent: &[
        Flag::new(
            "timeout",
            Kind::Duration,
            "10s",
            "time to wait for the database's lock (0: for ever)",
        ),
        Flag::new("write-out", Kind::Text, "simple", "simple, fields, json, protobuf or table")
            .short('w'),
    ],
    commands: &[
        later("completion", "Prints a completion script for a shell (not built yet)"),
        later("defrag", "Defragments a database (not built yet)"),
        later(
            "hashkv <filename>",
            "Prints the hash of the key-value history in a file (not built yet)",
        ),
        later("help", "Help about a command"),
        later("migrate", "Migrates a data directory to another storage version (not built yet)"),
        Command {
            usage: "snapshot <subcommand>",
            short: "Snapshots of a member's database",
            commands: &[
                Command {
                    usage: "restore <filename> --data-dir {output dir} [options]",
                    short: "Creates the data directory of a member of a new cluster from a snapshot",
                    flags: RESTORE,
                    ..Command::NONE
                },
                Command {
                    usage: "status <filename>",
                    short: "Prints a summary of a snapshot",
                    long: "Prints a summary of a snapshot: hash, revision, number of keys, size, version.",
                    ..Command::NONE
                },
            ],
            ..Command::NONE
        },
        later("version", "Prints the version of etcdutl"),
    ],
    ..Command::NONE
};
