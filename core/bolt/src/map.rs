//! The page map: for each page below the high-water mark its use, and the bucket that it belongs
//! to. It is the only record of free space.
//!
//! A page takes two bytes, in chunks. A chunk of free pages takes 16 bytes, so that a sparse file
//! does not take much memory. The index in the module `free` finds free pages.

use crate::free::FreeIndex;

/// Pages in a chunk.
const CHUNK: usize = 4096;

const FREE: u16 = 0;
const PENDING: u16 = 1;
const META: u16 = 2;
const FIRST_TREE: u16 = 3;
/// Set in the pages of a run after its first.
const CONTINUED: u16 = 0x8000;
/// The position of a run's fill in the entry of its first page.
const FILL_SHIFT: u16 = 12;
const TREE_MASK: u16 = 0x0FFF;

/// The tree that a page belongs to: 0 for the root tree, then buckets in the order of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TreeId(pub(crate) u16);

impl TreeId {
    /// The tree of bucket names.
    pub(crate) const ROOT: TreeId = TreeId(0);
    /// Nested buckets, and buckets beyond the number of ids. Their pages are not relocated.
    pub(crate) const PINNED: TreeId = TreeId(TREE_MASK - FIRST_TREE);
}

/// How full a run is, in eighths rounded down; 7 also if packing cannot make it fuller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill(u16);

impl Fill {
    /// Full, or not to be packed.
    pub(crate) const FULL: Fill = Fill(7);

    /// The fill of a leaf of `len` bytes with `used` bytes in use by `count` elements. Pages are
    /// filled to nine tenths; a leaf without room for one more average element counts as full.
    pub(crate) fn of_leaf(used: usize, count: usize, len: usize) -> Fill {
        if used + used / count.max(1) > len / 10 * 9 {
            return Fill::FULL;
        }
        let eighths = used.saturating_mul(8) / len;
        Fill(u16::try_from(eighths).unwrap_or(7).min(7))
    }

    pub(crate) fn eighths(self) -> u64 {
        u64::from(self.0)
    }
}

/// The use of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    /// Freed by a commit, but a view may still reach it.
    Pending,
    Meta,
    /// The first page of a run.
    Run(TreeId),
    /// An overflow page.
    Overflow(TreeId),
}

#[derive(Debug)]
struct Chunk {
    pages: Box<[u16; CHUNK]>,
    used: usize,
}

/// The uses of all pages.
///
/// - `runs` counts the runs in use, and `eighths` is the sum of their fills.
/// - `free` and `pending` count the pages below `hwm` in those states.
/// - All pages at or above `hwm` are free.
#[derive(Debug)]
pub(crate) struct PageMap {
    chunks: Vec<Option<Chunk>>,
    hwm: u64,
    free: u64,
    pending: u64,
    runs: u64,
    eighths: u64,
    /// The index of free pages, including those above `hwm`.
    index: FreeIndex,
}

/// The fill in the entry of a run's first page.
fn fill_of(raw: u16) -> Option<Fill> {
    let first = raw & CONTINUED == 0 && raw & TREE_MASK >= FIRST_TREE;
    first.then_some(Fill(raw >> FILL_SHIFT))
}

fn split(page: u64) -> (usize, usize) {
    let page = usize::try_from(page).unwrap_or(usize::MAX);
    (page / CHUNK, page % CHUNK)
}

impl PageMap {
    /// A map of `hwm` pages, all free except the two metas.
    pub(crate) fn new(hwm: u64) -> PageMap {
        let (chunks, index) = (Vec::new(), FreeIndex::default());
        let mut map = PageMap { chunks, hwm, free: hwm, pending: 0, runs: 0, eighths: 0, index };
        map.set(0, 1, META);
        map.set(1, 1, META);
        map
    }

    pub(crate) fn hwm(&self) -> u64 {
        self.hwm
    }

    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    fn raw(&self, page: u64) -> u16 {
        let (chunk, at) = split(page);
        match self.chunks.get(chunk) {
            Some(Some(chunk)) => chunk.pages[at],
            Some(None) | None => FREE,
        }
    }

    pub(crate) fn get(&self, page: u64) -> Use {
        match self.raw(page) {
            FREE => Use::Free,
            PENDING => Use::Pending,
            META => Use::Meta,
            raw if raw & CONTINUED != 0 => Use::Overflow(TreeId((raw & TREE_MASK) - FIRST_TREE)),
            raw => Use::Run(TreeId((raw & TREE_MASK) - FIRST_TREE)),
        }
    }

    /// The fill of the run that begins at `page`; full if no run begins there.
    pub(crate) fn fill(&self, page: u64) -> Fill {
        fill_of(self.raw(page)).unwrap_or(Fill::FULL)
    }

    /// The number of runs in use, and the sum of their fills in eighths.
    pub(crate) fn fill_sum(&self) -> (u64, u64) {
        (self.runs, self.eighths)
    }

    fn set(&mut self, first: u64, pages: u64, value: u16) {
        for page in first..first + pages {
            self.set_one(page, value);
        }
        self.index.mark(first, pages, value == FREE);
    }

    fn set_one(&mut self, page: u64, value: u16) {
        assert!(page < self.hwm, "only pages below the high-water mark have a use");
        let old = self.raw(page);
        if old == value {
            return;
        }
        let (index, at) = split(page);
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        let chunk = self.chunks[index]
            .get_or_insert_with(|| Chunk { pages: Box::new([FREE; CHUNK]), used: 0 });
        chunk.pages[at] = value;
        if old == FREE {
            chunk.used += 1;
            self.free -= 1;
        }
        if value == FREE {
            chunk.used -= 1;
            self.free += 1;
        }
        if chunk.used == 0 {
            self.chunks[index] = None;
        }
        if let Some(fill) = fill_of(old) {
            self.runs -= 1;
            self.eighths -= fill.eighths();
        }
        if let Some(fill) = fill_of(value) {
            self.runs += 1;
            self.eighths += fill.eighths();
        }
        self.pending -= u64::from(old == PENDING);
        self.pending += u64::from(value == PENDING);
    }

    /// Marks a run as used by `tree`.
    pub(crate) fn use_run(&mut self, first: u64, pages: u64, tree: TreeId, fill: Fill) {
        self.set(first, 1, (tree.0 + FIRST_TREE) | (fill.0 << FILL_SHIFT));
        self.set(first + 1, pages - 1, (tree.0 + FIRST_TREE) | CONTINUED);
    }

    /// Marks a run as freed, while views may still read it.
    pub(crate) fn make_pending(&mut self, first: u64, pages: u64) {
        self.set(first, pages, PENDING);
    }

    /// Marks a run as free.
    pub(crate) fn make_free(&mut self, first: u64, pages: u64) {
        self.set(first, pages, FREE);
    }

    /// The start of the lowest free span of `pages` pages. The span may extend above the high-water
    /// mark, and then includes the free pages just below it.
    pub(crate) fn place(&mut self, pages: u64) -> u64 {
        self.index.find(pages)
    }

    /// The number of index nodes that [`PageMap::place`] has examined so far.
    pub(crate) fn looked(&self) -> u64 {
        self.index.looked()
    }

    /// Allocates a run for `tree` in the lowest free span that fits, raising the high-water mark if
    /// necessary.
    pub(crate) fn allocate(&mut self, pages: u64, tree: TreeId, fill: Fill) -> u64 {
        let first = self.place(pages);
        self.grow_to(first + pages);
        self.use_run(first, pages, tree, fill);
        first
    }

    fn grow_to(&mut self, hwm: u64) {
        if hwm > self.hwm {
            self.free += hwm - self.hwm;
            self.hwm = hwm;
        }
    }

    /// Lowers the high-water mark below the free pages at the end, and returns it.
    pub(crate) fn trim(&mut self) -> u64 {
        while self.hwm > 2 {
            let (index, _) = split(self.hwm - 1);
            let start = (index * CHUNK) as u64;
            let free_chunk = matches!(self.chunks.get(index), Some(None) | None);
            let new = if free_chunk && start >= 2 {
                start
            } else if self.raw(self.hwm - 1) == FREE {
                self.hwm - 1
            } else {
                break;
            };
            self.free -= self.hwm - new;
            self.hwm = new;
        }
        let (index, _) = split(self.hwm - 1);
        self.chunks.truncate(index + 1);
        self.hwm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_allocated_in_the_lowest_span_that_fits() {
        let mut map = PageMap::new(20);
        assert_eq!(map.allocate(3, TreeId(1), Fill::FULL), 2);
        assert_eq!(map.allocate(1, TreeId(1), Fill::FULL), 5);
        assert_eq!(map.allocate(2, TreeId(2), Fill::FULL), 6);
        map.make_free(2, 3);
        assert_eq!(map.allocate(4, TreeId(2), Fill::FULL), 8);
        assert_eq!(map.allocate(2, TreeId(2), Fill::FULL), 2);
        assert_eq!(map.get(3), Use::Overflow(TreeId(2)));
        assert_eq!(map.get(4), Use::Free);
        assert_eq!(map.free(), 20 - 2 - 1 - 2 - 4 - 2);
    }

    #[test]
    fn a_run_begins_in_the_free_pages_at_the_end() {
        let mut map = PageMap::new(6);
        assert_eq!(map.allocate(2, TreeId(1), Fill::FULL), 2);
        assert_eq!(map.allocate(5, TreeId(1), Fill::FULL), 4);
        assert_eq!((map.hwm(), map.free()), (9, 0));
    }

    #[test]
    fn pending_pages_are_not_reused_and_keep_the_high_water_mark() {
        let mut map = PageMap::new(10);
        map.use_run(2, 8, TreeId(1), Fill::FULL);
        map.make_pending(5, 2);
        map.make_free(7, 3);
        assert_eq!(map.trim(), 7);
        assert_eq!((map.free(), map.pending()), (0, 2));
        assert_eq!(map.allocate(1, TreeId(1), Fill::FULL), 7);
        map.make_free(5, 2);
        assert_eq!(map.allocate(2, TreeId(1), Fill::FULL), 5);
    }

    #[test]
    fn a_sparse_file_of_16_tib_takes_little_memory() {
        let mut map = PageMap::new(1 << 32);
        map.use_run((1 << 32) - 1, 1, TreeId(3), Fill::FULL);
        assert_eq!(map.chunks.iter().flatten().count(), 2);
    }

    #[test]
    fn chunks_that_become_free_are_trimmed_at_once() {
        let mut map = PageMap::new(10);
        let far = 3 * CHUNK as u64 + 5;
        map.grow_to(far + 1);
        map.use_run(far, 1, TreeId(1), Fill::FULL);
        map.make_free(far, 1);
        assert_eq!(map.trim(), 2);
        assert_eq!((map.hwm(), map.free()), (2, 0));
    }

    #[test]
    fn the_fill_of_runs_is_kept() {
        let mut map = PageMap::new(10);
        map.use_run(2, 2, TreeId(1), Fill::of_leaf(3000, 40, 4096));
        map.use_run(4, 1, TreeId(1), Fill::of_leaf(3000, 3, 4096));
        assert_eq!((map.fill(2).eighths(), map.fill(3), map.fill(4)), (5, Fill::FULL, Fill::FULL));
        assert_eq!(map.fill_sum(), (2, 12));
        assert_eq!((map.get(2), map.get(3)), (Use::Run(TreeId(1)), Use::Overflow(TreeId(1))));
        map.make_pending(2, 2);
        assert_eq!(map.fill_sum(), (1, 7));
        map.use_run(5, 1, TreeId::PINNED, Fill::FULL);
        assert_eq!(map.get(5), Use::Run(TreeId::PINNED));
    }
}
