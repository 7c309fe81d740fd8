//! The index of free pages: a bitmap with summaries above it, which finds the lowest span of n
//! free pages in O(log n) steps.
//!
//! 64 pages form a word, 64 words a chunk, and each level above groups 64 nodes of the level
//! below. The summary of a node counts the free pages at its start, at its end, and in its longest
//! free span. Marking pages changes bits only; the next search updates the summaries above them.

use std::ops::Range;

/// Children of a node, and pages of a word.
const FAN: usize = 64;
const CHUNK_PAGES: u64 = (FAN * FAN) as u64;
/// Levels of summaries above the words. The nodes of the last have no parent; each covers 2^30
/// pages.
const LEVELS: usize = 4;

/// Free pages of a node. Counts above `u32::MAX`, which no allocation reaches, saturate.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// At the start.
    prefix: u32,
    /// At the end.
    suffix: u32,
    /// In the longest span.
    longest: u32,
}

impl Summary {
    const ALL: Summary = Summary { prefix: u32::MAX, suffix: u32::MAX, longest: u32::MAX };

    fn of_word(word: u64) -> Summary {
        if word == u64::MAX {
            return Summary::ALL;
        }
        let (mut rest, mut longest) = (word, 0);
        while rest != 0 {
            rest &= rest << 1;
            longest += 1;
        }
        Summary { prefix: word.trailing_ones(), suffix: word.leading_ones(), longest }
    }

    fn is_all(self) -> bool {
        self.prefix == u32::MAX
    }

    /// The summary of nodes of `len` pages each, side by side.
    fn join(children: impl Iterator<Item = Summary>, len: u64) -> Summary {
        // The free pages before the first used one, and those just before the next child.
        let (mut prefix, mut behind, mut longest) = (None, 0, 0);
        for child in children {
            if child.is_all() {
                behind += len;
                continue;
            }
            let span = behind + u64::from(child.prefix);
            prefix = prefix.or(Some(span));
            longest = longest.max(span).max(u64::from(child.longest));
            behind = u64::from(child.suffix);
        }
        let Some(prefix) = prefix else { return Summary::ALL };
        // Saturated counts stay below the mark of a node that is all free.
        let count = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX).min(u32::MAX - 1);
        let longest = longest.max(behind);
        Summary { prefix: count(prefix), suffix: count(behind), longest: count(longest) }
    }
}

/// The words of a chunk that has pages in use.
#[derive(Debug)]
struct Chunk {
    /// A bit is set if the page is free.
    words: Box<[u64; FAN]>,
    /// The summaries above do not reflect the bits yet.
    stale: bool,
}

/// The result of a search in one level.
enum Step {
    /// The span begins at this page.
    Found(u64),
    /// The span lies inside this node.
    Into(usize),
}

/// Which pages are free. A new index has all pages free, as many as there can be.
#[derive(Debug, Default)]
pub(crate) struct FreeIndex {
    /// `None`: all pages of the chunk are free.
    chunks: Vec<Option<Chunk>>,
    /// The chunks that are stale.
    stale: Vec<usize>,
    /// `levels[0]` has a summary for each chunk. Missing nodes are all free.
    levels: [Vec<Summary>; LEVELS],
    /// See [`FreeIndex::looked`].
    looked: u64,
}

/// The pages of a node at `level`: 0 is a word.
fn node_pages(level: usize) -> u64 {
    (0..=level).fold(1, |pages, _| pages * FAN as u64)
}

fn size(page: u64) -> usize {
    usize::try_from(page).unwrap_or(usize::MAX)
}

impl FreeIndex {
    /// The number of words and summaries that searches have examined so far.
    pub(crate) fn looked(&self) -> u64 {
        self.looked
    }

    /// Marks pages as free or used.
    pub(crate) fn mark(&mut self, first: u64, pages: u64, free: bool) {
        let (mut page, end) = (first, first + pages);
        while page < end {
            let bit = page % FAN as u64;
            let count = (FAN as u64 - bit).min(end - page);
            let mask = (u64::MAX >> (FAN as u64 - count)) << bit;
            self.mark_word(page, mask, free);
            page += count;
        }
    }

    /// Marks the pages of `mask` in the word of `page`.
    fn mark_word(&mut self, page: u64, mask: u64, free: bool) {
        let (number, word) = (size(page / CHUNK_PAGES), size(page / FAN as u64) % FAN);
        if self.chunks.len() <= number {
            if free {
                return;
            }
            self.chunks.resize_with(number + 1, || None);
        }
        let entry = &mut self.chunks[number];
        if free && entry.is_none() {
            return;
        }
        let all_free = || Chunk { words: Box::new([u64::MAX; FAN]), stale: false };
        let chunk = entry.get_or_insert_with(all_free);
        let bits = &mut chunk.words[word];
        *bits = if free { *bits | mask } else { *bits & !mask };
        if !chunk.stale {
            chunk.stale = true;
            self.stale.push(number);
        }
    }

    /// The first page of the lowest span of `pages` free pages.
    pub(crate) fn find(&mut self, pages: u64) -> u64 {
        self.refresh();
        let mut nodes = 0..self.levels[LEVELS - 1].len();
        for level in (0..=LEVELS).rev() {
            match self.search(level, nodes, pages) {
                Step::Found(page) => return page,
                Step::Into(node) if level == 0 => {
                    let mut starts = self.word(node);
                    for _ in 1..pages {
                        starts &= starts >> 1;
                    }
                    let bit = u64::from(starts.trailing_zeros());
                    return node as u64 * FAN as u64 + bit;
                }
                Step::Into(node) => nodes = node * FAN..(node + 1) * FAN,
            }
        }
        unreachable!("the search ends in a word at the latest")
    }

    /// Searches adjacent nodes. Pages behind the last node are free.
    fn search(&mut self, level: usize, nodes: Range<usize>, pages: u64) -> Step {
        let len = node_pages(level);
        let end = nodes.end as u64 * len;
        let mut behind = 0;
        for node in nodes {
            self.looked += 1;
            let summary = self.summary(level, node);
            let start = node as u64 * len;
            if summary.is_all() {
                behind += len;
                if behind >= pages {
                    return Step::Found(start + len - behind);
                }
                continue;
            }
            if behind + u64::from(summary.prefix) >= pages {
                return Step::Found(start - behind);
            }
            if u64::from(summary.longest) >= pages {
                return Step::Into(node);
            }
            behind = u64::from(summary.suffix);
        }
        Step::Found(end - behind)
    }

    fn word(&self, number: usize) -> u64 {
        match self.chunks.get(number / FAN) {
            Some(Some(chunk)) => chunk.words[number % FAN],
            Some(None) | None => u64::MAX,
        }
    }

    /// The summary of a node at `level`: 0 is a word.
    fn summary(&self, level: usize, node: usize) -> Summary {
        match level.checked_sub(1) {
            None => Summary::of_word(self.word(node)),
            Some(at) => self.levels[at].get(node).copied().unwrap_or(Summary::ALL),
        }
    }

    /// Computes the summaries above words that changed.
    fn refresh(&mut self) {
        let mut nodes = std::mem::take(&mut self.stale);
        nodes.sort_unstable();
        for number in &nodes {
            let Some(chunk) = &mut self.chunks[*number] else { continue };
            chunk.stale = false;
            if chunk.words.iter().all(|word| *word == u64::MAX) {
                self.chunks[*number] = None;
            }
        }
        for level in 1..=LEVELS {
            for node in &nodes {
                self.looked += FAN as u64;
                let children = node * FAN..(node + 1) * FAN;
                let children = children.map(|child| self.summary(level - 1, child));
                let summary = Summary::join(children, node_pages(level - 1));
                let summaries = &mut self.levels[level - 1];
                if summaries.len() <= *node {
                    summaries.resize(node + 1, Summary::ALL);
                }
                summaries[*node] = summary;
            }
            for node in &mut nodes {
                *node /= FAN;
            }
            nodes.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search that examines every page.
    fn find_plainly(used: &[bool], pages: usize) -> usize {
        let mut start = 0;
        for (page, used) in used.iter().enumerate() {
            if page - start == pages {
                break;
            }
            if *used {
                start = page + 1;
            }
        }
        start
    }

    fn next(seed: &mut u64) -> usize {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        size(*seed >> 33)
    }

    #[test]
    fn the_lowest_span_is_found_as_by_examining_every_page() {
        for mut seed in 0..20 {
            // Sometimes a few chunks, sometimes several nodes of the level above.
            let len = if seed % 5 == 0 { 600_000 } else { 20_000 };
            let mut index = FreeIndex::default();
            let mut plain = vec![false; len];
            for _ in 0..150 {
                let first = next(&mut seed) % len;
                let longest = [3, 100, 9_000, 300_000][next(&mut seed) % 4];
                let pages = (1 + next(&mut seed) % longest).min(len - first);
                let free = next(&mut seed).is_multiple_of(3);
                index.mark(first as u64, pages as u64, free);
                plain[first..first + pages].fill(!free);
                let wanted = 1 + next(&mut seed) % longest;
                assert_eq!(index.find(wanted as u64), find_plainly(&plain, wanted) as u64);
            }
            for wanted in 1..200 {
                assert_eq!(index.find(wanted as u64), find_plainly(&plain, wanted) as u64);
            }
        }
    }

    #[test]
    fn a_search_examines_one_path() {
        // 20 GiB of 4 KiB pages.
        let pages = 5 << 20;
        let mut index = FreeIndex::default();
        index.mark(0, pages, false);
        assert_eq!(index.find(1), pages);
        for page in (0..pages).step_by(20) {
            index.mark(page, 1, true);
        }
        assert_eq!(index.find(1), 0);
        let before = index.looked();
        for _ in 0..100 {
            assert_eq!(index.find(10), pages);
        }
        assert!(index.looked() - before <= 100 * (LEVELS as u64 + 1) * FAN as u64);
    }

    #[test]
    fn a_sparse_file_of_16_tib_takes_little_memory() {
        let mut index = FreeIndex::default();
        index.mark((1 << 32) - 1, 1, false);
        assert_eq!(index.find(1 << 33), 1 << 32);
        assert_eq!(index.find(1 << 30), 0);
        assert_eq!(index.chunks.iter().flatten().count(), 1);
    }
}
