//! The page writer of a transaction: reads tree pages, writes new ones to free spans, and records
//! which old ones are freed.
//!
//! - New pages go to free spans only, so no page that a view reaches is overwritten.
//! - Pages are written as soon as they are complete, adjacent ones in one call, so that a commit of
//!   any size needs little memory. They are not reachable before the meta is written.
//! - A long commit is synced in pieces. One sync of all its pages would fill the queue of the disk,
//!   and a sync of another file, such as the log, would wait for all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::page::{HEADER, Item, Kind, Page, encode};
use crate::pager::Pager;

/// Bytes buffered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes written before they are synced. The commits of a server that is not busy have fewer, and so
/// have one sync before that of the meta.
const SYNC_BYTES: usize = 1024 * 1024;
/// A growing file gets a sixteenth of its length as slack, within these bounds in bytes.
const SLACK_MIN: u64 = 64 * 1024;
const SLACK_MAX: u64 = 4 * 1024 * 1024;
/// A file is cut if it has more than this many times its slack, so that small moves of the
/// high-water mark do not change the length.
const SLACKS_MAX: u64 = 2;

/// A run: its first page and its number of pages.
pub(crate) type PageRun = (u64, u64);

/// The pages of one write transaction.
#[derive(Debug)]
pub(crate) struct PageWriter<'a> {
    pager: &'a Arc<Pager>,
    pub(crate) map: &'a mut PageMap,
    /// The file's length in bytes.
    file_len: &'a mut u64,
    /// Complete pages that are not written yet, and the first of them.
    buffer: Vec<u8>,
    buffer_page: u64,
    /// Bytes written since the last sync.
    unsynced: usize,
    /// Runs written by this transaction.
    fresh: BTreeSet<u64>,
    /// Runs of earlier transactions that this one frees, with their tree and fill.
    freed: Vec<(PageRun, TreeId, Fill)>,
    /// Whether written pages are inserted into the cache.
    pub(crate) remember: bool,
}

impl<'a> PageWriter<'a> {
    pub(crate) fn new(
        pager: &'a Arc<Pager>,
        map: &'a mut PageMap,
        file_len: &'a mut u64,
    ) -> PageWriter<'a> {
        PageWriter {
            pager,
            map,
            file_len,
            buffer: Vec::new(),
            buffer_page: 0,
            unsynced: 0,
            fresh: BTreeSet::new(),
            freed: Vec::new(),
            remember: true,
        }
    }

    pub(crate) fn pager(&self) -> &'a Arc<Pager> {
        self.pager
    }

    pub(crate) fn page_size(&self) -> usize {
        self.pager.page_size()
    }

    pub(crate) fn corrupt(&self, page: u64, what: &'static str) -> Error {
        self.pager.corrupt(page, what)
    }

    /// Reads a tree page, from the cache if possible. A miss does not fill the cache, because the
    /// page is about to be replaced.
    pub(crate) fn read(&mut self, id: u64) -> Result<Page, Error> {
        let hwm = self.map.hwm();
        if let Some(page) = self.pager.cached(id, hwm)? {
            return Ok(page);
        }
        if self.fresh.contains(&id) {
            self.flush()?;
        }
        self.pager.read_uncached(id, hwm)
    }

    /// Whether this transaction wrote the run.
    pub(crate) fn is_fresh(&self, id: u64) -> bool {
        self.fresh.contains(&id)
    }

    /// The number of pages in the run of `page`.
    fn pages_of(&self, page: &Page) -> u64 {
        (page.len() / self.page_size()) as u64
    }

    /// Frees a page of the tree.
    pub(crate) fn free(&mut self, page: &Page) -> Result<(), Error> {
        let pages = self.pages_of(page);
        self.free_run(page.id(), pages)
    }

    /// Frees a run.
    pub(crate) fn free_run(&mut self, id: u64, pages: u64) -> Result<(), Error> {
        let Use::Run(tree) = self.map.get(id) else {
            return Err(self.corrupt(id, "the page is reached twice"));
        };
        let whole = (1..pages).all(|n| self.map.get(id + n) == Use::Overflow(tree));
        if !whole || self.map.get(id + pages) == Use::Overflow(tree) {
            return Err(self.corrupt(id, "the page's overflow is not what it was"));
        }
        if self.fresh.remove(&id) {
            self.map.make_free(id, pages);
        } else {
            self.freed.push(((id, pages), tree, self.map.fill(id)));
            self.map.make_pending(id, pages);
        }
        Ok(())
    }

    /// Writes a page of the tree `tree`, and returns its branch element.
    pub(crate) fn write(
        &mut self,
        kind: Kind,
        items: &[Item],
        tree: TreeId,
    ) -> Result<Item, Error> {
        let page_size = self.page_size();
        let size = HEADER + items.iter().map(Item::size).sum::<usize>();
        let pages = size.div_ceil(page_size);
        let fill = match kind {
            Kind::Branch => Fill::FULL,
            Kind::Leaf => Fill::of_leaf(size, items.len(), pages * page_size),
        };
        let id = self.map.allocate(pages as u64, tree, fill);
        self.fresh.insert(id);
        let data = encode(kind, id, pages as u64 - 1, items.iter(), pages * page_size);
        self.append(id, &data)?;
        if self.remember {
            let page = Page::decode(Bytes::from(data), id, u64::MAX)
                .unwrap_or_else(|what| unreachable!("a page that we encoded is valid: {what}"));
            self.pager.remember(&page);
        } else {
            self.pager.forget(id);
        }
        let key = items.first().map_or_else(Bytes::new, |item| item.key.clone());
        Ok(Item::branch(key, id))
    }

    fn append(&mut self, id: u64, data: &[u8]) -> Result<(), Error> {
        let next = self.buffer_page + (self.buffer.len() / self.page_size()) as u64;
        if id != next || self.buffer.len() + data.len() > BUFFER_BYTES {
            self.flush()?;
            self.buffer_page = id;
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Writes the buffered pages, and syncs if many bytes were written since the last sync.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = self.pager.offset(self.buffer_page);
        self.grow_file(offset + self.buffer.len() as u64)?;
        self.pager
            .file()
            .write_at(&self.buffer, offset)
            .map_err(|source| self.pager.io("write", source))?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes the pages that were written durable.
    fn sync(&mut self) -> Result<(), Error> {
        self.unsynced = 0;
        self.pager.file().sync_data().map_err(|source| self.pager.io("sync", source))
    }

    /// The slack of a file that needs `len` bytes, in whole pages.
    fn slack(&self, len: u64) -> u64 {
        (len / 16).clamp(SLACK_MIN, SLACK_MAX).next_multiple_of(self.page_size() as u64)
    }

    /// Extends the file with slack if it is shorter than `len` bytes, which are whole pages.
    pub(crate) fn grow_file(&mut self, len: u64) -> Result<(), Error> {
        if len > *self.file_len {
            let new = len + self.slack(len);
            self.pager.file().allocate(new).map_err(|source| self.pager.io("allocate", source))?;
            *self.file_len = new;
        }
        Ok(())
    }

    /// Whether the file should be cut to the `needed` bytes.
    pub(crate) fn is_too_long(&self, needed: u64) -> bool {
        *self.file_len > needed + SLACKS_MAX * self.slack(needed)
    }

    /// Cuts the file to the `needed` bytes if [`PageWriter::is_too_long`].
    pub(crate) fn cut_file(&mut self, needed: u64) -> Result<(), Error> {
        if self.is_too_long(needed) {
            self.pager
                .file()
                .set_len(needed)
                .map_err(|source| self.pager.io("truncate", source))?;
            *self.file_len = needed;
        }
        Ok(())
    }

    /// Ends a durable transaction. Returns the runs that it freed, which become free when no view
    /// needs them.
    pub(crate) fn finish(&mut self) -> Vec<PageRun> {
        self.fresh.clear();
        std::mem::take(&mut self.freed).into_iter().map(|(run, _, _)| run).collect()
    }

    /// Undoes the transaction in the page map and the cache.
    pub(crate) fn roll_back(&mut self) {
        for id in std::mem::take(&mut self.fresh) {
            let Use::Run(tree) = self.map.get(id) else {
                unreachable!("what a transaction wrote and holds is in use")
            };
            let mut pages = 1;
            while self.map.get(id + pages) == Use::Overflow(tree) {
                pages += 1;
            }
            self.map.make_free(id, pages);
            self.pager.forget(id);
        }
        for ((id, pages), tree, fill) in std::mem::take(&mut self.freed) {
            self.map.use_run(id, pages, tree, fill);
        }
        self.buffer.clear();
    }
}
