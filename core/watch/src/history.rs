//! The part of the store that a shard reads: past events and previous values.

use crate::Event;
use auth::Permitted;
use bytes::Bytes;
use mvcc::{PastVersion, View};
use std::ops::ControlFlow;

/// An immutable view of the store and its history.
pub trait History {
    /// The error of reading the store.
    type Error;

    /// The revision of the newest change in the view.
    fn revision(&self) -> i64;

    /// Events below this revision are dropped; not positive before the first compaction.
    fn compact_revision(&self) -> i64;

    /// Calls `visit` with the events of all revisions from `from` to `to`, in order, until it
    /// breaks. `from` must not be below the compact revision.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn replay(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// The encoded `mvccpb.KeyValue` of a key at a revision; none if the key did not exist or the
    /// revision is compacted.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Self::Error>;
}

/// The store itself. Reads may wait for the disk.
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
        for event in history.expect("watchers of compacted revisions were canceled before") {
            if visit(event?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The watcher may read this key: its whole range was permitted when it was created.
    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, mvcc::Error> {
        if revision <= 0 {
            return Ok(None);
        }
        let version = PastVersion { key: Bytes::copy_from_slice(key), revision };
        Ok(self.get(&Permitted::internal(version))?.unwrap_or(None))
    }
}
