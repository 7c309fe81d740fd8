//! Chooses the last pages of the file for relocation: written anew they go to the lowest free
//! places, so that the high-water mark falls and the file can be cut.
//!
//! A walk over the page map goes down from the high-water mark, a bounded number of entries in
//! each commit, and goes on in the next commit where it stopped. It first covers the pages above
//! the target length. If none of them fits anywhere, the next walk covers the whole file: moving
//! short runs down joins the free pages between them into spans where longer runs fit.

use crate::apply::Touches;
use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::writer::{PageRun, PageWriter};

/// Entries of the page map, and nodes of its index, that one commit looks at, at most.
const LOOK_MAX: u64 = 1 << 17;
/// Commits between a walk of the whole file that found nothing to move and the next walk; it
/// comes earlier if a sixteenth more pages are free.
const REST_COMMITS: u64 = 1000;

/// How far relocation has come.
#[derive(Debug, Default)]
pub(crate) struct Relocation {
    /// It has begun, at a quarter of the file unused, and not ended, at a tenth.
    active: bool,
    /// The walk goes on below this page; `None`: a new walk begins at the high-water mark.
    next: Option<u64>,
    /// The walk has chosen pages.
    chose: bool,
    /// The walk covers the whole file.
    whole_file: bool,
    /// No walk begins before this txid.
    rest_until: u64,
    /// The free pages when the rest began.
    rest_free: u64,
    /// Entries of the page map that walks looked at so far.
    looked: u64,
}

/// The part of a walk that one commit does.
struct Walk {
    /// The entry looked at last.
    page: u64,
    /// The end of the run that is being walked through.
    run_end: u64,
    /// The pages that may still be chosen.
    budget: u64,
    /// Runs of so many pages fit nowhere.
    too_long: u64,
    /// The free places that the chosen runs will take.
    reserved: Vec<PageRun>,
    chosen: Touches,
}

impl Relocation {
    /// Entries of the page map that walks looked at so far.
    pub(crate) fn looked(&self) -> u64 {
        self.looked
    }

    /// Chooses up to `pages_max` pages for the commit after `txid`.
    pub(crate) fn choose(
        &mut self,
        writer: &mut PageWriter<'_>,
        txid: u64,
        pages_max: u64,
    ) -> Result<Touches, Error> {
        self.update(writer.map);
        let free = writer.map.free();
        if !self.active || (txid < self.rest_until && free <= self.rest_free / 16 * 17) {
            return Ok(Touches::new());
        }
        let (hwm, used) = (writer.map.hwm(), writer.map.hwm() - free - writer.map.pending());
        // Where the end will be when all is done.
        let target = used + used / 16;
        let floor = if self.whole_file { 2 } else { target };
        let start = self.next.unwrap_or(hwm).min(hwm);
        // Branches move with their leaves, so leave as much again for them.
        let budget = (free / 2).min(pages_max);
        let mut walk = Walk {
            page: start,
            run_end: start,
            budget,
            too_long: u64::MAX,
            reserved: Vec::new(),
            chosen: Touches::new(),
        };
        let walked = self.walk(writer, &mut walk, floor);
        for (first, pages) in &walk.reserved {
            writer.map.make_free(*first, *pages);
        }
        walked?;
        self.chose |= !walk.reserved.is_empty();
        if walk.page > floor {
            // A run that was not walked through to its first page is begun again.
            self.next = Some(if walk.run_end < start { walk.run_end } else { walk.page });
        } else {
            self.end_walk(txid, free);
        }
        Ok(walk.chosen)
    }

    /// Begins at a quarter unused, ends at a tenth.
    fn update(&mut self, map: &PageMap) {
        let unused = map.free() + map.pending();
        if unused * 4 > map.hwm() {
            self.active = true;
        } else if unused * 10 < map.hwm() {
            *self = Relocation { looked: self.looked, ..Relocation::default() };
        }
    }

    fn walk(
        &mut self,
        writer: &mut PageWriter<'_>,
        walk: &mut Walk,
        floor: u64,
    ) -> Result<(), Error> {
        // Pages may have changed hands since the last commit, so the walk may begin inside a run.
        let mut inside = matches!(writer.map.get(walk.page), Use::Overflow(_));
        let stop = self.looked + writer.map.looked() + LOOK_MAX;
        while walk.page > floor && walk.budget > 0 && self.looked + writer.map.looked() < stop {
            walk.page -= 1;
            self.looked += 1;
            match writer.map.get(walk.page) {
                Use::Overflow(_) => continue,
                Use::Run(tree) if !inside => walk.run(writer, tree)?,
                Use::Run(_) | Use::Free | Use::Pending | Use::Meta => {}
            }
            walk.run_end = walk.page;
            inside = false;
        }
        Ok(())
    }

    fn end_walk(&mut self, txid: u64, free: u64) {
        self.next = None;
        if self.whole_file && !self.chose {
            self.rest_until = txid + REST_COMMITS;
            self.rest_free = free;
        }
        // After a walk without success the next is larger, after one with success smaller.
        self.whole_file = !self.chose && !self.whole_file;
        self.chose = false;
    }
}

impl Walk {
    /// Chooses the run that begins at the page walked to, if there is a free place below it.
    fn run(&mut self, writer: &mut PageWriter<'_>, tree: TreeId) -> Result<(), Error> {
        let pages = self.run_end - self.page;
        // A run longer than the budget goes alone.
        let affordable = pages <= self.budget || self.reserved.is_empty();
        if tree == TreeId::PINNED
            || writer.is_fresh(self.page)
            || pages >= self.too_long
            || !affordable
        {
            return Ok(());
        }
        let place = writer.map.place(pages);
        if place + pages > self.page {
            // What is free only gets less, and the walk goes down.
            self.too_long = pages;
            return Ok(());
        }
        let content = writer.read(self.page)?;
        if content.count() > 0 {
            writer.map.use_run(place, pages, TreeId::PINNED, Fill::FULL);
            self.reserved.push((place, pages));
            self.budget = self.budget.saturating_sub(pages);
            self.chosen.entry(tree).or_default().insert(content.key_bytes(0));
        }
        Ok(())
    }
}
