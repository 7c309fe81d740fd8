//! Splits a stream of elements into pages.
//!
//! - Elements that fit on one page are one page. A longer stream fills pages to nine tenths, which
//!   is the fill percent that etcd sets for its appended keys. A rest that is not at the end of the
//!   tree is split into halves, so that no page is nearly empty.
//! - An element larger than a page gets overflow pages. Small elements before it go into its run if
//!   their page would be less than half full.
//! - A branch page has at least two elements; bbolt's writer relies on it.
//!
//! Source: limits of bbolt node.go @ v1.4.3 (`split`); where pages are split differs from bbolt.

use std::collections::VecDeque;

use crate::error::Error;
use crate::map::TreeId;
use crate::page::{HEADER, ITEMS_MAX, Item, Kind, Page};
use crate::writer::PageWriter;

/// Collects elements and writes them to pages of one level of a tree.
#[derive(Debug)]
pub(crate) struct Packer {
    kind: Kind,
    tree: TreeId,
    /// Bytes.
    page_size: usize,
    items: VecDeque<Item>,
    /// Bytes of `items`.
    size: usize,
    /// The branch elements of the written pages.
    out: Vec<Item>,
}

impl Packer {
    pub(crate) fn new(kind: Kind, tree: TreeId, page_size: usize) -> Packer {
        Packer { kind, tree, page_size, items: VecDeque::new(), size: 0, out: Vec::new() }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether no elements wait to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether no page was written: the waiting elements are all of the level.
    pub(crate) fn is_single(&self) -> bool {
        self.out.is_empty()
    }

    /// The waiting elements.
    pub(crate) fn items(&self) -> &VecDeque<Item> {
        &self.items
    }

    /// The length of a page with the waiting elements, in bytes.
    pub(crate) fn page_len(&self) -> usize {
        HEADER + self.size
    }

    fn items_min(&self) -> usize {
        if self.kind == Kind::Branch { 2 } else { 1 }
    }

    /// Whether the waiting elements are too few for a page: bbolt needs two in a branch.
    pub(crate) fn must_merge(&self) -> bool {
        self.items.len() < self.items_min()
    }

    /// Whether a page with the waiting elements would be less than half full.
    pub(crate) fn wants_merge(&self) -> bool {
        self.must_merge() || self.page_len() < self.page_size / 2
    }

    /// Whether a neighbour with `used` bytes should be merged with the waiting elements.
    pub(crate) fn fits(&self, used: usize) -> bool {
        self.must_merge() || self.page_len() + used <= fill(self.page_size)
    }

    /// Appends an element.
    pub(crate) fn push(&mut self, writer: &mut PageWriter<'_>, item: Item) -> Result<(), Error> {
        self.size += item.size();
        self.items.push_back(item);
        while self.size > 2 * self.page_size {
            let count = self.cut(fill(self.page_size));
            let rest = self.items.len() - count;
            if rest == 0 || (rest < self.items_min()) {
                break;
            }
            self.write(writer, count)?;
        }
        Ok(())
    }

    /// Appends the elements of a page.
    pub(crate) fn push_page(
        &mut self,
        writer: &mut PageWriter<'_>,
        page: &Page,
    ) -> Result<(), Error> {
        for index in 0..page.count() {
            self.push(writer, page.item(index))?;
        }
        Ok(())
    }

    /// Prepends the elements of a page.
    pub(crate) fn prepend(&mut self, page: &Page) {
        for index in (0..page.count()).rev() {
            let item = page.item(index);
            self.size += item.size();
            self.items.push_front(item);
        }
    }

    /// How many of the first elements go on a page that is filled to `target` bytes.
    fn cut(&self, target: usize) -> usize {
        let mut size = HEADER;
        let mut count = 0;
        for item in &self.items {
            if count >= ITEMS_MAX {
                break;
            }
            let run = size.next_multiple_of(self.page_size);
            let limit = if size <= target { target } else { run };
            let well_filled = size >= run / 2;
            if count >= self.items_min() && size + item.size() > limit && well_filled {
                break;
            }
            size += item.size();
            count += 1;
        }
        count
    }

    fn write(&mut self, writer: &mut PageWriter<'_>, count: usize) -> Result<(), Error> {
        let items: Vec<Item> = self.items.drain(..count).collect();
        self.size -= items.iter().map(Item::size).sum::<usize>();
        let entry = writer.write(self.kind, &items, self.tree)?;
        self.out.push(entry);
        Ok(())
    }

    /// Writes the waiting elements. With `append` they are the last of the tree, and pages are
    /// filled instead of halved.
    pub(crate) fn flush(&mut self, writer: &mut PageWriter<'_>, append: bool) -> Result<(), Error> {
        while !self.items.is_empty() {
            let len = self.page_len();
            let all = self.items.len();
            let fits = len <= self.page_size && all <= ITEMS_MAX;
            let splittable = all >= 2 * self.items_min();
            let full = fill(self.page_size);
            let count = if fits || !splittable {
                all
            } else if !append && len <= 2 * full {
                self.cut(len / 2)
            } else {
                self.cut(full)
            };
            let leaves_too_few = all - count < self.items_min();
            self.write(writer, if leaves_too_few { all } else { count })?;
        }
        Ok(())
    }

    /// Takes the branch elements of the written pages.
    pub(crate) fn take_out(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.out)
    }

    /// Takes the waiting elements, which are then not written.
    pub(crate) fn take_items(&mut self) -> Vec<Item> {
        self.size = 0;
        std::mem::take(&mut self.items).into()
    }
}

/// The bytes to which pages are filled: nine tenths.
fn fill(page_size: usize) -> usize {
    page_size / 10 * 9
}
