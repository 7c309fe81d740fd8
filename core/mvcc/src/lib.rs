//! The versions of keys: an index of them in memory, their values in the backend, and what can be
//! read of them: ranges at a revision, history, hashes. Not here: who may read (see `auth`), what
//! a transaction decides (see `state`), leases beyond the number that a key carries.
//!
//! - [`Store`] is the writer's, and is changed by one [`WriteTxn`] after the other.
//! - [`View`] is an immutable snapshot for readers.
//! - *Invariant:* values travel as they are stored, as encoded `mvccpb.KeyValue`s in [`bytes::Bytes`].
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
mod store;
mod view;
mod write;

pub use auth::KeyRange;
pub use compaction::Slice;
pub use cursor::{RangeCursor, Size, Step, Wait};
pub use error::{Error, Reject};
pub use event::{Event, EventBatch, EventKind};
pub use hash::{HashKv, RevisionHash};
pub use history::History;
pub use kv::{DecodeError, KeyValue};
pub use range::{DeleteRange, PastVersion, Put, RangeQuery};
pub use store::{FINISHED_COMPACT, Restored, SCHEDULED_COMPACT, Store};
pub use view::{KeyInfo, KeyWalk, View};
pub use write::{Changes, DeleteDone, LeaseChange, Ops, PutDone, WriteTxn};
