//! A cursor over a bucket in key order.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::Root;
use crate::error::Error;
use crate::page::{DEPTH_MAX, Header, Kind, Page};
use crate::snapshot::Snapshot;

/// The most pages that a scan reads in one call.
const AHEAD_PAGES: u64 = 64;
/// The most bytes that a scan reads in one call.
const AHEAD_BYTES: u64 = 256 * 1024;

/// A cursor over a bucket. It skips nested buckets.
///
/// Keys and values share the memory of their page, or of a read-ahead chunk of up to 256 KiB if the
/// cursor is not cached. Copy those that are kept for long.
#[derive(Debug)]
pub struct Cursor {
    inner: Arc<Snapshot>,
    root: Option<Root>,
    /// The path from the root: each page with the index of its next element. In a branch that is
    /// the element after the child on the path.
    path: Vec<(Page, usize)>,
    started: bool,
    /// Pages visited since the last seek. More than the file has means a cycle.
    entered: u64,
    /// The last read-ahead chunk and its first page; `None` for a cached cursor.
    ahead: Option<(u64, Bytes)>,
}

impl Cursor {
    pub(crate) fn new(inner: Arc<Snapshot>, root: Option<Root>, cached: bool) -> Cursor {
        let ahead = if cached { None } else { Some((0, Bytes::new())) };
        Cursor { inner, root, path: Vec::new(), started: false, entered: 0, ahead }
    }

    /// Moves before the first key at or after `key`, which [`Cursor::next`] then returns.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn seek(&mut self, key: &[u8]) -> Result<(), Error> {
        self.path.clear();
        self.started = true;
        self.entered = 0;
        match self.root.clone() {
            None => Ok(()),
            Some(Root::Inline(page)) => {
                let at = page.search(key).unwrap_or_else(|at| at);
                self.path.push((page, at));
                Ok(())
            }
            Some(Root::Page(id)) => self.descend(id, key),
        }
    }

    /// Descends from the page `id` to the leaf for `key`.
    fn descend(&mut self, mut id: u64, key: &[u8]) -> Result<(), Error> {
        loop {
            let page = self.fetch(id)?;
            match page.kind() {
                Kind::Leaf => {
                    let at = page.search(key).unwrap_or_else(|at| at);
                    self.path.push((page, at));
                    return Ok(());
                }
                Kind::Branch => {
                    let at = page.child_index(key);
                    id = page.child(at);
                    self.path.push((page, at + 1));
                }
            }
        }
    }

    /// Returns the next key and value, and advances; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        if !self.started {
            self.seek(&[])?;
        }
        while let Some((page, at)) = self.path.last_mut() {
            let index = *at;
            if index >= page.count() {
                self.path.pop();
                continue;
            }
            *at += 1;
            match page.kind() {
                Kind::Branch => {
                    let id = page.child(index);
                    self.descend(id, &[])?;
                }
                Kind::Leaf if page.is_bucket(index) => {}
                Kind::Leaf => return Ok(Some((page.key_bytes(index), page.value(index)))),
            }
        }
        Ok(None)
    }

    fn fetch(&mut self, id: u64) -> Result<Page, Error> {
        let hwm = self.inner.meta.hwm;
        self.entered += 1;
        if self.entered > hwm || self.path.len() >= DEPTH_MAX {
            return Err(self.inner.pager.corrupt(id, "a tree that leads back into itself"));
        }
        if self.ahead.is_none() {
            return self.inner.pager.page(id, hwm);
        }
        if id >= 2 && id < hwm {
            if let Some(page) = self.chunk_page(id)? {
                return Ok(page);
            }
            let span = self.span(id);
            if span > 1 {
                let pager = &self.inner.pager;
                let len = usize::try_from(span).unwrap_or(1) * pager.page_size();
                let mut chunk = vec![0; len];
                pager.read_exact(&mut chunk, id)?;
                self.ahead = Some((id, Bytes::from(chunk)));
                if let Some(page) = self.chunk_page(id)? {
                    return Ok(page);
                }
            }
        }
        self.inner.pager.read_uncached(id, hwm)
    }

    /// The page, if the read-ahead chunk contains all of it.
    fn chunk_page(&self, id: u64) -> Result<Option<Page>, Error> {
        let Some((first, chunk)) = &self.ahead else { return Ok(None) };
        let pager = &self.inner.pager;
        let size = pager.page_size();
        let Some(skip) = id.checked_sub(*first).and_then(|n| usize::try_from(n).ok()) else {
            return Ok(None);
        };
        if skip >= chunk.len() / size {
            return Ok(None);
        }
        let rest = chunk.slice(skip * size..);
        let header = Header::decode(&rest, id, self.inner.meta.hwm)
            .map_err(|what| pager.corrupt(id, what))?;
        if header.overflow >= (rest.len() / size) as u64 {
            return Ok(None);
        }
        let run = (usize::try_from(header.overflow).unwrap_or(0) + 1) * size;
        Page::decode(rest.slice(..run), id, self.inner.meta.hwm)
            .map(Some)
            .map_err(|what| pager.corrupt(id, what))
    }

    /// How many pages to read from `id` on: up to the last of the next siblings in the window, if
    /// they are at least a quarter of those pages.
    fn span(&self, id: u64) -> u64 {
        let Some((parent, next)) = self.path.last() else { return 1 };
        let window = AHEAD_PAGES.min(AHEAD_BYTES / self.inner.pager.page_size() as u64).max(1);
        let (mut near, mut span) = (0, 1);
        for index in *next..parent.count().min(next + 64) {
            let sibling = parent.child(index);
            if sibling > id && sibling < id + window && sibling < self.inner.meta.hwm {
                near += 1;
                span = span.max(sibling - id + 1);
            }
        }
        if near * 4 >= span { span } else { 1 }
    }
}
