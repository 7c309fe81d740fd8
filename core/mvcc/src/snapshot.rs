//! The state that the writer changes and a view keeps: the index, the buckets, and two revisions.

use crate::index::Index;
use backend::ReadView;

/// The store as of one moment. A clone costs two reference counts.
///
/// - `revision` is at least 1, at least the compact revision, and the main revision of the newest
///   version in the index.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) index: Index,
    pub(crate) read: ReadView,
    /// The revision of the newest change.
    pub(crate) revision: i64,
    /// The revision below which versions are gone or being dropped; −1 before the first compaction.
    pub(crate) compact_revision: i64,
}
