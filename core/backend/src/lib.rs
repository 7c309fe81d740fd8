//! Between what is replicated and the file: the buckets, batches of changes that carry the entry
//! they stand for, the overlay of batches that are applied and not yet in the file, reading both
//! as one, and the commit of a prefix of them in one transaction. Not here: the file's format
//! (see `bolt`), and what the buckets' contents mean.
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

pub use batch::{Batch, Dropped, Version};
pub use bolt::Lookup;
pub use bucket::Bucket;
pub use cursor::BucketCursor;
pub use error::Error;
pub use file::Backend;
pub use overlay::Overlay;
pub use view::{ReadView, VersionReader};
