//! A B+tree in one file, copy-on-write, in bbolt's format: etcd's backend file.
//!
//! There is one writer ([`Tx`]) and any number of readers ([`View`]), which never wait for each
//! other. The file is read into a bounded [`PageCache`] and never mapped, so memory is bounded and
//! a damaged page is an [`Error`] with the file and the page.
//!
//! Start at [`Db`]. `page`, `meta` and `bucket` define the format; `apply` and `pack` merge changes
//! into a tree; `map` and `free` know the free pages; `scan` finds them at open; `shrink` gives
//! space back.
//!
//! The crate `backend` has etcd's buckets.
//!
//! ```
//! # use std::{path::Path, sync::Arc};
//! # use bytes::Bytes;
//! # fn main() -> Result<(), bolt::Error> {
//! # let disk = vfs::SimDisk::new(1);
//! let cache = Arc::new(bolt::PageCache::new(16 << 20));
//! let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
//! let mut db = bolt::Db::open(&disk, Path::new("db"), options)?;
//! let mut tx = db.begin();
//! tx.create_bucket(b"key")?;
//! tx.put(b"key", Bytes::from("a"), Bytes::from("1"))?;
//! let view = tx.commit()?;
//! assert_eq!(view.get(b"key", b"a")?, Some(Bytes::from("1")));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod apply;
mod bucket;
mod cache;
mod check;
mod copy;
mod cursor;
mod db;
mod error;
mod free;
mod map;
mod meta;
mod pack;
mod packing;
mod page;
mod pager;
mod relocate;
mod scan;
mod shrink;
mod snapshot;
mod state;
mod sync;
mod tx;
mod view;
mod writer;

pub use cache::PageCache;
pub use copy::Copier;
pub use cursor::Cursor;
pub use db::{Db, Options};
pub use error::{Error, UsageError};
pub use page::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use tx::Tx;
pub use view::{Lookup, Reader, View};
