//! A copy of a view as a database file, for etcd's snapshot stream.
//!
//! The pages that the view reaches are checked while the file is copied, so that damage does not
//! spread to another member: if a page is damaged, the caller gets an error before the last chunk.
//!
//! Page 0 is the view's meta and page 1 the same with txid - 1. The pages of the file from page 2
//! to the high-water mark follow.
//!
//! Source: bbolt tx.go @ v1.4.3 `WriteTo`.

use std::sync::Arc;

use bytes::Bytes;

use crate::check::Check;
use crate::error::Error;
use crate::meta::Meta;
use crate::snapshot::Snapshot;

const CHUNK_BYTES: usize = 256 * 1024;

/// Reads a view as a file image, in chunks.
#[derive(Debug)]
pub struct Copier {
    snapshot: Arc<Snapshot>,
    /// The next page to copy.
    page: u64,
    check: Check,
}

impl Copier {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Copier {
        Copier { check: Check::new(Arc::clone(&snapshot)), snapshot, page: 0 }
    }

    /// The length of the whole image in bytes: [`crate::View::size`].
    #[must_use]
    pub fn len(&self) -> u64 {
        self.snapshot.size()
    }

    /// Always false: an image has two meta pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The next bytes; `None` after the last, once all pages that the view reaches are checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming a damaged page, [`Error::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.copy_chunk()?;
        let pages = match &chunk {
            Some(chunk) if self.page < self.snapshot.meta.hwm => {
                chunk.len() / self.snapshot.meta.page_size
            }
            // All checks must be done before the last chunk, since it completes the copy.
            Some(_) | None => usize::MAX,
        };
        for _ in 0..pages {
            if !self.check.step()? {
                break;
            }
        }
        Ok(chunk)
    }

    fn copy_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let snapshot = &*self.snapshot;
        let (pager, meta) = (&snapshot.pager, snapshot.meta);
        if self.page == 0 {
            self.page = 2;
            let mut image = as_page(&meta, 0);
            let before = Meta { txid: meta.txid.wrapping_sub(1), ..meta };
            image.extend_from_slice(&as_page(&before, 1));
            return Ok(Some(Bytes::from(image)));
        }
        if self.page >= meta.hwm {
            return Ok(None);
        }
        let pages = (CHUNK_BYTES / meta.page_size).max(1) as u64;
        let pages = pages.min(meta.hwm - self.page);
        let mut chunk = vec![0; usize::try_from(pages).unwrap_or(1) * meta.page_size];
        // The file may have been cut above the last page that this view reaches. The bytes of the
        // pages above are arbitrary.
        pager
            .file()
            .read_at(&mut chunk, pager.offset(self.page))
            .map_err(|source| pager.io("read", source))?;
        self.page += pages;
        Ok(Some(Bytes::from(chunk)))
    }
}

/// A meta as page `id`, independent of its txid.
fn as_page(meta: &Meta, id: u64) -> Vec<u8> {
    let mut page = meta.encode();
    page[..8].copy_from_slice(&id.to_le_bytes());
    page
}
