//! The write-ahead log and the `.snap` files: a raft log on disk, in etcd's format, so that etcd
//! can go on where we stop and we where it stops.
//!
//! Not here: the raft log in memory (`raft`), what entries mean (`state`), the database (`bolt`).
//!
//! - `frame.rs`, `record.rs`: the layouts. `segment.rs`, `walk.rs`: reading them.
//! - `replay.rs`, `open.rs`: from files to [`Recovered`]. `tail.rs`: torn or damaged.
//! - `write.rs`: [`Wal`]. `snap.rs`: the `.snap` files.
//!
//! Invariant: what [`Wal::open`] returns, and what [`Wal::sync`] confirmed, is durable.
//!
//! Source: etcd server/storage/wal and server/etcdserver/api/snap @ v3.7.1.

mod error;
mod frame;
mod name;
mod open;
mod record;
mod replay;
mod segment;
mod tail;
mod walk;
mod write;

pub mod snap;

pub use error::Error;
pub use open::{DumpedRecord, dump, exists, read, valid_snapshots};
pub use record::RecordKind;
pub use write::Wal;

use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId};
use std::path::PathBuf;

/// The length that a segment is given when it is made, in bytes; a batch that begins below it may
/// end above.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// Whose log it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u64,
}

/// That there is a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The last entry that it holds.
    pub id: EntryId,
    /// The configuration there. Absent in what etcd 3.4 wrote, and in the first record of a log.
    pub conf_state: Option<ConfState>,
}

/// From where a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenAt {
    /// A snapshot that the log knows; the zero value for none.
    pub snapshot: EntryId,
    /// The index up to which the database has applied the log: an end before it is damage.
    pub db_applied: Index,
    /// How many bytes of entries' data to return at most; the oldest are left out, but no entry
    /// behind `db_applied`.
    pub applied_bytes_max: u64,
    /// When a segment is full: [`SEGMENT_BYTES`], or less in simulations.
    pub segment_bytes: u64,
}

impl OpenAt {
    /// Everything behind the snapshot.
    #[must_use]
    pub fn new(snapshot: EntryId, db_applied: Index) -> OpenAt {
        OpenAt { snapshot, db_applied, applied_bytes_max: u64::MAX, segment_bytes: SEGMENT_BYTES }
    }
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose it is.
    pub metadata: Metadata,
    /// The last hard state; empty if there is none.
    pub hard_state: HardState,
    /// The entry before `entries`: the snapshot's, or one behind it when [`OpenAt`] limits bytes.
    pub before: EntryId,
    /// The entries, without a gap.
    pub entries: Vec<Entry>,
    /// The torn tail that was cut, for the operator to know.
    pub torn: Option<TornTail>,
}

/// The end of a log that a crash tore: nothing in it was ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// Where the segment as it was is kept; `None` if it was only read.
    pub copy: Option<PathBuf>,
}
