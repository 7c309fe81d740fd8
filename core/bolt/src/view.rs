//! A view: an immutable state of the database as of one commit, and point reads from it.
//!
//! The pages that a view reaches are not reused, so the file grows while an old view is held. Views
//! are cheap to clone, can be read from any thread, and never wait for the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::Root;
use crate::check;
use crate::copy::Copier;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::page::{DEPTH_MAX, Kind, Page};
use crate::snapshot::Snapshot;

/// The database as of one commit.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) inner: Arc<Snapshot>,
}

/// The result of a lookup that does not wait for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The value.
    Found(Bytes),
    /// The key does not exist.
    Missing,
    /// The lookup needs pages that are not in memory.
    NeedsDisk,
}

/// The value of `key` in a leaf; nested buckets have no value.
fn value_in(leaf: &Page, key: &[u8]) -> Option<Bytes> {
    match leaf.search(key) {
        Ok(index) if !leaf.is_bucket(index) => Some(leaf.value(index)),
        Ok(_) | Err(_) => None,
    }
}

impl View {
    /// The value of `key` in `bucket`; `None` also if the bucket does not exist. The value shares
    /// the memory of its page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.reader(bucket).get(key)
    }

    /// Like [`View::get`], but does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn try_get(&self, bucket: &[u8], key: &[u8]) -> Result<Lookup, Error> {
        self.reader(bucket).try_get(key)
    }

    /// A reader for many keys of one bucket.
    #[must_use]
    pub fn reader(&self, bucket: &[u8]) -> Reader {
        let root = self.inner.buckets.get(bucket).map(|bucket| bucket.root.clone());
        Reader { inner: Arc::clone(&self.inner), root, leaf: None, branches: BTreeMap::new() }
    }

    /// A cursor before the first key of `bucket`; an empty one if the bucket does not exist. If
    /// not `cached` it reads ahead and bypasses the page cache, for scans.
    #[must_use]
    pub fn cursor(&self, bucket: &[u8], cached: bool) -> Cursor {
        let root = self.inner.buckets.get(bucket).map(|bucket| bucket.root.clone());
        Cursor::new(Arc::clone(&self.inner), root, cached)
    }

    /// The names of the buckets, sorted.
    pub fn buckets(&self) -> impl Iterator<Item = &Bytes> {
        self.inner.buckets.keys()
    }

    /// Whether the bucket exists.
    #[must_use]
    pub fn has_bucket(&self, name: &[u8]) -> bool {
        self.inner.buckets.contains_key(name)
    }

    /// The size of the file in bytes: high-water mark times page size, not its length on disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.size()
    }

    /// The bytes in the page cache, of all files that share it.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.inner.pager.cache_bytes()
    }

    /// [`View::size`] less the pages that were free at the commit.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        (self.inner.meta.hwm - self.inner.free_pages) * self.inner.meta.page_size as u64
    }

    /// The page size in bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.inner.meta.page_size
    }

    /// The number of the commit.
    #[must_use]
    pub fn tx_id(&self) -> u64 {
        self.inner.meta.txid
    }

    /// Checks all pages that the view reaches: each is valid and reached once, and its keys are in
    /// order and within the bounds of the branches.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the first page at fault, or [`Error::Io`].
    pub fn check(&self) -> Result<(), Error> {
        check::view(&self.inner)
    }

    /// The database as one self-contained file, in chunks.
    #[must_use]
    pub fn copy(&self) -> Copier {
        Copier::new(Arc::clone(&self.inner))
    }
}

/// The most branch pages that a [`Reader`] keeps. One of 4 KiB leads to about 120 leaves of the
/// bucket `key`.
const KEPT_BRANCHES_MAX: usize = 64;

/// Reads keys of one bucket. It keeps the last leaf, so that reads of neighbours are cheap, and from
/// the second read on the branches, so that a further read takes only a leaf from the cache, whose
/// locks and counts are shared by all threads.
#[derive(Clone, Debug)]
pub struct Reader {
    inner: Arc<Snapshot>,
    root: Option<Root>,
    leaf: Option<Page>,
    branches: BTreeMap<u64, Page>,
}

impl Reader {
    /// The kept leaf, if it covers `key`.
    fn near(&self, key: &[u8]) -> Option<&Page> {
        let leaf = self.leaf.as_ref()?;
        let count = leaf.count();
        (count > 0 && leaf.key(0) <= key && key <= leaf.key(count - 1)).then_some(leaf)
    }

    /// Finds the leaf for `key` and keeps it; `None` if `fetch` returns no page.
    fn descend(
        &mut self,
        key: &[u8],
        fetch: impl Fn(&Snapshot, u64) -> Result<Option<Page>, Error>,
    ) -> Result<Option<&Page>, Error> {
        let mut id = match &self.root {
            None => return Ok(None),
            Some(Root::Inline(page)) => return Ok(Some(self.leaf.insert(page.clone()))),
            Some(Root::Page(id)) => *id,
        };
        let keeps_branches = self.leaf.is_some();
        for _ in 0..DEPTH_MAX {
            if let Some(branch) = self.branches.get(&id) {
                id = branch.child(branch.child_index(key));
                continue;
            }
            let Some(page) = fetch(&self.inner, id)? else { return Ok(None) };
            if page.kind() == Kind::Leaf {
                return Ok(Some(self.leaf.insert(page)));
            }
            let child = page.child(page.child_index(key));
            if keeps_branches && self.branches.len() < KEPT_BRANCHES_MAX {
                self.branches.insert(id, page);
            }
            id = child;
        }
        Err(self.inner.pager.corrupt(id, "a tree deeper than any writer makes"))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(leaf) = self.near(key) {
            return Ok(value_in(leaf, key));
        }
        let leaf = self.descend(key, |inner, id| inner.pager.page(id, inner.meta.hwm).map(Some))?;
        Ok(leaf.and_then(|leaf| value_in(leaf, key)))
    }

    /// Like [`Reader::get`], but does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn try_get(&mut self, key: &[u8]) -> Result<Lookup, Error> {
        let found = |value: Option<Bytes>| value.map_or(Lookup::Missing, Lookup::Found);
        if let Some(leaf) = self.near(key) {
            return Ok(found(value_in(leaf, key)));
        }
        if self.root.is_none() {
            return Ok(Lookup::Missing);
        }
        let leaf = self.descend(key, |inner, id| inner.pager.try_page(id, inner.meta.hwm))?;
        Ok(leaf.map_or(Lookup::NeedsDisk, |leaf| found(value_in(leaf, key))))
    }
}
