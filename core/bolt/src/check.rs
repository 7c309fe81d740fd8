//! The complete check of a view, as bbolt's `check` does.
//!
//! Source: bbolt tx_check.go @ v1.4.3.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{Root, decode};
use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::page::{DEPTH_MAX, Kind, Page};
use crate::snapshot::Snapshot;

/// A check under way, which visits one page after the other.
#[derive(Debug)]
pub(crate) struct Check {
    inner: Arc<Snapshot>,
    seen: PageMap,
    visits: Vec<Visit>,
    /// The roots of trees that are still to be visited.
    trees: Vec<u64>,
}

/// A page to visit, and the bounds of its keys.
#[derive(Debug)]
struct Visit {
    id: u64,
    depth: usize,
    low: Option<Bytes>,
    high: Option<Bytes>,
}

/// Checks all pages that a view reaches.
pub(crate) fn view(inner: &Arc<Snapshot>) -> Result<(), Error> {
    let mut check = Check::new(Arc::clone(inner));
    while check.step()? {}
    Ok(())
}

impl Check {
    pub(crate) fn new(inner: Arc<Snapshot>) -> Check {
        let (seen, trees) = (PageMap::new(inner.meta.hwm), vec![inner.meta.root]);
        Check { inner, seen, visits: Vec::new(), trees }
    }

    /// Checks the next page; false when all are checked.
    pub(crate) fn step(&mut self) -> Result<bool, Error> {
        let next = self.visits.pop();
        let root = || Some(Visit { id: self.trees.pop()?, depth: 0, low: None, high: None });
        let Some(visit) = next.or_else(root) else { return Ok(false) };
        if visit.depth > DEPTH_MAX {
            return Err(self.corrupt(visit.id, "a tree deeper than any writer makes"));
        }
        let page = self.inner.pager.read_uncached(visit.id, self.inner.meta.hwm)?;
        self.page(&page, &visit)?;
        match page.kind() {
            Kind::Branch => branch(&page, visit, &mut self.visits),
            Kind::Leaf => self.buckets(&page)?,
        }
        Ok(true)
    }

    fn corrupt(&self, page: u64, what: &'static str) -> Error {
        self.inner.pager.corrupt(page, what)
    }

    /// Checks that a page is reached once and its keys are within the bounds of its parent.
    fn page(&mut self, page: &Page, visit: &Visit) -> Result<(), Error> {
        let pages = (page.len() / self.inner.meta.page_size) as u64;
        if (visit.id..visit.id + pages).any(|id| self.seen.get(id) != Use::Free) {
            return Err(self.corrupt(visit.id, "the page is reached twice"));
        }
        self.seen.use_run(visit.id, pages, TreeId::ROOT, Fill::FULL);
        let Some(last) = page.count().checked_sub(1) else { return Ok(()) };
        if visit.low.as_ref().is_some_and(|low| page.key(0) < &low[..])
            || visit.high.as_ref().is_some_and(|high| page.key(last) >= &high[..])
        {
            return Err(self.corrupt(visit.id, "keys outside what the branch above says"));
        }
        Ok(())
    }

    fn buckets(&mut self, page: &Page) -> Result<(), Error> {
        let mut leaves = vec![page.clone()];
        while let Some(leaf) = leaves.pop() {
            for index in (0..leaf.count()).filter(|index| leaf.is_bucket(*index)) {
                let (root, _) =
                    decode(&leaf.value(index)).map_err(|what| self.corrupt(page.id(), what))?;
                match root {
                    Root::Page(id) => self.trees.push(id),
                    Root::Inline(page) => leaves.push(page),
                }
            }
        }
        Ok(())
    }
}

fn branch(page: &Page, visit: Visit, visits: &mut Vec<Visit>) {
    let mut high = visit.high;
    for index in (0..page.count()).rev() {
        let low = page.key_bytes(index);
        visits.push(Visit {
            id: page.child(index),
            depth: visit.depth + 1,
            low: Some(low.clone()),
            high: high.replace(low),
        });
    }
}
