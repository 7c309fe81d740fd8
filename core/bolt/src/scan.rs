//! The scan at open: visits all pages that the trees reach, level by level in file order, with
//! large reads past the cache. All other pages are free.
//!
//! The scan validates pages except for the order of their keys, which is checked on each read.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::bucket::{self, Bucket, Root};
use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::meta::Meta;
use crate::page::{
    DEPTH_MAX, ELEMENT, HEADER, Header, ITEM_BUCKET, Kind, Page, check_bounds, u32_at,
};
use crate::pager::Pager;
use crate::writer::PageRun;

/// The bytes of one read where pages of a level are close together.
const WINDOW_BYTES: usize = 1024 * 1024;

/// The tree ids of buckets, which the page map stores in two bytes.
#[derive(Debug, Default)]
pub(crate) struct TreeIds {
    names: Vec<Bytes>,
}

impl TreeIds {
    /// The tree id of a bucket, newly assigned if it has none; [`TreeId::PINNED`] if all are
    /// assigned.
    pub(crate) fn of(&mut self, name: &Bytes) -> TreeId {
        let known = self.names.iter().position(|other| other == name);
        let index = known.unwrap_or(self.names.len());
        match u16::try_from(index + 1) {
            Ok(number) if number < 256 => {
                if known.is_none() {
                    self.names.push(name.clone());
                }
                TreeId(number)
            }
            Ok(_) | Err(_) => TreeId::PINNED,
        }
    }

    /// The name of the bucket with a tree id.
    pub(crate) fn name(&self, tree: TreeId) -> Option<&Bytes> {
        self.names.get(usize::from(tree.0).checked_sub(1)?)
    }
}

/// The result of the scan.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) map: PageMap,
    pub(crate) tree_ids: TreeIds,
    pub(crate) buckets: BTreeMap<Bytes, Bucket>,
}

struct Walk<'a> {
    pager: &'a Pager,
    meta: &'a Meta,
    found: Scan,
    /// Pages of the next level.
    next: Vec<(u64, TreeId)>,
    /// The last read window and its first page.
    window: Vec<u8>,
    window_page: u64,
    /// The run being visited.
    run: Vec<u8>,
}

/// Scans the trees of `meta`.
pub(crate) fn scan(pager: &Pager, meta: &Meta) -> Result<Scan, Error> {
    let found = Scan {
        map: PageMap::new(meta.hwm),
        tree_ids: TreeIds::default(),
        buckets: BTreeMap::new(),
    };
    let next = vec![(meta.root, TreeId::ROOT)];
    let (window, run) = (Vec::new(), Vec::new());
    let mut walk = Walk { pager, meta, found, next, window, window_page: 0, run };
    // The tree of a bucket begins below a leaf of its parent.
    for _ in 0..2 * DEPTH_MAX {
        let mut level = std::mem::take(&mut walk.next);
        if level.is_empty() {
            return Ok(walk.found);
        }
        level.sort_unstable();
        for index in 0..level.len() {
            walk.visit(&level[index..])?;
        }
    }
    Err(pager.corrupt(meta.root, "a tree deeper than any writer makes"))
}

impl Walk<'_> {
    fn corrupt(&self, page: u64, what: &'static str) -> Error {
        self.pager.corrupt(page, what)
    }

    /// Visits the first page of `rest`, the remaining pages of a level.
    fn visit(&mut self, rest: &[(u64, TreeId)]) -> Result<(), Error> {
        let (id, tree) = rest[0];
        let hwm = self.meta.hwm;
        if id < 2 || id >= hwm {
            return Err(self.corrupt(id, "a reference to a page outside the file's used part"));
        }
        self.load(rest)?;
        let header = Header::decode(&self.run, id, hwm).map_err(|what| self.corrupt(id, what))?;
        let used = check_bounds(&self.run, &header).map_err(|what| self.corrupt(id, what))?;
        let fill = match header.kind {
            Kind::Branch => Fill::FULL,
            Kind::Leaf => Fill::of_leaf(used, header.count, self.run.len()),
        };
        self.take((id, header.overflow + 1), tree, fill)?;
        if header.kind == Kind::Leaf && !has_buckets(&self.run, header.count) {
            return Ok(());
        }
        let run = Bytes::copy_from_slice(&self.run);
        let page = Page::decode(run, id, hwm).map_err(|what| self.corrupt(id, what))?;
        match page.kind() {
            Kind::Leaf => self.buckets(page, tree),
            Kind::Branch => {
                self.next.extend((0..page.count()).map(|index| (page.child(index), tree)));
                Ok(())
            }
        }
    }

    /// Reads the run of the first page of `rest`.
    fn load(&mut self, rest: &[(u64, TreeId)]) -> Result<(), Error> {
        let id = rest[0].0;
        let size = self.pager.page_size();
        self.run.clear();
        if self.in_window(id, 1).is_none() {
            let pages = ((WINDOW_BYTES / size).max(1) as u64).min(self.meta.hwm - id);
            let near = rest.partition_point(|(other, _)| *other < id + pages) as u64;
            if near * 8 >= pages {
                self.window.resize(usize::try_from(pages).unwrap_or(1) * size, 0);
                self.pager.read_exact(&mut self.window, id)?;
                self.window_page = id;
            }
        }
        self.append(id, 1)?;
        let header =
            Header::decode(&self.run, id, self.meta.hwm).map_err(|what| self.corrupt(id, what))?;
        if header.overflow > 0 {
            self.append(id + 1, header.overflow)?;
        }
        Ok(())
    }

    /// The position of a run in the window.
    fn in_window(&self, id: u64, pages: u64) -> Option<std::ops::Range<usize>> {
        let size = self.pager.page_size();
        let skip = usize::try_from(id.checked_sub(self.window_page)?).ok()?;
        let pages = usize::try_from(pages).ok()?;
        let end = skip.checked_add(pages)?.checked_mul(size)?;
        (end <= self.window.len()).then_some(skip * size..end)
    }

    /// Appends pages to the run, from the window or the file.
    fn append(&mut self, id: u64, pages: u64) -> Result<(), Error> {
        if let Some(range) = self.in_window(id, pages) {
            self.run.extend_from_slice(&self.window[range]);
            return Ok(());
        }
        let at = self.run.len();
        let len = usize::try_from(pages)
            .ok()
            .and_then(|pages| pages.checked_mul(self.pager.page_size()))
            .ok_or_else(|| self.corrupt(id, "a page longer than memory"))?;
        self.run.resize(at + len, 0);
        self.pager.read_exact(&mut self.run[at..], id)
    }

    /// Collects the buckets of a leaf.
    fn buckets(&mut self, page: Page, tree: TreeId) -> Result<(), Error> {
        let id = page.id();
        let mut tree = tree;
        // The format does not allow buckets in inline buckets. They are visited all the same.
        let mut leaves = vec![page];
        while let Some(leaf) = leaves.pop() {
            for index in (0..leaf.count()).filter(|index| leaf.is_bucket(*index)) {
                let (root, sequence) =
                    bucket::decode(&leaf.value(index)).map_err(|what| self.corrupt(id, what))?;
                let name = leaf.key_bytes(index);
                let inner = match tree {
                    TreeId::ROOT => self.found.tree_ids.of(&name),
                    TreeId(_) => TreeId::PINNED,
                };
                match &root {
                    Root::Page(page) => self.next.push((*page, inner)),
                    Root::Inline(page) => leaves.push(page.clone()),
                }
                if tree == TreeId::ROOT {
                    let name = Bytes::copy_from_slice(&name);
                    self.found.buckets.insert(name, Bucket { tree: inner, sequence, root });
                }
            }
            tree = TreeId::PINNED;
        }
        Ok(())
    }

    fn take(&mut self, (id, pages): PageRun, tree: TreeId, fill: Fill) -> Result<(), Error> {
        if (id..id + pages).any(|page| self.found.map.get(page) != Use::Free) {
            return Err(self.corrupt(id, "the page is reached twice"));
        }
        self.found.map.use_run(id, pages, tree, fill);
        Ok(())
    }
}

/// True if a leaf, whose bounds have been checked, has nested buckets.
fn has_buckets(run: &[u8], count: usize) -> bool {
    (0..count).any(|index| u32_at(run, HEADER + index * ELEMENT) & ITEM_BUCKET != 0)
}
