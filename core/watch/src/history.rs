//! What a shard reads of the store: what happened, and what was before.

use crate::Event;
use auth::Permitted;
use bytes::Bytes;
use mvcc::{PastVersion, View};
use std::ops::ControlFlow;

/// An unchanging view of the store with its history.
pub trait History {
    /// Why the store cannot be read.
    type Error;

    /// The revision of the newest change in the view.
    fn revision(&self) -> i64;

    /// Events below this revision are gone; not positive before the first compaction.
    fn compact_revision(&self) -> i64;

    /// Tells `visit` the events of all revisions from `from` to `to`, in order, until it breaks.
    /// `from` is not below the compact revision.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn replay(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// The encoded `mvccpb.KeyValue` of a key as it was at a revision; none when it was not there,
    /// or when the revision was compacted.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Self::Error>;
}

/// The store itself. Reading may wait for the disk.
impl History for View {
    type Error = mvcc::Error;

    fn revision(&self) -> i64 {
        View::revision(self)
    }

    fn compact_revision(&self) -> i64 {
        View::compact_revision(self)
    }

    fn replay(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), mvcc::Error> {
        let history = self.history(from, to)?;
        for event in history.expect("the caller has ended the watchers of compacted revisions") {
            if visit(event?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads a key that the watcher may read: its whole range was permitted when it was created.
    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, mvcc::Error> {
        if revision <= 0 {
            return Ok(None);
        }
        let version = PastVersion { key: Bytes::copy_from_slice(key), revision };
        Ok(self.get(&Permitted::internal(version))?.unwrap_or(None))
    }
}
