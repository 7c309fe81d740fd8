//! Chooses the last pages of the file for relocation. Rewritten pages go to the lowest free spans,
//! so that the high-water mark falls and the file can be cut.
//!
//! A walk examines the page map downward from the high-water mark: a bounded number of entries per
//! commit, and the next commit continues where it stopped. The walk ends at the target length. If
//! no run above it fits into a free span, the next walk covers the whole file, because moving short
//! runs down merges the free spans between them until longer runs fit.

use crate::apply::Touches;
use crate::error::Error;
use crate::map::{Fill, PageMap, TreeId, Use};
use crate::writer::{PageRun, PageWriter};

/// The most entries of the page map and nodes of its index that one commit examines.
const LOOK_MAX: u64 = 1 << 17;
/// Commits without a walk after a walk of the whole file that found nothing to move, unless the
/// number of free pages grows by a sixteenth.
const REST_COMMITS: u64 = 1000;

/// The progress of relocation.
#[derive(Debug, Default)]
pub(crate) struct Relocation {
    /// Relocation started at a quarter of the file unused, and stops at a tenth.
    active: bool,
    /// The page below which the walk continues; `None`: at the high-water mark.
    next: Option<u64>,
    /// Whether the current walk has chosen pages.
    chose: bool,
    /// Whether the current walk covers the whole file.
    whole_file: bool,
    /// The txid until which relocation rests.
    rest_until: u64,
    /// The number of free pages when the rest began.
    rest_free: u64,
    /// The number of page map entries that walks have examined so far.
    looked: u64,
}

/// The part of a walk in one commit.
struct Walk {
    /// The last examined entry.
    page: u64,
    /// The end of the run that contains `page`.
    run_end: u64,
    /// How many more pages may be chosen.
    budget: u64,
    /// Runs of this length or longer fit into no free span.
    too_long: u64,
    /// The free spans reserved for the chosen runs during the walk.
    reserved: Vec<PageRun>,
    chosen: Touches,
}

impl Relocation {
    /// The number of page map entries that walks have examined so far.
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
        // The high-water mark to reach: the used pages and some slack.
        let target = used + used / 16;
        let floor = if self.whole_file { 2 } else { target };
        let start = self.next.unwrap_or(hwm).min(hwm);
        // Half of the free pages are left for the branches, which move with their leaves.
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
            // A run whose first page was not reached is examined again.
            self.next = Some(if walk.run_end < start { walk.run_end } else { walk.page });
        } else {
            self.end_walk(txid, free);
        }
        Ok(walk.chosen)
    }

    /// Starts relocation at a quarter of the file unused, and stops it at a tenth.
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
        // Since the last commit a run may have been written across this page. It is skipped.
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
        // If nothing above the target fits, the next walk covers the whole file.
        self.whole_file = !self.chose && !self.whole_file;
        self.chose = false;
    }
}

impl Walk {
    /// Chooses the run that begins at `page`, if a free span below it fits.
    fn run(&mut self, writer: &mut PageWriter<'_>, tree: TreeId) -> Result<(), Error> {
        let pages = self.run_end - self.page;
        // A run longer than the budget is chosen alone.
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
            // Free spans only shrink during the walk, and later runs are lower.
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
