//! The write-ahead log and the `.snap` files: a raft log on disk in etcd's format, so that a data
//! directory can go from etcd to this project and back.
//!
//! Not here: the raft log in memory (`raft`), the meaning of entries (`state`), the database
//! (`bolt`).
//!
//! - `frame.rs`, `record.rs`, `metadata.rs`, `name.rs`: the layouts.
//! - `segment.rs`, `walk.rs`: reading segments. `replay.rs`: from records to [`Recovered`].
//! - `tail.rs`: torn or damaged. `unsynced.rs`: frames that may not be durable.
//! - `places.rs`, `read_back.rs`: reading entries back.
//! - `write.rs`: [`Wal`]. `create.rs`, `open.rs`: its constructors. `dump.rs`: for tools.
//! - `snap.rs`: the `.snap` files.
//!
//! **Invariant:** the content that [`Wal::open`] returns and every batch that [`Wal::sync`]
//! confirmed is durable (tests/it/crash.rs, tests/it/failed_sync.rs).
//!
//! Source: etcd server/storage/wal and server/etcdserver/api/snap @ v3.7.1.

mod create;
mod dump;
mod error;
mod frame;
mod metadata;
mod name;
mod open;
mod places;
mod read_back;
mod record;
mod recovered;
mod replay;
mod segment;
mod tail;
mod unsynced;
mod walk;
mod write;

pub mod snap;

pub use dump::{DumpedRecord, dump, valid_snapshots};
pub use error::Error;
pub use metadata::{Metadata, SnapshotRecord};
pub use open::read;
pub use read_back::EntryRead;
pub use record::RecordKind;
pub use recovered::{OpenAt, Recovered, SEGMENT_BYTES, TornTail};
pub use walk::exists;
pub use write::Wal;
