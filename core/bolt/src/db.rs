//! The open database: the file, its lock, the map of its pages, and the current view.
//!
//! Source: bbolt db.go @ v1.4.3 (`Open`, `init`, `getPageSize`).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use vfs::{File, LockKind, Mode, Vfs};

use crate::cache::PageCache;
use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::meta::{META_END, Meta, NO_FREELIST, PAGE_SIZE_MAX, PAGE_SIZE_MIN};
use crate::packing::Packing;
use crate::page::{FLAG_FREELIST, HEADER, Kind, encode, u16_at, u32_at};
use crate::pager::Pager;
use crate::relocate::Relocation;
use crate::scan::scan;
use crate::snapshot::Snapshot;
use crate::state::WriterState;
use crate::tx::Tx;
use crate::view::View;
use crate::writer::{PageRun, PageWriter};

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The page size of a new file in bytes, a power of two from 1 KiB to 16 MiB. bbolt takes the
    /// operating system's. An existing file keeps its page size.
    pub new_page_size: usize,
    /// The page cache.
    pub cache: Arc<PageCache>,
    /// Opens an existing file without writing to it.
    pub read_only: bool,
}

/// A database in one file, for one writer and any number of readers.
///
/// - Pages of the current tree and pages that a view reaches are never overwritten.
/// - `pending` is sorted by txid: a run in it was freed by that commit, and becomes free when no
///   view with a smaller txid is left.
/// - The file is locked until the database and all its views are dropped.
#[derive(Debug)]
pub struct Db {
    pub(crate) pager: Arc<Pager>,
    pub(crate) map: PageMap,
    /// The file's length in bytes.
    pub(crate) file_len: u64,
    pub(crate) state: WriterState,
}

impl Db {
    /// Opens or creates the database at `path`, and scans all pages of its trees.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it, [`Error::Corrupt`] if it is damaged or not a
    /// database, [`Error::Io`].
    pub fn open(vfs: &dyn Vfs, path: &Path, options: Options) -> Result<Db, Error> {
        let mode = if options.read_only { Mode::Read } else { Mode::Create };
        Db::open_with(vfs, path, options, mode)
    }

    /// As [`Db::open`], but creates nothing: an empty file and a file of zeros are no database.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open_existing(vfs: &dyn Vfs, path: &Path, options: Options) -> Result<Db, Error> {
        let mode = if options.read_only { Mode::Read } else { Mode::Write };
        Db::open_with(vfs, path, options, mode)
    }

    fn open_with(vfs: &dyn Vfs, path: &Path, options: Options, mode: Mode) -> Result<Db, Error> {
        assert!(
            options.new_page_size.is_power_of_two()
                && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&options.new_page_size),
            "a page size is a power of two from 1 KiB to 16 MiB"
        );
        let io = |what| move |source| Error::io(path, what, source);
        let file = vfs.open(path, mode).map_err(io("open"))?;
        if !file.try_lock(LockKind::Flock).map_err(io("lock"))? {
            return Err(Error::Locked { file: path.to_path_buf() });
        }
        if mode == Mode::Create {
            if let Some(page_size) = unused_file(&*file, path, options.new_page_size)? {
                create(&*file, path, page_size)?;
            }
            let dir = match path.parent() {
                Some(dir) if dir != Path::new("") => dir,
                Some(_) | None => Path::new("."),
            };
            vfs.sync_dir(dir).map_err(|source| Error::io(dir, "sync", source))?;
        }
        let (meta, meta_offset) = read_meta(&*file, path)?;
        let file_len = file.len().map_err(io("stat"))?;
        check_meta(&meta, file_len, path)?;
        if !options.read_only {
            make_durable(&*file, path, meta_offset, meta.page_size)?;
        }
        let pager = Arc::new(Pager::new(file, path.to_path_buf(), meta.page_size, options.cache));
        let mut found = scan(&pager, &meta)?;
        let freelist = find_freelist(&pager, &meta, &mut found.map)?;
        let inner = Arc::new(Snapshot {
            pager: Arc::clone(&pager),
            meta,
            buckets: found.buckets,
            free_pages: found.map.free(),
        });
        let views = VecDeque::from([(meta.txid, Arc::downgrade(&inner))]);
        let state = WriterState {
            current: View { inner },
            views,
            pending: VecDeque::new(),
            tree_ids: found.tree_ids,
            freelist,
            read_only: options.read_only,
            poisoned: false,
            relocation: Relocation::default(),
            packing: Packing::default(),
        };
        Ok(Db { pager, map: found.map, file_len, state })
    }

    /// The database as of the last commit.
    #[must_use]
    pub fn view(&self) -> View {
        self.state.current.clone()
    }

    /// How many states of the database are in use: the current one and those that views still read.
    #[must_use]
    pub fn open_views(&self) -> usize {
        self.state.views.iter().filter(|(_, view)| view.strong_count() > 0).count()
    }

    /// Begins a write transaction.
    pub fn begin(&mut self) -> Tx<'_> {
        self.release();
        let writer = PageWriter::new(&self.pager, &mut self.map, &mut self.file_len);
        Tx::new(writer, &mut self.state)
    }

    /// True if an earlier write failed. All later commits fail.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state.poisoned
    }

    /// The number of free pages, and of pages that are free except for open views or the previous
    /// commit.
    #[must_use]
    pub fn free_pages(&self) -> (u64, u64) {
        (self.map.free(), self.map.pending())
    }

    /// Entries of the page map and nodes of its index that commits looked at so far, to find free
    /// pages and pages to relocate: work that does not grow with the file.
    #[must_use]
    pub fn map_entries_looked_at(&self) -> u64 {
        self.map.looked() + self.state.relocation.looked()
    }

    /// Frees pending pages that no view needs any more.
    fn release(&mut self) {
        let WriterState { current, views, pending, .. } = &mut self.state;
        views.retain(|(_, view)| view.strong_count() > 0);
        let oldest = views.front().map_or_else(|| current.tx_id(), |(txid, _)| *txid);
        while let Some((_, runs)) = pending.pop_front_if(|(txid, _)| *txid <= oldest) {
            for (first, pages) in runs {
                self.map.make_free(first, pages);
            }
        }
    }

    /// Checks the current trees, and that the page map agrees with them.
    ///
    /// # Errors
    /// Those of [`View::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.state.current.check()?;
        let meta = &self.state.current.inner.meta;
        let found = scan(&self.pager, meta)?;
        for page in 2..meta.hwm.max(self.map.hwm()) {
            let here = self.map.get(page);
            let tree = if page < meta.hwm { found.map.get(page) } else { Use::Free };
            let agrees = matches!(
                (here, tree),
                (Use::Free | Use::Pending, Use::Free)
                    | (Use::Run(_), Use::Run(_))
                    | (Use::Overflow(_), Use::Overflow(_))
            ) && (tree == Use::Free || self.map.fill(page) == found.map.fill(page));
            let freelist = self
                .state
                .freelist
                .is_some_and(|(first, pages)| (first..first + pages).contains(&page));
            if !agrees && !freelist {
                return Err(self.pager.corrupt(page, "the map of pages and the tree disagree"));
            }
        }
        Ok(())
    }
}

/// The four pages of a new file: two metas, an empty freelist, an empty leaf.
fn new_image(page_size: usize) -> Vec<u8> {
    let mut image = Vec::with_capacity(4 * page_size);
    for txid in 0..2 {
        let meta = Meta { page_size, root: 3, sequence: 0, freelist: 2, hwm: 4, txid };
        image.extend_from_slice(&meta.encode());
    }
    let at = image.len();
    image.extend_from_slice(&encode(Kind::Leaf, 2, 0, [].iter(), page_size));
    image[at + 8..at + 10].copy_from_slice(&FLAG_FREELIST.to_le_bytes());
    image.extend_from_slice(&encode(Kind::Leaf, 3, 0, [].iter(), page_size));
    image
}

/// The page size with which to create the file again, if no commit ever used it: the file is empty,
/// or contains all or a part of what [`create`] writes for any common page size, and zeros
/// otherwise.
///
/// A complete new file is also created again, with its page size: if the sync of its creation
/// failed, the page cache shows all of it, but the disk may have only a part.
fn unused_file(file: &dyn File, path: &Path, new_page_size: usize) -> Result<Option<usize>, Error> {
    const SECTOR: usize = 512;
    let len = file.len().map_err(|source| Error::io(path, "stat", source))?;
    for page_size in [new_page_size, 4096, 8192, 16_384, 65_536] {
        let image = new_image(page_size);
        if len > image.len() as u64 {
            continue;
        }
        let mut content = vec![0; image.len()];
        file.read_at(&mut content, 0).map_err(|source| Error::io(path, "read", source))?;
        let mut sectors = content.chunks(SECTOR).zip(image.chunks(SECTOR));
        let complete = content == image && len == image.len() as u64;
        if sectors.all(|(found, new)| found == new || found.iter().all(|byte| *byte == 0)) {
            return Ok(Some(if complete { page_size } else { new_page_size }));
        }
    }
    Ok(None)
}

fn create(file: &dyn File, path: &Path, page_size: usize) -> Result<(), Error> {
    file.set_len(0).map_err(|source| Error::io(path, "truncate", source))?;
    file.write_at(&new_image(page_size), 0).map_err(|source| Error::io(path, "write", source))?;
    file.sync_data().map_err(|source| Error::io(path, "sync", source))
}

/// Makes sure that the disk holds the meta page at `offset`, which was read from the file.
///
/// A commit syncs its pages before it writes its meta page, so the pages of a meta page that can
/// be read are durable. The meta page itself is not if its own sync failed or never ran: after a
/// failed sync the page cache still shows the page but no later sync writes it. The disk then
/// holds the meta page before it, whose pages count as free here and would be overwritten. So the
/// meta page is written again, with the same bytes, before any page can be reused.
fn make_durable(file: &dyn File, path: &Path, offset: u64, page_size: usize) -> Result<(), Error> {
    let mut page = vec![0; page_size];
    file.read_at(&mut page, offset).map_err(|source| Error::io(path, "read", source))?;
    file.write_at(&page, offset).map_err(|source| Error::io(path, "write", source))?;
    file.sync_data().map_err(|source| Error::io(path, "sync", source))
}

/// Reads the meta page at `offset`, if there is a valid one.
fn meta_at(file: &dyn File, path: &Path, offset: u64) -> Result<Option<Meta>, Error> {
    let mut buf = [0; META_END];
    let got = file.read_at(&mut buf, offset).map_err(|source| Error::io(path, "read", source))?;
    Ok(Meta::decode(&buf[..got]))
}

/// The valid meta with the greater txid, and the offset of its page. (In a copy of a database the
/// page need not be the one that a commit with that txid writes.)
fn read_meta(file: &dyn File, path: &Path) -> Result<(Meta, u64), Error> {
    if let Some(first) = meta_at(file, path, 0)? {
        let offset = first.page_size as u64;
        let second = meta_at(file, path, offset)?;
        let second = second.filter(|second| second.page_size == first.page_size);
        return Ok(match second {
            Some(second) if second.txid > first.txid => (second, offset),
            Some(_) | None => (first, 0),
        });
    }
    let mut page_size = PAGE_SIZE_MIN;
    while page_size <= PAGE_SIZE_MAX {
        let offset = page_size as u64;
        if let Some(meta) = meta_at(file, path, offset)?
            && meta.page_size == page_size
        {
            return Ok((meta, offset));
        }
        page_size *= 2;
    }
    Err(Error::corrupt(path, 0, "neither meta page is valid"))
}

fn check_meta(meta: &Meta, file_len: u64, path: &Path) -> Result<(), Error> {
    let corrupt = |page, what| Err(Error::corrupt(path, page, what));
    let pages = file_len / meta.page_size as u64;
    if meta.hwm > pages {
        return corrupt(pages, "the file ends before its high-water mark");
    }
    if meta.root < 2 || meta.root >= meta.hwm {
        return corrupt(meta.page(), "the root page is outside the file's used part");
    }
    if meta.freelist != NO_FREELIST && !(2..meta.hwm).contains(&meta.freelist) {
        return corrupt(meta.page(), "the freelist is outside the file's used part");
    }
    Ok(())
}

/// Finds the pages of a freelist on disk. Its contents are not read, because the scan finds the
/// free pages.
fn find_freelist(pager: &Pager, meta: &Meta, map: &mut PageMap) -> Result<Option<PageRun>, Error> {
    if meta.freelist == NO_FREELIST {
        return Ok(None);
    }
    let first = meta.freelist;
    let mut header = [0; HEADER];
    pager.read_exact(&mut header, first)?;
    if u16_at(&header, 8) != FLAG_FREELIST {
        return Err(pager.corrupt(first, "not a freelist page"));
    }
    let pages = u64::from(u32_at(&header, 12)) + 1;
    if pages > meta.hwm - first {
        return Err(pager.corrupt(first, "the page's overflow reaches past the end"));
    }
    if (first..first + pages).any(|page| map.get(page) != Use::Free) {
        return Err(pager.corrupt(first, "the page is reached twice"));
    }
    map.use_run(first, pages, TreeId::PINNED, Fill::FULL);
    Ok(Some((first, pages)))
}
