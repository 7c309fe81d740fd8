//! The table of commands and flags.

use cli::{Command, Flag, Kind};

const RESTORE: &[Flag] = &[
    Flag::new(
        "bump-revision",
        Kind::Uint,
        "0",
        "raise the revision by so much (with --mark-compacted)",
    ),
    Flag::new("data-dir", Kind::Text, "", "the directory to make"),
    Flag::new(
        "initial-advertise-peer-urls",
        Kind::Text,
        "http://localhost:2380",
        "the peer URLs of this member, by commas",
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
        "has no effect here: the database is not mapped",
    ),
    Flag::switch(
        "mark-compacted",
        "take all revisions before for compacted (with --bump-revision)",
    ),
    Flag::new("name", Kind::Text, "default", "the name of this member"),
    Flag::switch("skip-hash-check", "the file has no hash: it was copied from a data directory"),
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
        later("completion", "A script for shells (not built yet)"),
        later("defrag", "Gives free space in a database back (not built yet)"),
        later("hashkv <filename>", "The hash of the keys' history in a file (not built yet)"),
        later("help", "Help about a command"),
        later("migrate", "Changes the version of the files (not built yet)"),
        Command {
            usage: "snapshot <subcommand>",
            short: "Snapshots of a member's database",
            commands: &[
                Command {
                    usage: "restore <filename> --data-dir {output dir} [options]",
                    short: "Makes the directory of a new cluster's member from a snapshot",
                    flags: RESTORE,
                    ..Command::NONE
                },
                Command {
                    usage: "status <filename>",
                    short: "Tells what is in a snapshot",
                    long: "Tells what is in a snapshot: hash, revision, number of keys, size, version.",
                    ..Command::NONE
                },
            ],
            ..Command::NONE
        },
        later("version", "Prints the version of etcdutl"),
    ],
    ..Command::NONE
};
