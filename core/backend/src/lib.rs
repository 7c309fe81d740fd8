//! The storage below the replicated state: buckets in one database file, batches of changes with
//! the entry they belong to, the overlay of applied batches that are not committed yet, views that
//! read overlay and file as one, and the commit of a prefix of the overlay in one transaction.
//!
//! `bolt` has the file format. The crates above know what the buckets contain.
//!
//! Source: etcd v3.7 server/storage/backend, server/storage/schema.

#![forbid(unsafe_code)]

mod base;
mod batch;
mod bucket;
mod cursor;
mod error;
mod file;
pub mod meta;
mod overlay;
mod snapshot;
mod view;

pub use batch::{Batch, Dropped, StoredVersion};
pub use bolt::Lookup;
pub use bucket::Bucket;
pub use cursor::BucketCursor;
pub use error::Error;
pub use file::Backend;
pub use overlay::Overlay;
pub use view::{ReadView, VersionReader};
