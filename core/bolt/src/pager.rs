//! Reads and validates pages of the file, through the page cache or past it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use vfs::File;

use crate::cache::PageCache;
use crate::error::Error;
use crate::page::{Header, Page};

/// An open file with its page cache, shared by the database and its views.
#[derive(Debug)]
pub(crate) struct Pager {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Bytes.
    page_size: usize,
    cache: Arc<PageCache>,
    owner: u64,
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.cache.forget_owner(self.owner);
    }
}

impl Pager {
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    pub(crate) fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        page_size: usize,
        cache: Arc<PageCache>,
    ) -> Pager {
        let owner = cache.register();
        Pager { file, path, page_size, cache, owner }
    }

    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn corrupt(&self, page: u64, what: &'static str) -> Error {
        Error::corrupt(&self.path, page, what)
    }

    pub(crate) fn io(&self, what: &'static str, source: std::io::Error) -> Error {
        Error::io(&self.path, what, source)
    }

    pub(crate) fn offset(&self, page: u64) -> u64 {
        page.saturating_mul(self.page_size as u64)
    }

    /// Fills `buf` from the start of `page`; it is an error if the file ends earlier.
    pub(crate) fn read_exact(&self, buf: &mut [u8], page: u64) -> Result<(), Error> {
        let got =
            self.file.read_at(buf, self.offset(page)).map_err(|source| self.io("read", source))?;
        if got < buf.len() {
            return Err(self.corrupt(page, "the file ends before the page does"));
        }
        Ok(())
    }

    /// The bytes of a run. The caller has checked it against the high-water mark, which is bounded
    /// by the length of the file.
    fn run_len(&self, page: u64, overflow: u64) -> Result<usize, Error> {
        usize::try_from(overflow + 1)
            .ok()
            .and_then(|pages| pages.checked_mul(self.page_size))
            .ok_or_else(|| self.corrupt(page, "a page longer than memory"))
    }

    fn check_id(&self, id: u64, hwm: u64) -> Result<(), Error> {
        if id < 2 || id >= hwm {
            return Err(self.corrupt(id, "a reference to a page outside the file's used part"));
        }
        Ok(())
    }

    /// Reads the page `id` with its overflow pages. `read` fills a buffer from the start of a
    /// page, or returns false; the result is then `None`.
    fn load(
        &self,
        id: u64,
        hwm: u64,
        read: impl Fn(&mut [u8], u64) -> Result<bool, Error>,
    ) -> Result<Option<Page>, Error> {
        self.check_id(id, hwm)?;
        let mut run = vec![0; self.page_size];
        if !read(&mut run, id)? {
            return Ok(None);
        }
        let header = Header::decode(&run, id, hwm).map_err(|what| self.corrupt(id, what))?;
        if header.overflow > 0 {
            let len = self.run_len(id, header.overflow)?;
            run.resize(len, 0);
            if !read(&mut run[self.page_size..], id + 1)? {
                return Ok(None);
            }
        }
        let page = Page::decode(Bytes::from(run), id, hwm);
        page.map(Some).map_err(|what| self.corrupt(id, what))
    }

    /// Reads a page past the cache.
    pub(crate) fn read_uncached(&self, id: u64, hwm: u64) -> Result<Page, Error> {
        let read = |buf: &mut [u8], page| self.read_exact(buf, page).map(|()| true);
        let page = self.load(id, hwm, read)?;
        Ok(page.unwrap_or_else(|| unreachable!("a read that waits fills the buffer or fails")))
    }

    /// The page `id`, which must be below `hwm`.
    pub(crate) fn page(&self, id: u64, hwm: u64) -> Result<Page, Error> {
        if let Some(page) = self.cached(id, hwm)? {
            return Ok(page);
        }
        let page = self.read_uncached(id, hwm)?;
        self.cache.insert(self.owner, &page);
        Ok(page)
    }

    /// The page, if it is in the cache.
    pub(crate) fn cached(&self, id: u64, hwm: u64) -> Result<Option<Page>, Error> {
        self.check_id(id, hwm)?;
        Ok(self.cache.lookup(self.owner, id))
    }

    /// The page, if it can be read without waiting for the disk.
    pub(crate) fn try_page(&self, id: u64, hwm: u64) -> Result<Option<Page>, Error> {
        if let Some(page) = self.cached(id, hwm)? {
            return Ok(Some(page));
        }
        let page = self.load(id, hwm, |buf, page| self.try_read(buf, page))?;
        if let Some(page) = &page {
            self.cache.insert(self.owner, page);
        }
        Ok(page)
    }

    /// False if the read would wait, or is short; the waiting read then reports the error.
    fn try_read(&self, buf: &mut [u8], page: u64) -> Result<bool, Error> {
        let got = self
            .file
            .try_read_at(buf, self.offset(page))
            .map_err(|source| self.io("read", source))?;
        Ok(got == Some(buf.len()))
    }

    /// Puts a page that was just written into the cache.
    pub(crate) fn remember(&self, page: &Page) {
        self.cache.insert(self.owner, page);
    }

    /// Removes a page from the cache when its place is reused.
    pub(crate) fn forget(&self, id: u64) {
        self.cache.forget(self.owner, id);
    }
}
