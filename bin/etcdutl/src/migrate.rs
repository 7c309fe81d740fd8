//! `migrate`: changes the storage version of a data directory, so that another version of etcd can
//! start on it.
//!
//! Source: etcd v3.7.1 etcdutl/etcdutl/migrate_command.go, server/storage/wal/version.go.

use crate::database::{self, Access};
use crate::failure::{Code, CommandResult, Failure};
use crate::output;
use crate::storage::{self, V3_5, V3_6};
use bolt::View;
use cli::json::Object;
use cli::log::Level;
use cli::{Parsed, go};
use cluster::Version;
use proto::{Entry, EntryKind, Index};
use std::path::Path;
use v2store::EntryPayload;
use vfs::RealDisk;
use wal::OpenAt;

pub(crate) fn migrate(parsed: &Parsed) -> CommandResult {
    let flags = &parsed.flags;
    let (data_dir, wait) = (flags.text("data-dir"), flags.duration("timeout"));
    let target = target(&flags.text("target-version")).map_err(|why| Code::BadArgs.with(why))?;
    let path = database::of_data_dir(&data_dir)?;
    let seen = database::open(&path, Access::Read, wait)?.view();
    let current = current(&seen)?;
    if current == target {
        let fields = Object::zap().string("storage-version", &short(current));
        log(Level::Info, "storage version up-to-date", fields);
        return Ok(());
    }
    let steps = match steps(&data_dir, current, target)? {
        Ok(steps) => Some(steps),
        Err(why) if !flags.bool("force") => return Err(failed(why)),
        Err(why) => {
            let fields = Object::zap().string("error", &why);
            log(Level::Info, "normal migrate failed, trying with force", fields);
            None
        }
    };
    let tx_id = seen.tx_id();
    // The file stays locked until its last view is dropped.
    drop(seen);
    let mut db = database::open(&path, Access::Write, wait)?;
    if db.view().tx_id() != tx_id {
        return Err(failed(format!("{}: changed by another process", path.display())));
    }
    storage::store(&mut db, target).map_err(failed)?;
    report(steps.as_deref(), target);
    Ok(())
}

fn failed(error: impl ToString) -> Failure {
    Code::Error.with(error)
}

fn log(level: Level, message: &str, fields: Object) {
    output::log(level, concat!(file!(), ":", line!()), message, fields);
}

/// Logs the steps that were taken, or that the version was forced.
fn report(steps: Option<&[Version]>, target: Version) {
    let Some(steps) = steps else {
        if target < V3_6 {
            return log(Level::Warn, "forcefully cleared storage version", Object::zap());
        }
        let fields = Object::zap().string("storage-version", &short(target));
        return log(Level::Warn, "forcefully set storage version", fields);
    };
    for step in steps {
        let fields = Object::zap().string("new-storage-version", &step.to_string());
        log(Level::Info, "updated storage version", fields);
    }
}

/// A version without its patch.
fn short(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

/// Reads `--target-version`.
fn target(text: &str) -> Result<Version, String> {
    if text.matches('.').count() != 1 {
        let shown = go::quote(text.as_bytes());
        return Err(format!("wrong target version format, expected \"X.Y\", got {shown}"));
    }
    let unreadable = |why: String| format!("failed to parse target version: {why}");
    let numbers = text.split(['+', '-']).next().unwrap_or_default();
    let Some((major, minor)) = numbers.split_once('.') else {
        return Err(unreadable(format!("{numbers} is not in dotted-tri format")));
    };
    let number = |text: &str| {
        let number = go::parse_int(text, 10).map_err(unreadable)?;
        u64::try_from(number).map_err(|error| unreadable(error.to_string()))
    };
    let version = Version { major: number(major)?, minor: number(minor)?, patch: 0 };
    if version < V3_5 {
        let shown = go::quote(short(version).as_bytes());
        return Err(format!("target version {shown} not supported. Minimal \"3.5\""));
    }
    Ok(version)
}

fn current(view: &View) -> CommandResult<Version> {
    storage::detect(view)?.ok_or_else(|| {
        let message = "failed to detect storage version. Please make sure you are using data dir \
                       from etcd v3.5 and older";
        log(Level::Error, message, Object::zap());
        failed("missing term information")
    })
}

/// The steps from the current version to the target. The inner error is the reason why there are no
/// such steps; `--force` overrides it.
fn steps(
    data_dir: &str,
    current: Version,
    target: Version,
) -> CommandResult<Result<Vec<Version>, String>> {
    let newest = newest_entry(&Path::new(data_dir).join("member").join("wal"));
    let newest = newest.map_err(|why| {
        log(Level::Error, "Failed to finalize config", Object::zap().string("error", &why));
        failed(why)
    })?;
    let steps = storage::plan(current, target).map_err(|why| {
        if current.major != target.major {
            let fields = Object::zap()
                .string("storage-version", &current.to_string())
                .string("target-storage-version", &target.to_string());
            log(Level::Error, "Changing major storage version is not supported", fields);
        }
        format!("cannot create migration plan: {why}")
    });
    let is_newer = |newest: &Version| target < current && target < *newest;
    Ok(match (steps, newest.filter(is_newer)) {
        (Ok(_), Some(newest)) => Err(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version \
             ({target}) is lower than the version ({newest}) detected from WAL logs"
        )),
        (steps, _) => steps,
    })
}

/// The oldest version of etcd that can read all entries since the last snapshot of a log; `None`
/// for 3.5.
fn newest_entry(dir: &Path) -> Result<Option<Version>, String> {
    let snapshots = wal::valid_snapshots(&RealDisk, dir)
        .map_err(|error| format!("failed to get the lastest snapshot: {error}"))?;
    let snapshot = snapshots.last().map(|snapshot| snapshot.id).unwrap_or_default();
    let recovered = wal::read(&RealDisk, dir, &OpenAt::new(snapshot, Index(0)))
        .map_err(|error| format!("failed to open wal: {error}"))?;
    let mut newest = None;
    for entry in &recovered.entries {
        let needed = needed(entry).map_err(|why| format!("failed to read wal: {why}"))?;
        newest = newest.max(needed);
    }
    Ok(newest)
}

/// The version of etcd that an entry needs; `None` for 3.5. Only the request that etcd's own tests
/// of downgrades send needs a later one.
fn needed(entry: &Entry) -> Result<Option<Version>, String> {
    if entry.kind != EntryKind::Normal {
        return Ok(None);
    }
    let payload = v2store::classify(&entry.data);
    let test = match payload.map_err(|error| format!("entry {}: {error}", entry.id().index))? {
        EntryPayload::Request(request) => request.downgrade_version_test,
        // Members up to 3.6 write v2 requests.
        EntryPayload::V2(_) => None,
    };
    let Some(test) = test else { return Ok(None) };
    let version = Version::parse(&test.ver).map_err(|error| error.to_string())?;
    Ok(Some(version.max(V3_6)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::etcdserverpb::{InternalRaftRequest, Request};

    #[test]
    fn targets_are_read_and_refused_as_go_does() {
        assert_eq!(target("3.6"), Ok(V3_6));
        assert_eq!(target("3.6+a"), Ok(V3_6));
        for (text, why) in [
            ("3", "wrong target version format, expected \"X.Y\", got \"3\""),
            ("3.6.0", "wrong target version format, expected \"X.Y\", got \"3.6.0\""),
            ("", "wrong target version format, expected \"X.Y\", got \"\""),
            (
                "a.6",
                "failed to parse target version: strconv.ParseInt: parsing \"a\": invalid syntax",
            ),
            ("3-1.6", "failed to parse target version: 3 is not in dotted-tri format"),
            ("3.4", "target version \"3.4\" not supported. Minimal \"3.5\""),
        ] {
            assert_eq!(target(text), Err(why.to_string()));
        }
    }

    #[test]
    fn only_the_request_of_tests_needs_a_newer_etcd() {
        let entry = |request: InternalRaftRequest| Entry {
            term: proto::Term(1),
            index: Index(1),
            kind: EntryKind::Normal,
            data: request.encode_to_vec().into(),
        };
        let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
        assert_eq!(needed(&entry(put)), Ok(None));
        // When a member publishes its name, etcd 3.5 writes a v2 request.
        let publish = Request {
            method: Some("PUT".into()),
            path: Some("/0/members/1/attributes".into()),
            ..Default::default()
        };
        let old = Entry { data: publish.encode_to_vec().into(), ..entry(Default::default()) };
        assert_eq!(needed(&old), Ok(None));
        let test = |ver: &str| {
            let test = proto::etcdserverpb::DowngradeVersionTestRequest { ver: ver.to_string() };
            let downgrade_version_test = Some(test);
            entry(InternalRaftRequest { downgrade_version_test, ..Default::default() })
        };
        assert_eq!(needed(&test("3.5.0")), Ok(Some(V3_6)));
        let newer = Version { major: 3, minor: 8, patch: 0 };
        assert_eq!(needed(&test("3.8.0")), Ok(Some(newer)));
        assert!(needed(&test("x")).is_err());
        let garbled = Entry { data: vec![0xff].into(), ..test("3.8.0") };
        assert!(needed(&garbled).unwrap_err().starts_with("entry 1: "));
    }
}
