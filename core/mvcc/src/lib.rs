//! Multi-version keys: an in-memory index of the versions, their values in the backend, and reads
//! of both: ranges at a revision, history, hashes. Not here: permission (see `auth`), the logic of
//! transactions (see `state`), leases beyond the id that a key carries.
//!
//! - [`Store`] belongs to the writer and is changed by one [`WriteTxn`] after the other.
//! - [`View`] is an immutable snapshot for readers.
//! - *Invariant:* values are passed on as they are stored, as encoded `mvccpb.KeyValue`s in
//!   [`bytes::Bytes`].
//!
//! Source: etcd v3.7 server/storage/mvcc.

#![forbid(unsafe_code)]

mod compaction;
mod cursor;
mod error;
mod event;
pub mod go_sort;
mod guard;
mod hash;
mod history;
mod index;
mod kv;
mod range;
mod snapshot;
mod store;
mod view;
mod write;

pub use auth::KeyRange;
pub use compaction::Slice;
pub use cursor::{RangeCursor, Size, Step, Wait};
pub use error::{Error, RequestError};
pub use event::{Event, EventBatch, EventKind};
pub use hash::{HashKv, RevisionHash};
pub use history::HistoryCursor;
pub use kv::{DecodeError, KeyValue};
pub use range::{DeleteRange, PastVersion, Put, RangeQuery};
pub use store::{FINISHED_COMPACT, Restored, SCHEDULED_COMPACT, Store};
pub use view::{KeyInfo, KeyWalk, View};
pub use write::{Changes, DeleteDone, LeaseChange, Ops, PutDone, WriteTxn};
