//! The table of commands and flags.

use cli::{Arguments, Command, Flag, Format, Kind, Offer};

const RESTORE: &[Flag] = &[
    Flag::new(
        "bump-revision",
        Kind::Uint,
        "0",
        "amount to add to the latest revision (needs --mark-compacted)",
    ),
    Flag::new("data-dir", Kind::Text, "", "the data directory to create")
        .offering(Offer::Directories),
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
    Flag::new("wal-dir", Kind::Text, "", "the directory of the log, if not in the data directory")
        .offering(Offer::Directories),
];

/// The data directory of a member that is not running.
const DATA_DIR: Flag =
    Flag::new("data-dir", Kind::Text, "", "the data directory of a member that is not running")
        .required()
        .offering(Offer::Directories);

const COMPLETION: Command = Command {
    usage: "completion [bash|zsh|fish|powershell]",
    short: "Prints a completion script for a shell",
    long: "Prints a script by which a shell completes the command lines of etcdutl. Load it with\n\n  \
           bash:        source <(etcdutl completion bash)\n  zsh:         source <(etcdutl completion \
           zsh)\n  fish:        etcdutl completion fish | source\n  PowerShell:  etcdutl completion \
           powershell | Out-String | Invoke-Expression\n\nor write it to the shell's directory of \
           completions, as etcdutl for bash, _etcdutl for zsh\nand etcdutl.fish for fish.",
    arguments: Arguments::OneOf(cli::SHELLS),
    flags: &[cli::NO_DESCRIPTIONS],
    ..Command::NONE
};

const MIGRATE: Command = Command {
    usage: "migrate",
    short: "Migrates a data directory to another storage version",
    long: "Changes the storage version of the data directory of a member that is not running, so that \
           an etcd\nof the target version can start on it.",
    flags: &[
        DATA_DIR,
        Flag::switch("force", "set the storage version even if the directory cannot be migrated"),
        Flag::new("target-version", Kind::Text, "", "the version of etcd as X.Y, at least 3.5")
            .required(),
    ],
    ..Command::NONE
};

/// The log of a member, for `check v2store` and `backup`.
const WAL_DIR: Flag =
    Flag::new("wal-dir", Kind::Text, "", "the directory of the log, if not in the data directory")
        .offering(Offer::Directories);

const BACKUP: Command = Command {
    usage: "backup",
    short: "Copies a data directory for a new cluster (prefer `etcdctl snapshot save`)",
    long: "Copies the data directory of a member that is not running into one for a new cluster of one \
           member.\nStart an etcd on it with --force-new-cluster. Prefer `etcdctl snapshot save`.",
    flags: &[
        Flag::new("backup-dir", Kind::Text, "", "the data directory to create")
            .required()
            .offering(Offer::Directories),
        Flag::new(
            "backup-wal-dir",
            Kind::Text,
            "",
            "the directory for the log, if not in --backup-dir",
        )
        .offering(Offer::Directories),
        DATA_DIR,
        WAL_DIR,
        Flag::new("with-v3", Kind::Bool, "true", "copy the keys of the v3 API"),
    ],
    ..Command::NONE
};

const CHECK: Command = Command {
    usage: "check <subcommand>",
    short: "Checks of a data directory",
    commands: &[Command {
        usage: "v2store",
        short: "Looks for data of the v2 API, which etcd 3.6 and later do not serve",
        flags: &[DATA_DIR, WAL_DIR],
        ..Command::NONE
    }],
    ..Command::NONE
};

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
            .short('w')
            .offering(Offer::Words(Format::NAMES)),
    ],
    commands: &[
        BACKUP,
        CHECK,
        COMPLETION,
        Command {
            usage: "defrag",
            short: "Rewrites a database without its unused space",
            flags: &[DATA_DIR],
            ..Command::NONE
        },
        Command {
            usage: "hashkv <filename>",
            short: "Prints the hash of the key-value history in a database file",
            arguments: Arguments::One,
            flags: &[Flag::new("rev", Kind::Int, "0", "last revision to hash (0: the latest one)")],
            ..Command::NONE
        },
        Command { usage: "help", short: "Help about a command", ..Command::NONE },
        MIGRATE,
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
                    usage: "save <filename>",
                    short: "Moved to `etcdctl snapshot save`",
                    is_unlisted: true,
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
        Command { usage: "version", short: "Prints the version of etcdutl", ..Command::NONE },
    ],
    ..Command::NONE
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_commands_and_flags_of_etcds_tool_are_there() {
        let list = include_str!("../checklist/etcd-3.7.1-commands.txt");
        assert_eq!(list.lines().count(), 26, "the list is whole");
        assert_eq!(cli::missing(&ROOT, list), [""; 0]);
    }
}
