//! The arguments and the result of opening a log.

use crate::metadata::Metadata;
use proto::{Entry, EntryId, HardState, Index};
use std::path::PathBuf;

/// The length to which a new segment is allocated, in bytes. A batch that begins below it may end
/// above it.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// Where to begin reading a log, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenAt {
    /// A snapshot that the log has a record of; the zero value for none.
    pub snapshot: EntryId,
    /// The applied index of the database. A log that ends before it is damaged.
    pub db_applied: Index,
    /// The most bytes of entry data to return. The oldest entries are left out, but none after
    /// `db_applied`.
    pub applied_bytes_max: u64,
    /// The length at which a segment is full: [`SEGMENT_BYTES`], or less in simulations.
    pub segment_bytes: u64,
}

impl OpenAt {
    /// All entries after the snapshot.
    #[must_use]
    pub fn new(snapshot: EntryId, db_applied: Index) -> OpenAt {
        OpenAt { snapshot, db_applied, applied_bytes_max: u64::MAX, segment_bytes: SEGMENT_BYTES }
    }
}

/// The content of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The member and the cluster that the log belongs to.
    pub metadata: Metadata,
    /// The last hard state; empty if there is none.
    pub hard_state: HardState,
    /// The entry before `entries`: the snapshot's, or a later one if [`OpenAt`] limits the bytes.
    pub before: EntryId,
    /// The entries, without a gap.
    pub entries: Vec<Entry>,
    /// The torn tail that was cut, for the operator.
    pub torn: Option<TornTail>,
}

/// The end of a log that a crash tore. Nothing in it was ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// A copy of the segment as it was found; `None` if the log was opened only for reading or the
    /// copy failed.
    pub copy: Option<PathBuf>,
}
