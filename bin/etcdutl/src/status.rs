//! `snapshot status`: a summary of a database file.
//!
//! Source: etcd v3.7.1 etcdutl/snapshot/v3_snapshot.go `Status`, etcdutl/printer*.go.

use crate::arguments::{format, one_argument};
use crate::database::{self, Access};
use crate::failure::{Code, CommandResult};
use crate::output;
use bolt::View;
use bytes::Bytes;
use cli::json::Object;
use cli::{Format, Parsed, go, table};
use prost::Message as _;
use proto::Revision;
use proto::mvccpb::KeyValue;
use std::collections::BTreeSet;
use std::path::Path;

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
    let path = Path::new(&path);
    database::must_exist(path)?;
    let format = format(parsed)?;
    let db = database::open(path, Access::Read, parsed.flags.duration("timeout"))?;
    let view = db.view();
    view.check().map_err(|error| {
        let text = "snapshot file integrity check failed. 1 errors found.";
        Code::Error.with(format!("{text}\n{error}"))
    })?;
    output::out(&printed(&read(&view)?, format)?);
    Ok(())
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

fn printed(status: &Status, format: Format) -> CommandResult<String> {
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
        Format::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {size}\n\
             \"Version\" : {version}\n"
        ),
        Format::Json => {
            let object = Object::new()
                .plain("hash", hash)
                .plain("revision", revision)
                .plain("totalKey", keys)
                .plain("totalSize", size)
                .string("version", version);
            object.done() + "\n"
        }
        Format::Table => {
            table(&["hash", "revision", "total keys", "total size", "version"], &[row()])
        }
        Format::Simple => row().join(", ") + "\n",
        Format::Protobuf => {
            return Err(Code::BadFeature.with("protobuf not supported as output format"));
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
        assert_eq!(printed(Format::Simple), "f6ee601d, 14, 4, 20 kB, 3.7.0\n");
        assert_eq!(
            printed(Format::Json),
            "{\"hash\":4142817309,\"revision\":14,\"totalKey\":4,\"totalSize\":20480,\
             \"version\":\"3.7.0\"}\n"
        );
        assert_eq!(
            printed(Format::Fields),
            "\"Hash\" : 4142817309\n\"Revision\" : 14\n\"Keys\" : 4\n\"Size\" : 20480\n\
             \"Version\" : 3.7.0\n"
        );
        assert_eq!(
            printed(Format::Table),
            "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
             │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
             ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
             │ f6ee601d │       14 │          4 │      20 kB │   3.7.0 │\n\
             └──────────┴──────────┴────────────┴────────────┴─────────┘\n"
        );
        assert!(super::printed(&status, Format::Protobuf).is_err());
    }
}
