//! The index: the versions of each key, and where each is stored. It is a copy-on-write B+tree
//! whose inner nodes hold sums, so that a range is counted without visiting it. A clone is a
//! snapshot that no later change reaches, and costs one reference count. Not here: values, which
//! only the backend has.
//!
//! etcd keeps the versions of a key in generations, each of which ends with a tombstone. Here they
//! are one ascending list with the tombstones marked, which holds the same information. A reader
//! at a revision sees the newest version at or before it, unless that is a tombstone.
//!
//! Source: etcd v3.7 server/storage/mvcc/{index,key_index}.go.

mod build;
mod entry;
mod keys;
mod node;
mod older;
mod stored;
mod supersede;
mod tree;
mod walk;

pub(crate) use build::{RestoredVersion, VersionBatch};
pub(crate) use entry::KeyEntry;
pub(crate) use stored::{NewestVersion, StoredVersion};
pub(crate) use tree::Index;
pub(crate) use walk::Walk;

#[cfg(test)]
mod tests;
