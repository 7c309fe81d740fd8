//! `check v2store`: whether the newest snapshot has keys of the v2 API, which etcd 3.6 and later do
//! not serve.
//!
//! Source: etcd v3.5.30 etcdutl/etcdutl/check_command.go.

use crate::failure::{Code, CommandResult, Failure};
use crate::output;
use cli::Parsed;
use proto::EntryId;
use std::path::{Path, PathBuf};
use v2store::V2Tree;
use vfs::RealDisk;

pub(crate) fn v2store(parsed: &Parsed) -> CommandResult {
    let member = Path::new(&parsed.flags.text("data-dir")).join("member");
    let wal_dir = match parsed.flags.text("wal-dir") {
        dir if dir.is_empty() => member.join("wal"),
        dir => PathBuf::from(dir),
    };
    if let Some(tree) = newest_tree(&member.join("snap"), &wal_dir)?
        && tree.has_user_data()
    {
        return Err(failed("detected custom content in v2store"));
    }
    output::out("No custom content found in v2store.\n");
    Ok(())
}

fn failed(error: impl ToString) -> Failure {
    Code::Error.with(error)
}

/// The v2 store of the newest intact snapshot; `None` if there is no snapshot or no log. Nothing is
/// changed.
fn newest_tree(snap_dir: &Path, wal_dir: &Path) -> CommandResult<Option<V2Tree>> {
    if !wal::exists(&RealDisk, wal_dir).map_err(failed)? {
        return Ok(None);
    }
    let known = wal::valid_snapshots(&RealDisk, wal_dir).map_err(failed)?;
    for record in known.iter().rev().filter(|record| record.id != EntryId::default()) {
        let Ok(snap) = wal::snap::load(&RealDisk, snap_dir, record.id) else { continue };
        let tree = V2Tree::parse(&snap.data)
            .map_err(|error| failed(format!("failed to recover v2store from snapshot: {error}")))?;
        return Ok(Some(tree));
    }
    Ok(None)
}
