//! `--bootstrap-defrag-threshold-megabytes`: at the start, the database is defragmented if that frees as
//! much. etcd does it before it serves; here requests are served meanwhile.
//!
//! Source: etcd server/etcdserver/bootstrap.go `maybeDefragBackend` @ v3.7.1.

use crate::config::Config;
use cli::go;
use peer::remote::{self, RemoteError};
use server::Handle;
use std::io;
use std::thread;

/// Decides, and logs a decision against it with etcd's fields.
pub(crate) fn is_due(config: &Config, database: &bolt::View) -> bool {
    let threshold = config.member.storage.defragments_from;
    if threshold == 0 {
        return false;
    }
    let (size, in_use) = (database.size(), database.size_in_use());
    let is_due = size.saturating_sub(in_use) >= threshold;
    if !is_due {
        tracing::info!(
            "current-db-size-bytes" = size,
            "current-db-size" = go::bytes(size),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = go::bytes(in_use),
            "bootstrap-defrag-threshold-bytes" = threshold,
            "bootstrap-defrag-threshold" = go::bytes(threshold),
            "Skipping defragmentation"
        );
    }
    is_due
}

/// Defragments the database of a running member, in a thread of its own.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn begin(handle: Handle) -> io::Result<()> {
    let work = move || {
        let done = remote::blocking(async {
            let work = |worker: server::Worker| async move { api::defragment(&worker).await };
            let unreachable = |error: String| RemoteError::Unreachable(error);
            let done =
                handle.on_worker(work).await.map_err(|error| unreachable(error.to_string()))?;
            done.map_err(|status| unreachable(status.message.into_owned()))
        });
        if let Err(error) = done {
            tracing::warn!(%error, "failed to defragment the database at the start");
        }
    };
    thread::Builder::new().name("defragmentation".to_owned()).spawn(work).map(drop)
}
