//! A mirror: copies the keys of one cluster to another, and then every change.
//!
//! A read of the destination never shows a part of a revision of the source, unless the revision
//! has more operations than a transaction may have. Revisions, versions and leases are not copied
//! (the deletion of an expired key is). Keys that only the destination has are not deleted.
//!
//! Source: etcd v3.7.1 client/v3/mirror/syncer.go, etcdctl/ctlv3/command/make_mirror_command.go.

mod batch;
mod options;
mod pages;
#[cfg(test)]
mod tests;

pub use options::MirrorOptions;

use crate::call::Client;
use crate::error::Error;
use batch::batches;
use options::put;
use pages::Pages;
use proto::etcdserverpb as pb;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::{JoinError, JoinSet};
use tonic::Status;

/// How many puts of a copy run at a time. Their order does not matter, since each key is put once.
const PUTS_MAX: usize = 64;

/// Copies keys from a source to a destination.
///
/// ```no_run
/// # async fn example(source: client::Client, destination: client::Client) -> Result<(), client::Error> {
/// use client::{Mirror, MirrorOptions};
///
/// let mirror = Mirror::new(source, destination, MirrorOptions::of_prefix("app/"));
/// let copied = mirror.copy().await?;
/// // Only an error ends it.
/// Err(mirror.follow(copied + 1).await)
/// # }
/// ```
#[derive(Debug)]
pub struct Mirror {
    source: Client,
    destination: Client,
    options: MirrorOptions,
    copied: AtomicU64,
    /// The number of keys of the copy; 0 before the first page.
    total: AtomicU64,
}

impl Mirror {
    /// A mirror from `source` to `destination`.
    #[must_use]
    pub fn new(source: Client, destination: Client, options: MirrorOptions) -> Mirror {
        let (copied, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Mirror { source, destination, options, copied, total }
    }

    /// The number of keys and changes that the destination has confirmed.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// The number of keys that [`Mirror::copy`] copies; 0 before it knows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Copies all keys to the destination as they are at one revision of the source. Returns that
    /// revision.
    ///
    /// # Errors
    /// When a read or a put fails; also if the revision is compacted before everything is read.
    pub async fn copy(&self) -> Result<i64, Error> {
        let (first, end) = self.options.range();
        let mut pages = Pages::new(&self.source, first, end);
        let mut puts = JoinSet::new();
        while let Some(page) = pages.next().await? {
            self.total.store(pages.total(), Ordering::Relaxed);
            for kv in page {
                if puts.len() >= PUTS_MAX {
                    self.finish_one(&mut puts).await?;
                }
                let (destination, put) = (self.destination.clone(), put(&kv, &self.options));
                puts.spawn(async move { destination.put(put).await.map(drop) });
            }
        }
        while !puts.is_empty() {
            self.finish_one(&mut puts).await?;
        }
        Ok(pages.revision())
    }

    async fn finish_one(&self, puts: &mut JoinSet<Result<(), Error>>) -> Result<(), Error> {
        let failed = |_: JoinError| Status::internal("the mirror's task for a put has failed");
        if let Some(done) = puts.join_next().await {
            done.map_err(failed)??;
            self.count(1);
        }
        Ok(())
    }

    /// Copies each change from a revision on to the destination, in order, until a request fails or
    /// the watch of the source ends, for example because the revision is compacted. Returns the
    /// error.
    pub async fn follow(&self, first_revision: i64) -> Error {
        let (key, range_end) = self.options.range();
        let request = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: first_revision,
            // If none of these keys changes for long, progress notifications move the revision at
            // which the watch resumes, so that it is not compacted.
            progress_notify: true,
            ..pb::WatchCreateRequest::default()
        };
        let mut changes = self.source.watch(request).await;
        while let Some(update) = changes.next().await {
            if let Some(error) = update.error {
                return error;
            }
            for batch in batches(update.response.events, &self.options) {
                if let Err(error) = self.commit(batch).await {
                    return error;
                }
            }
        }
        Status::internal("the watch of the source has ended without a reason").into()
    }

    async fn commit(&self, batch: Vec<pb::RequestOp>) -> Result<(), Error> {
        let count = batch.len();
        let txn = pb::TxnRequest { success: batch, ..pb::TxnRequest::default() };
        self.destination.txn(txn).await?;
        self.count(count);
        Ok(())
    }

    fn count(&self, more: usize) {
        self.copied.fetch_add(more as u64, Ordering::Relaxed);
    }
}
