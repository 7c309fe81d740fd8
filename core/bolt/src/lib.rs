//! A B+tree in one file, copy-on-write, in bbolt's format: etcd's backend file.
//!
//! One writer ([`Tx`]), any number of readers ([`View`]); readers never wait for the writer, nor
//! it for them. The file is read with plain reads into a bounded [`PageCache`], never mapped: a
//! bad page is an [`Error`] that names the file and the page, and memory has a bound.
//!
//! Start at [`Db`]. The format is told in `page`, `meta` and `bucket`; `apply` and `pack` are how
//! changes get into a tree; `map` knows what is free; `scan` finds that out at open.
//!
//! Not here: etcd's buckets and what is in them (crate `backend`).
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
