//! A write transaction: collects changes, merges them into the trees, and commits.
//!
//! A commit writes the pages, calls **fdatasync**, writes the meta, and calls **fdatasync** again.
//! Only then do readers see it. The pages of a long commit are synced in pieces (`writer.rs`). No
//! freelist is written, as etcd configures bbolt.
//!
//! Source: bbolt tx.go @ v1.4.3 `Commit`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::apply::{Action, Op, apply, check_put};
use crate::bucket::{self, Bucket, OpenBucket, Root, inline_page};
use crate::error::{Error, UsageError};
use crate::map::TreeId;
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{DEPTH_MAX, ITEM_BUCKET, Kind, Page};
use crate::pager::Pager;
use crate::shrink;
use crate::snapshot::Snapshot;
use crate::state::WriterState;
use crate::view::View;
use crate::writer::PageWriter;

/// The write transaction. Dropping it without a commit discards its changes.
#[derive(Debug)]
pub struct Tx<'a> {
    pager: Arc<Pager>,
    writer: PageWriter<'a>,
    state: &'a mut WriterState,
    /// Buckets touched by this transaction; `None`: deleted.
    buckets: BTreeMap<Bytes, Option<OpenBucket>>,
    /// A call failed, so the transaction cannot be committed.
    broken: bool,
    done: bool,
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.writer.roll_back();
        }
    }
}

/// The operation for a key and value; `None` deletes.
fn op((key, value): (Bytes, Option<Bytes>)) -> Op {
    let action = match value {
        Some(value) => Action::Put { value, flags: 0 },
        None => Action::Delete,
    };
    Op { key, action }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(writer: PageWriter<'a>, state: &'a mut WriterState) -> Tx<'a> {
        Tx {
            pager: Arc::clone(writer.pager()),
            writer,
            state,
            buckets: BTreeMap::new(),
            broken: false,
            done: false,
        }
    }

    fn usable(&self) -> Result<(), Error> {
        if self.state.poisoned {
            return Err(Error::Poisoned { file: self.pager.path().to_path_buf() });
        }
        if self.state.read_only {
            return Err(UsageError::ReadOnly.into());
        }
        if self.broken {
            return Err(UsageError::Aborted.into());
        }
        Ok(())
    }

    /// Records a failure. After an I/O error the database is poisoned.
    fn noting<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.broken = true;
            self.state.poisoned |= matches!(error, Error::Io { .. });
        }
        result
    }

    fn open(&mut self, name: &[u8]) -> Result<&mut OpenBucket, UsageError> {
        if !self.buckets.contains_key(name) {
            let (name, bucket) =
                self.state.current.inner.buckets.get_key_value(name).ok_or(UsageError::NoBucket)?;
            let open = OpenBucket::new(bucket.clone());
            self.buckets.insert(name.clone(), Some(open));
        }
        self.buckets.get_mut(name).and_then(Option::as_mut).ok_or(UsageError::NoBucket)
    }

    /// Creates a bucket if it does not exist; true if it was created.
    ///
    /// # Errors
    /// [`UsageError::EmptyKey`], [`UsageError::KeyTooLarge`]; [`Error::Poisoned`].
    pub fn create_bucket(&mut self, name: &[u8]) -> Result<bool, Error> {
        self.usable()?;
        check_put(name, &[])?;
        if self.open(name).is_ok() {
            return Ok(false);
        }
        let name = Bytes::copy_from_slice(name);
        let tree = self.state.tree_ids.of(&name);
        let bucket = Bucket { tree, sequence: 0, root: Root::Inline(inline_page(&[])) };
        let open = OpenBucket { changed: true, ..OpenBucket::new(bucket) };
        self.buckets.insert(name, Some(open));
        Ok(true)
    }

    /// Deletes a bucket with its contents; false if it does not exist.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<bool, Error> {
        self.usable()?;
        let Ok(open) = self.open(name) else { return Ok(false) };
        let root = open.bucket.root.clone();
        let freed = self.free_tree(root);
        self.noting(freed)?;
        self.buckets.insert(Bytes::copy_from_slice(name), None);
        Ok(true)
    }

    fn free_tree(&mut self, root: Root) -> Result<(), Error> {
        // Page ids with their depth. Inline pages have no id; their nested buckets have.
        let mut inline: Vec<Page> = Vec::new();
        let mut pages: Vec<(u64, usize)> = Vec::new();
        match root {
            Root::Inline(page) => inline.push(page),
            Root::Page(id) => pages.push((id, 0)),
        }
        loop {
            let (page, depth) = if let Some(page) = inline.pop() {
                (page, 0)
            } else if let Some((id, depth)) = pages.pop() {
                let page = self.writer.read(id)?;
                self.writer.free(&page)?;
                (page, depth)
            } else {
                return Ok(());
            };
            if depth > 2 * DEPTH_MAX {
                return Err(self.writer.corrupt(page.id(), "a tree deeper than any writer makes"));
            }
            for index in 0..page.count() {
                match page.kind() {
                    Kind::Branch => pages.push((page.child(index), depth + 1)),
                    Kind::Leaf if page.is_bucket(index) => {
                        let (root, _) = bucket::decode(&page.value(index))
                            .map_err(|what| self.writer.corrupt(page.id(), what))?;
                        match root {
                            Root::Inline(page) => inline.push(page),
                            Root::Page(id) => pages.push((id, depth + 1)),
                        }
                    }
                    Kind::Leaf => {}
                }
            }
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`UsageError`] for a missing bucket or a key or value out of bounds; [`Error::Poisoned`].
    pub fn put(&mut self, bucket: &[u8], key: Bytes, value: Bytes) -> Result<(), Error> {
        self.usable()?;
        check_put(&key, &value)?;
        self.open(bucket)?.ops.insert(key, Some(value));
        Ok(())
    }

    /// Deletes a key; true if it existed.
    ///
    /// # Errors
    /// [`UsageError::NoBucket`]; [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    pub fn delete(&mut self, bucket: &[u8], key: &[u8]) -> Result<bool, Error> {
        self.usable()?;
        let found = self.get(bucket, key)?.is_some();
        if found {
            self.open(bucket)?.ops.insert(Bytes::copy_from_slice(key), None);
        }
        Ok(found)
    }

    /// The value of a key as the transaction sees it.
    ///
    /// # Errors
    /// [`UsageError::NoBucket`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&mut self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        let open = self.open(bucket)?;
        if let Some(value) = open.ops.get(key) {
            return Ok(value.clone());
        }
        let root = open.bucket.root.clone();
        let found = self.find(&root, key);
        self.noting(found)
    }

    fn find(&mut self, root: &Root, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut page = match root {
            Root::Inline(page) => page.clone(),
            Root::Page(id) => self.writer.read(*id)?,
        };
        for _ in 0..DEPTH_MAX {
            match page.kind() {
                Kind::Leaf => {
                    let found = page.search(key).ok().filter(|index| !page.is_bucket(*index));
                    return Ok(found.map(|index| page.value(index)));
                }
                Kind::Branch => page = self.writer.read(page.child(page.child_index(key)))?,
            }
        }
        Err(self.writer.corrupt(page.id(), "a tree deeper than any writer makes"))
    }

    /// Applies many changes in strictly ascending key order; `None` deletes. Pages are written as
    /// soon as they are complete, so little memory is needed.
    ///
    /// # Errors
    /// [`UsageError`] as for [`Tx::put`], after which the transaction cannot be committed;
    /// [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    ///
    /// # Panics
    /// If the keys do not ascend strictly.
    pub fn apply(
        &mut self,
        bucket: &[u8],
        ops: impl Iterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<(), Error> {
        self.usable()?;
        self.open(bucket)?;
        let merged = self.merge(bucket).and_then(|()| self.merge_ops(bucket, &mut ops.map(op)));
        self.noting(merged)
    }

    fn merge_ops(&mut self, name: &[u8], ops: &mut dyn Iterator<Item = Op>) -> Result<(), Error> {
        let Some(Some(open)) = self.buckets.get_mut(name) else { return Ok(()) };
        let mut ops = ops.peekable();
        if ops.peek().is_none() {
            return Ok(());
        }
        open.changed = true;
        let Bucket { root, tree, .. } = &mut open.bucket;
        *root = apply(&mut self.writer, root, *tree, &mut ops)?;
        Ok(())
    }

    /// Merges the collected changes of a bucket.
    fn merge(&mut self, name: &[u8]) -> Result<(), Error> {
        let Some(Some(open)) = self.buckets.get_mut(name) else { return Ok(()) };
        let ops = std::mem::take(&mut open.ops);
        self.merge_ops(name, &mut ops.into_iter().map(op))
    }

    /// Commits the changes durably, and returns the new view, or the current view if nothing
    /// changed. Also gives back a bounded part of unused space.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`]. Readers then see the old state.
    /// After an I/O error no later commit succeeds, and the file has the old or the new state.
    pub fn commit(self) -> Result<View, Error> {
        self.commit_observed(&mut || {})
    }

    /// As [`Tx::commit`]. Calls `writing` when the new pages are built and the first of the last
    /// writes begins, so that the caller can measure both parts.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub fn commit_observed(mut self, writing: &mut dyn FnMut()) -> Result<View, Error> {
        self.usable()?;
        let result = self.try_commit(writing);
        self.noting(result)
    }

    fn try_commit(&mut self, writing: &mut dyn FnMut()) -> Result<View, Error> {
        let names: Vec<Bytes> = self.buckets.keys().cloned().collect();
        for name in &names {
            self.merge(name)?;
        }
        shrink::step(&mut self.writer, self.state, &mut self.buckets)?;
        let changed = |open: &Option<OpenBucket>| open.as_ref().is_none_or(|open| open.changed);
        self.buckets.retain(|_, open| changed(open));
        let end = self.writer.map.trim();
        if self.buckets.is_empty() && !self.shortens(end) {
            return Ok(self.state.current.clone());
        }
        let before = self.state.current.inner.meta;
        let mut ops = self.buckets.iter().map(|(name, open)| {
            let action = match open {
                Some(open) => Action::Put { value: open.bucket.encode(), flags: ITEM_BUCKET },
                None => Action::Delete,
            };
            Op { key: name.clone(), action }
        });
        let root = apply(&mut self.writer, &Root::Page(before.root), TreeId::ROOT, &mut ops)?;
        let Root::Page(root) = root else { unreachable!("the root tree is never inline") };
        if let Some((first, pages)) = self.state.freelist {
            self.writer.free_run(first, pages)?;
        }
        let hwm = self.writer.map.trim();
        let txid = before.txid + 1;
        let meta = Meta { root, hwm, txid, freelist: NO_FREELIST, ..before };
        writing();
        self.write(&meta)?;
        Ok(self.publish(meta))
    }

    /// Whether a commit without changes should lower the high-water mark or cut the file.
    fn shortens(&self, end: u64) -> bool {
        let before = self.state.current.inner.meta.hwm;
        let needed = self.pager.offset(before);
        before.saturating_sub(end) * 10 > before || self.writer.is_too_long(needed)
    }

    /// Writes and syncs the pages and then the meta, and cuts the file above both metas' pages.
    fn write(&mut self, meta: &Meta) -> Result<(), Error> {
        let pager = Arc::clone(&self.pager);
        let io = |what| {
            let pager = &pager;
            move |source| pager.io(what, source)
        };
        self.writer.flush()?;
        self.writer.grow_file(pager.offset(meta.hwm))?;
        pager.file().sync_data().map_err(io("sync"))?;
        let offset = pager.offset(meta.page());
        pager.file().write_at(&meta.encode(), offset).map_err(io("write"))?;
        pager.file().sync_data().map_err(io("sync"))?;
        // The pages of the previous meta stay, because it is used if this one becomes unreadable.
        let needed = pager.offset(meta.hwm.max(self.state.current.inner.meta.hwm));
        self.writer.cut_file(needed)
    }

    /// Publishes the commit to readers.
    fn publish(&mut self, meta: Meta) -> View {
        self.done = true;
        self.state.freelist = None;
        self.state.pending.push_back((meta.txid, self.writer.finish()));
        let before = &self.state.current.inner;
        let mut buckets = before.buckets.clone();
        for (name, open) in std::mem::take(&mut self.buckets) {
            match open {
                Some(open) => buckets.insert(name, open.bucket),
                None => buckets.remove(&name),
            };
        }
        let inner = Arc::new(Snapshot {
            pager: Arc::clone(&self.pager),
            meta,
            buckets,
            free_pages: self.writer.map.free(),
        });
        self.state.views.push_back((meta.txid, Arc::downgrade(&inner)));
        self.state.current = View { inner };
        self.state.current.clone()
    }
}
