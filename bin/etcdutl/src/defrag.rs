//! `defrag`: rewrites the database of a member that is not running, without its unused space.
//!
//! The new file replaces the old one once it is complete and durable.
//!
//! Source: etcd v3.7.1 etcdutl/etcdutl/defrag_command.go, server/storage/backend/backend.go
//! `defrag`.

use crate::database::{self, Access};
use crate::failure::{Code, CommandResult, Failure};
use crate::{output, storage};
use bolt::{Db, View};
use cli::duration::GoDuration;
use cli::json::Object;
use cli::log::Level;
use cli::{Parsed, go};
use cluster::{SERVER_MINOR, Version};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use terminal::{Bar, Unit};
use vfs::{RealDisk, Vfs as _};

pub(crate) fn defrag(parsed: &Parsed) -> CommandResult {
    let data_dir = parsed.flags.text("data-dir");
    rewrite(&data_dir, parsed.flags.duration("timeout")).map_err(|Failure { code, message }| {
        code.with(format!("Failed to defragment etcd data[{data_dir}] ({message})"))
    })
}

fn rewrite(data_dir: &str, wait: Duration) -> CommandResult {
    let path = database::of_data_dir(data_dir)?;
    let start = Instant::now();
    // The old file stays locked until the new one replaces it.
    let db = database::open(&path, Access::Read, wait)?;
    let old = db.view();
    refuse_newer(storage::detect(&old)?)?;
    let fields = sizes(&path, &old, None);
    output::log(Level::Info, concat!(file!(), ":", line!()), "defragmenting", fields);
    let temporary = Temporary::beside(&path)?;
    let new = copy(&old, &temporary.path)?;
    replace(&temporary.path, &path)?;
    temporary.keep();
    let fields = sizes(&path, &new.view(), Some(&old))
        .string("took", &GoDuration::from(start.elapsed()).to_string());
    let message = "finished defragmenting directory";
    output::log(Level::Info, concat!(file!(), ":", line!()), message, fields);
    Ok(())
}

fn failed(error: impl ToString) -> Failure {
    Code::Error.with(error)
}

/// Fails if a newer etcd wrote the file: it may store data outside the buckets, which the copy
/// would lose.
pub(crate) fn refuse_newer(version: Option<Version>) -> CommandResult {
    match version {
        Some(version) if version > SERVER_MINOR => {
            Err(failed(format!("version \"{version}\" is not supported")))
        }
        _ => Ok(()),
    }
}

/// A new file in the directory of the database. It is removed on drop unless it is kept. After a
/// crash, the server removes it at its next start.
struct Temporary {
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    fn beside(db: &Path) -> CommandResult<Temporary> {
        let name = format!("db.tmp.{}", std::process::id());
        let path = db.with_file_name(name);
        if RealDisk.exists(&path).map_err(failed)? {
            return Err(failed(format!("{} exists", path.display())));
        }
        Ok(Temporary { path, is_kept: false })
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            // The caller reports the failure that led here, so this error is ignored.
            _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes all buckets into a new database, durably, and draws a progress bar.
pub(crate) fn copy(old: &View, path: &Path) -> CommandResult<Db> {
    let mut new = database::create(path, old)?;
    let bar = Bar::start(old.size_in_use(), Unit::Bytes);
    let mut copied = 0;
    let mut tx = new.begin();
    for bucket in old.buckets() {
        tx.create_bucket(bucket).map_err(failed)?;
        let mut cursor = old.cursor(bucket, false);
        let mut unreadable = None;
        let pairs = std::iter::from_fn(|| match cursor.next() {
            Ok(pair) => {
                let (key, value) = pair?;
                copied += (key.len() + value.len()) as u64;
                bar.set(copied);
                Some((key, Some(value)))
            }
            Err(error) => {
                unreadable = Some(error);
                None
            }
        });
        tx.apply(bucket, pairs).map_err(failed)?;
        if let Some(error) = unreadable {
            return Err(failed(error));
        }
    }
    tx.commit().map_err(failed)?;
    bar.set(old.size_in_use());
    Ok(new)
}

fn replace(from: &Path, to: &Path) -> CommandResult {
    RealDisk.rename(from, to).map_err(failed)?;
    let dir = to.parent().unwrap_or_else(|| Path::new("."));
    RealDisk.sync_dir(dir).map_err(failed)
}

/// The sizes of a database, and their differences from the sizes before.
fn sizes(path: &Path, view: &View, before: Option<&View>) -> Object {
    let difference = |fields: Object, name: &str, now: u64, before: Option<u64>| match before {
        Some(before) => fields.plain(name, i128::from(now) - i128::from(before)),
        None => fields,
    };
    let (size, in_use) = (view.size(), view.size_in_use());
    let fields = Object::zap().string("path", &path.display().to_string());
    let fields = difference(fields, "current-db-size-bytes-diff", size, before.map(View::size))
        .plain("current-db-size-bytes", size)
        .string("current-db-size", &go::bytes(size));
    let in_use_before = before.map(View::size_in_use);
    difference(fields, "current-db-size-in-use-bytes-diff", in_use, in_use_before)
        .plain("current-db-size-in-use-bytes", in_use)
        .string("current-db-size-in-use", &go::bytes(in_use))
}
