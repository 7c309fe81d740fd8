//! Flags of etcd 3.4 to 3.6 that 3.7 does not have: what each of them has become. They are read on the
//! command line, in the environment and in the configuration file as 3.6 reads them, with its
//! deprecation warnings. A flag of a feature that has ended is refused unless it turns the feature off.
//!
//! Source: etcd server/etcdmain/config.go, server/embed/config.go and
//! server/features/etcd_features.go @ v3.6.9, server/etcdmain/config.go @ v3.5.30, etcdmain/config.go
//! @ v3.4.

use crate::flags::{self, Built, FLAGS, Flag, Group};
use crate::gates::Gates;
use crate::settings::{Notice, Settings};
use crate::value::{Kind, Value};
use cli::duration::GoDuration;
use std::sync::LazyLock;

/// What an old flag has become.
#[derive(Clone, Copy)]
enum Now {
    /// A flag of another name.
    Flag(&'static str),
    /// A feature gate.
    Gate(&'static str),
    /// This value of this flag, if the old one is true.
    Word(&'static str, &'static str),
    /// Nothing: any value but the default is refused, because it asks for this feature.
    Ended(Kind, &'static str, &'static str),
    /// Nothing: the value does not matter, for this reason.
    NoEffect(Kind, &'static str),
}

/// One old flag.
struct Old {
    flag: Flag,
    now: Now,
    warning: &'static str,
}

const PROXY: Now = Now::NoEffect(Kind::Uint, "there is no v2 proxy");
const V2: &str = "the v2 API";

/// Each name, what it has become, and its warning.
const ROWS: &[(&str, Now, &str)] = &[
    // Of 3.4 to 3.6. The first six are checked first, as in 3.6.
    (
        "experimental-stop-grpc-service-on-defrag",
        Now::Gate("StopGRPCServiceOnDefrag"),
        "--experimental-stop-grpc-service-on-defrag is deprecated. Use '--feature-gates=StopGRPCServiceOnDefrag=true' instead.",
    ),
    (
        "experimental-initial-corrupt-check",
        Now::Gate("InitialCorruptCheck"),
        "--experimental-initial-corrupt-check is deprecated. Use '--feature-gates=InitialCorruptCheck=true' instead.",
    ),
    (
        "experimental-compact-hash-check-enabled",
        Now::Gate("CompactHashCheck"),
        "--experimental-compact-hash-check-enabled is deprecated in 3.6 and will be decommissioned in 3.7. Use '--feature-gates=CompactHashCheck=true' instead.",
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        Now::Gate("TxnModeWriteWithSharedBuffer"),
        "--experimental-txn-mode-write-with-shared-buffer is deprecated in v3.6 and will be decommissioned in v3.7. Use '--feature-gates=TxnModeWriteWithSharedBuffer=true' instead.",
    ),
    (
        "experimental-enable-lease-checkpoint",
        Now::Gate("LeaseCheckpoint"),
        "--experimental-enable-lease-checkpoint is deprecated. Use '--feature-gates=LeaseCheckpoint=true' instead.",
    ),
    (
        "experimental-enable-lease-checkpoint-persist",
        Now::Gate("LeaseCheckpointPersist"),
        "--experimental-enable-lease-checkpoint-persist is deprecated. Use '--feature-gates=LeaseCheckpointPersist=true' instead.",
    ),
    (
        "experimental-compact-hash-check-time",
        Now::Flag("compact-hash-check-time"),
        "--experimental-compact-hash-check-time is deprecated in 3.6 and will be decommissioned in 3.7. Use '--compact-hash-check-time' instead.",
    ),
    (
        "experimental-corrupt-check-time",
        Now::Flag("corrupt-check-time"),
        "--experimental-corrupt-check-time is deprecated in v3.6 and will be decommissioned in v3.7. Use '--corrupt-check-time' instead.",
    ),
    (
        "experimental-compaction-batch-limit",
        Now::Flag("compaction-batch-limit"),
        "--experimental-compaction-batch-limit is deprecated in v3.6 and will be decommissioned in v3.7. Use '--compaction-batch-limit' instead.",
    ),
    (
        "experimental-watch-progress-notify-interval",
        Now::Flag("watch-progress-notify-interval"),
        "--experimental-watch-progress-notify-interval is deprecated in v3.6 and will be decommissioned in v3.7. Use '--watch-progress-notify-interval' instead.",
    ),
    (
        "experimental-warning-apply-duration",
        Now::Flag("warning-apply-duration"),
        "--experimental-warning-apply-duration is deprecated in v3.6 and will be decommissioned in v3.7. Use '--warning-apply-duration' instead.",
    ),
    (
        "experimental-bootstrap-defrag-threshold-megabytes",
        Now::Flag("bootstrap-defrag-threshold-megabytes"),
        "--experimental-bootstrap-defrag-threshold-megabytes is deprecated in v3.6 and will be decommissioned in v3.7. Use '--bootstrap-defrag-threshold-megabytes' instead.",
    ),
    (
        "experimental-memory-mlock",
        Now::Flag("memory-mlock"),
        "--experimental-memory-mlock is deprecated in v3.6 and will be decommissioned in v3.7. Use '--memory-mlock' instead.",
    ),
    (
        "experimental-snapshot-catchup-entries",
        Now::Flag("snapshot-catchup-entries"),
        "--experimental-snapshot-catchup-entries is deprecated in v3.6 and will be decommissioned in v3.7. Use '--snapshot-catchup-entries' instead.",
    ),
    // The key that 3.5 and 3.6 have in the configuration file.
    (
        "experimental-snapshot-catch-up-entries",
        Now::Flag("snapshot-catchup-entries"),
        "--experimental-snapshot-catchup-entries is deprecated in v3.6 and will be decommissioned in v3.7. Use '--snapshot-catchup-entries' instead.",
    ),
    (
        "experimental-compaction-sleep-interval",
        Now::Flag("compaction-sleep-interval"),
        "--experimental-compaction-sleep-interval is deprecated in v3.6 and will be decommissioned in v3.7. Use 'compaction-sleep-interval' instead.",
    ),
    (
        "experimental-downgrade-check-time",
        Now::Flag("downgrade-check-time"),
        "--experimental-downgrade-check-time is deprecated in v3.6 and will be decommissioned in v3.7. Use '--downgrade-check-time' instead.",
    ),
    (
        "experimental-peer-skip-client-san-verification",
        Now::Flag("peer-skip-client-san-verification"),
        "--experimental-peer-skip-client-san-verification is deprecated. Use '--peer-skip-client-san-verification' instead.",
    ),
    (
        "experimental-enable-distributed-tracing",
        Now::Flag("enable-distributed-tracing"),
        "--experimental-enable-distributed-tracing is deprecated in 3.6 and will be decommissioned in 3.7. Use --enable-distributed-tracing instead.",
    ),
    (
        "experimental-distributed-tracing-address",
        Now::Flag("distributed-tracing-address"),
        "--experimental-distributed-tracing-address is deprecated in 3.6 and will be decommissioned in 3.7. Use --distributed-tracing-address instead.",
    ),
    (
        "experimental-distributed-tracing-service-name",
        Now::Flag("distributed-tracing-service-name"),
        "--experimental-distributed-tracing-service-name is deprecated in 3.6 and will be decommissioned in 3.7. Use --distributed-tracing-service-name instead.",
    ),
    (
        "experimental-distributed-tracing-instance-id",
        Now::Flag("distributed-tracing-instance-id"),
        "--experimental-distributed-tracing-instance-id is deprecated in 3.6 and will be decommissioned in 3.7. Use --distributed-tracing-instance-id instead.",
    ),
    (
        "experimental-distributed-tracing-sampling-rate",
        Now::Flag("distributed-tracing-sampling-rate"),
        "--experimental-distributed-tracing-sampling-rate is deprecated in 3.6 and will be decommissioned in 3.7. Use --distributed-tracing-sampling-rate instead.",
    ),
    (
        UNARY,
        Now::Flag("warning-unary-request-duration"),
        "--experimental-warning-unary-request-duration is deprecated, and will be decommissioned in v3.7. Use --warning-unary-request-duration instead.",
    ),
    (
        "discovery",
        Now::Ended(Kind::Text, "", "v2 discovery"),
        "--discovery is deprecated in v3.7 and will be decommissioned in v3.8.",
    ),
    (
        "discovery-proxy",
        Now::Ended(Kind::Text, "", "v2 discovery"),
        "--discovery-proxy is deprecated in v3.7 and will be decommissioned in v3.8.",
    ),
    // Of 3.4 and 3.5.
    (
        "enable-v2",
        Now::Ended(Kind::Bool, "false", V2),
        "--enable-v2 is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "experimental-enable-v2v3",
        Now::Ended(Kind::Text, "", V2),
        "--experimental-enable-v2v3 is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy",
        Now::Ended(Kind::Choice(&["off", "readonly", "on"]), "off", "the v2 proxy"),
        "--proxy is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy-failure-wait",
        PROXY,
        "--proxy-failure-wait is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy-refresh-interval",
        PROXY,
        "--proxy-refresh-interval is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy-dial-timeout",
        PROXY,
        "--proxy-dial-timeout is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy-write-timeout",
        PROXY,
        "--proxy-write-timeout is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    (
        "proxy-read-timeout",
        PROXY,
        "--proxy-read-timeout is deprecated in 3.5 and will be decommissioned in 3.6.",
    ),
    // Of 3.4.
    (
        "log-output",
        Now::Flag("log-outputs"),
        "--log-output is deprecated. Use '--log-outputs' instead.",
    ),
    (
        "debug",
        Now::Word("log-level", "debug"),
        "--debug is deprecated. Use '--log-level=debug' instead.",
    ),
    (
        "log-package-levels",
        Now::NoEffect(
            Kind::Text,
            "only the logger capnslog, which 3.5 removed, has levels of packages",
        ),
        "--log-package-levels is deprecated. Use '--log-level' instead.",
    ),
    (
        "experimental-backend-bbolt-freelist-type",
        Now::Flag("backend-bbolt-freelist-type"),
        "--experimental-backend-bbolt-freelist-type is deprecated. Use '--backend-bbolt-freelist-type' instead.",
    ),
];

/// A flag with a rule of its own: 0 counts as not given.
const UNARY: &str = "experimental-warning-unary-request-duration";

static TABLE: LazyLock<Vec<Old>> = LazyLock::new(|| ROWS.iter().map(old).collect());

fn old(&(name, now, warning): &(&'static str, Now, &'static str)) -> Old {
    let (kind, default) = match now {
        Now::Flag(new) => {
            let new = flags::find(new).expect("a test looks up every newer name");
            (new.kind, new.default)
        }
        Now::Gate(_) | Now::Word(..) => (Kind::Bool, "false"),
        Now::Ended(kind, default, _) => (kind, default),
        Now::NoEffect(Kind::Uint, _) => (Kind::Uint, "0"),
        Now::NoEffect(kind, _) => (kind, ""),
    };
    let flag = Flag { name, kind, default, built: Built::Yes, group: Group::Hidden, help: "" };
    Old { flag, now, warning }
}

/// The flag of this name, of any version.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    flags::find(name).or_else(|| all().find(|flag| flag.name == name))
}

/// All flags of all versions.
pub(crate) fn all() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(TABLE.iter().map(|old| &old.flag))
}

/// Replaces the old flags that were given by what they have become. Returns their warnings, for the
/// log of the settings.
///
/// # Errors
/// When an old flag and its successor are both given, with 3.6's message; when an old flag turns on
/// a feature that has ended.
pub(crate) fn replace(settings: &mut Settings) -> Result<Vec<Notice>, String> {
    let gates = settings.text("feature-gates");
    let mut notices = Vec::new();
    for old in TABLE.iter() {
        let name = old.flag.name;
        let Some(value) = settings.take(name) else { continue };
        notices.push(Notice::new("warn", old.warning, []));
        match old.now {
            Now::Gate(gate) => {
                set_gate(settings, name, (gate, value == Value::Bool(true)), &gates)?
            }
            Now::Flag(new) => set_flag(settings, name, new, value)?,
            Now::Word(new, word) if value == Value::Bool(true) => {
                set_flag(settings, name, new, Value::Text(word.to_owned()))?;
            }
            Now::Word(..) => {}
            Now::Ended(kind, default, what) if kind.parse(default).as_ref() != Ok(&value) => {
                let value = shown(&value);
                return Err(format!(
                    "--{name}={value} cannot be used: {what} is not supported by this server"
                ));
            }
            Now::Ended(..) => {}
            Now::NoEffect(_, why) => {
                let message = "this flag has no effect in this server";
                let fields = [("flag", name.to_owned()), ("reason", why.to_owned())];
                notices.push(Notice::new("warn", message, fields));
            }
        }
    }
    Ok(notices)
}

/// Sets a gate, which `given`, the text of the flag for gates, must not name.
fn set_gate(
    settings: &mut Settings,
    old: &str,
    (gate, on): (&str, bool),
    given: &str,
) -> Result<(), String> {
    // As in 3.6, a gate whose name contains this one's counts, too.
    if given.contains(gate) {
        let enabled = Gates::parse(given)?.enabled(gate);
        return Err(format!(
            "cannot specify both flags: --{old}={on} and --feature-gates={gate}={enabled} at the \
             same time, please just use --feature-gates={gate}={enabled}"
        ));
    }
    let before = settings.text("feature-gates");
    let separator = if before.is_empty() { "" } else { "," };
    set(settings, "feature-gates", Value::Text(format!("{before}{separator}{gate}={on}")));
    Ok(())
}

fn set_flag(settings: &mut Settings, old: &str, new: &str, value: Value) -> Result<(), String> {
    if old == UNARY {
        let is_zero = |value: &Value| *value == Value::Duration(GoDuration(0));
        if is_zero(&value) {
            return Ok(());
        }
        if settings.is_given(new) && settings.duration(new).0 != 0 {
            return Err(format!("both --{old} and --{new} flags are set. Use only --{new}"));
        }
    } else if settings.is_given(new) {
        return Err(format!(
            "cannot set --{old} and --{new} at the same time, please use --{new} only"
        ));
    }
    set(settings, new, value);
    Ok(())
}

fn set(settings: &mut Settings, name: &str, value: Value) {
    settings.set(flags::find(name).expect("a test looks up every newer name"), value);
}

/// The value of a feature that has ended, for the error.
fn shown(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::Uint(_) | Value::Int(_) | Value::Duration(_) | Value::Words(_) | Value::Urls(_) => {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_old_flag_becomes_one_that_exists_and_is_not_one_itself() {
        for (name, now, warning) in ROWS {
            assert!(flags::find(name).is_none(), "{name}");
            assert!(find(name).is_some(), "{name}");
            assert!(warning.contains("deprecated"), "{name}");
            match now {
                Now::Flag(new) | Now::Word(new, _) => assert!(flags::find(new).is_some(), "{new}"),
                Now::Gate(gate) => assert!(Gates::parse(&format!("{gate}=true")).is_ok(), "{gate}"),
                Now::Ended(kind, default, _) => assert!(kind.parse(default).is_ok(), "{name}"),
                Now::NoEffect(..) => {}
            }
        }
    }

    /// The list has the flags of 3.4.23, 3.5.30 and 3.6.9 that 3.7.1 does not have.
    #[test]
    fn all_flags_of_older_versions_are_known() {
        let theirs = include_str!("../testdata/etcd-older-flags.txt");
        for name in theirs.split_whitespace() {
            assert!(find(name).is_some() || flags::IGNORED.contains(&name), "{name}");
        }
        assert_eq!(theirs.split_whitespace().count(), 37);
    }
}
