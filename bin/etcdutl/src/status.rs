//! `snapshot status`: a summary of a database file.
//!
//! Source: etcd v3.7.1 etcdutl/snapshot/v3_snapshot.go `Status`, etcdutl/printer*.go.

use crate::arguments::one_argument;
use crate::failure::{Code, CommandResult, io_failure};
use crate::output;
use bolt::{Db, Options, PageCache, View};
use bytes::Bytes;
use cli::json::Object;
use cli::{Parsed, go, table};
use prost::Message as _;
use proto::Revision;
use proto::mvccpb::KeyValue;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfs::RealDisk;

const PAGE_CACHE_BYTES: usize = 16 << 20;
const NEW_PAGE_SIZE: usize = 4096;

/// The summary of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    /// CRC-32C over the names, keys and values of all buckets.
    hash: u32,
    /// The latest revision.
    revision: i64,
    /// Keys that are not deleted.
    keys: usize,
    /// The database's size in bytes.
    size: u64,
    /// The storage version; empty if the file has none.
    version: String,
}

pub(crate) fn status(parsed: &Parsed) -> CommandResult {
    let path = one_argument(parsed)?;
    std::fs::metadata(&path).map_err(|error| io_failure("stat", &path, &error))?;
    let format = parsed.flags.text("write-out");
    if !["simple", "fields", "json", "protobuf", "table"].contains(&format.as_str()) {
        return Err(Code::BadFeature.with("unsupported output format"));
    }
    let db = open(Path::new(&path), true, parsed.flags.duration("timeout"))?;
    let view = db.view();
    view.check().map_err(|error| {
        let text = "snapshot file integrity check failed. 1 errors found.";
        Code::Error.with(format!("{text}\n{error}"))
    })?;
    output::out(&printed(&read(&view)?, &format)?);
    Ok(())
}

/// Opens a database, waiting for its lock.
///
/// # Errors
/// When it is not a database, is damaged, cannot be read, or stays locked.
pub(crate) fn open(path: &Path, read_only: bool, wait: Duration) -> CommandResult<Db> {
    const PAUSE: Duration = Duration::from_millis(50);
    let start = Instant::now();
    loop {
        let cache = Arc::new(PageCache::new(PAGE_CACHE_BYTES));
        let options = Options { new_page_size: NEW_PAGE_SIZE, cache, read_only };
        match Db::open(&RealDisk, path, options) {
            // A timeout of zero means none.
            Err(bolt::Error::Locked { .. }) if wait.is_zero() || start.elapsed() < wait => {
                std::thread::sleep(PAUSE);
            }
            Err(bolt::Error::Locked { .. }) => return Err(Code::Error.with("timeout")),
            Err(error) if is_no_database(path) => {
                return Err(Code::Error.with(format!("invalid database ({error})")));
            }
            other => return other.map_err(|error| Code::Error.with(error)),
        }
    }
}

/// True if the path is not a file, or the file is too short for a database.
fn is_no_database(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| !file.is_file() || file.len() < 2 * 1024)
}

fn read(view: &View) -> CommandResult<Status> {
    let mut hash = 0;
    let (mut revision, mut keys) = (0, BTreeSet::new());
    let buckets: Vec<Bytes> = view.buckets().cloned().collect();
    for bucket in &buckets {
        hash = crc32c::crc32c_append(hash, bucket);
        let mut cursor = view.cursor(bucket, false);
        while let Some((key, value)) = cursor.next().map_err(|error| Code::Error.with(error))? {
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &value);
            if bucket.as_ref() == b"key" {
                revision = add_version(&key, &value, &mut keys)?;
            }
        }
    }
    let version = view.get(b"meta", b"storageVersion").map_err(|error| Code::Error.with(error))?;
    Ok(Status {
        hash,
        revision,
        keys: keys.len(),
        size: view.size(),
        version: String::from_utf8_lossy(&version.unwrap_or_default()).into_owned(),
    })
}

/// Adds a version of a key to the set of live keys; returns its revision.
fn add_version(key: &Bytes, value: &Bytes, keys: &mut BTreeSet<Bytes>) -> CommandResult<i64> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| {
        let key = go::quote(key);
        Code::Error.with(format!(
            "error during bucket key iteration, name: \"key\" err: cannot {what}: {key} err: {why}"
        ))
    };
    let (revision, tombstone) =
        Revision::from_bytes(key).map_err(|why| wrong("parse revision key", &why))?;
    let kv = KeyValue::decode(value.clone()).map_err(|why| wrong("unmarshal value, key", &why))?;
    if tombstone {
        keys.remove(&kv.key);
    } else {
        keys.insert(kv.key);
    }
    Ok(revision.main)
}

fn printed(status: &Status, format: &str) -> CommandResult<String> {
    let Status { hash, revision, keys, size, version } = status;
    let row = || {
        vec![
            format!("{hash:x}"),
            revision.to_string(),
            keys.to_string(),
            go::bytes(*size),
            version.clone(),
        ]
    };
    Ok(match format {
        "fields" => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {size}\n\
             \"Version\" : {version}\n"
        ),
        "json" => {
            let object = Object::new()
                .plain("hash", hash)
                .plain("revision", revision)
                .plain("totalKey", keys)
                .plain("totalSize", size)
                .string("version", version);
            object.done() + "\n"
        }
        "table" => table(&["hash", "revision", "total keys", "total size", "version"], &[row()]),
        "simple" => row().join(", ") + "\n",
        other => {
            return Err(Code::BadFeature.with(format!("{other} not supported as output format")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_printed_as_go_does() {
        let version = "3.7.0".to_string();
        let status = Status { hash: 0xf6ee_601d, revision: 14, keys: 4, size: 20480, version };
        let printed = |format| printed(&status, format).unwrap();
        assert_eq!(printed("simple"), "f6ee601d, 14, 4, 20 kB, 3.7.0\n");
        assert_eq!(
            printed("json"),
            "{\"hash\":4142817309,\"revision\":14,\"totalKey\":4,\"totalSize\":20480,\
             \"version\":\"3.7.0\"}\n"
        );
        assert_eq!(
            printed("fields"),
            "\"Hash\" : 4142817309\n\"Revision\" : 14\n\"Keys\" : 4\n\"Size\" : 20480\n\
             \"Version\" : 3.7.0\n"
        );
        assert_eq!(
            printed("table"),
            "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
             │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
             ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
             │ f6ee601d │       14 │          4 │      20 kB │   3.7.0 │\n\
             └──────────┴──────────┴────────────┴────────────┴─────────┘\n"
        );
        assert!(super::printed(&status, "protobuf").is_err());
    }
}
