//! One file of a simulated disk: its cached content, its durable content, and the versions in
//! between that a crash may leave. `state.rs` has the names.

use super::content::{BLOCK, Block, Content, SECTOR};
use random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions between two syncs that are kept; the oldest is dropped first.
const VERSIONS_MAX: usize = 8;
/// Lengths between two syncs that are kept.
const LENS_MAX: usize = 16;
const SECTORS_PER_BLOCK: u64 = BLOCK / SECTOR;
const SECTOR_LEN: usize = 512;
const BLOCK_LEN: usize = 4096;

/// Disjoint ranges of sectors, as start → end.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((from, to)) = self.touching(start, end) {
            self.0.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.0.insert(start, end);
    }

    fn remove(&mut self, start: u64, end: u64) {
        while let Some((from, to)) = self.overlapping(start, end) {
            self.0.remove(&from);
            self.add(from, start);
            self.add(end, to);
        }
    }

    /// A range that overlaps or adjoins this one.
    fn touching(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (from, to) = self.0.range(..=end).next_back()?;
        (*to >= start).then_some((*from, *to))
    }

    fn overlapping(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (from, to) = self.0.range(..end).next_back()?;
        (*to > start).then_some((*from, *to))
    }

    fn contains(&self, sector: u64) -> bool {
        self.overlapping(sector, sector + 1).is_some()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of the blocks that contain a sector of the ranges, ascending.
    fn blocks(&self) -> impl Iterator<Item = u64> {
        let mut next = 0;
        self.0.iter().flat_map(move |(start, end)| {
            let from = next.max(start / SECTORS_PER_BLOCK);
            next = end.div_ceil(SECTORS_PER_BLOCK);
            from..next
        })
    }
}

/// How much unsynced data survives a crash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// Each sector and each name independently, with this probability in 256.
    Each(u64),
}

impl Survival {
    /// Includes the extremes: with independent choices alone, all or nothing would hardly ever
    /// survive.
    pub(super) fn draw(rng: &mut Random) -> Survival {
        match rng.below(8) {
            0 => Survival::All,
            1 => Survival::Nothing,
            2 => Survival::Each(24),
            3 => Survival::Each(232),
            _ => Survival::Each(128),
        }
    }

    pub(super) fn keeps(self, rng: &mut Random) -> bool {
        match self {
            Survival::All => true,
            Survival::Nothing => false,
            Survival::Each(of_256) => rng.chance(of_256),
        }
    }
}

/// A file.
///
/// After a crash each sector independently has its content of the last sync, the cached content,
/// or a version in between; so does the length. A sector is never torn. A sector that was not
/// written since the last sync does not change.
#[derive(Clone, Default)]
pub(super) struct FileNode {
    /// The content in the page cache, which reads return.
    current: Content,
    /// The content that survives any crash.
    durable: Content,
    /// Sectors in which the two may differ.
    dirty: Ranges,
    /// Contents that later writes to the same sectors replaced.
    versions: Vec<Content>,
    /// Lengths since the last sync, oldest first, without the current one.
    lens: Vec<u64>,
    /// Sectors that a failed sync did not write: they count as clean, so later syncs do not
    /// write them.
    doomed: Ranges,
}

impl FileNode {
    pub(super) fn current(&self) -> &Content {
        &self.current
    }

    /// Whether a crash may lose a part of it.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let (start, end) = (offset / SECTOR, (offset + buf.len() as u64).div_ceil(SECTOR));
        if buf.is_empty() {
            return;
        }
        if self.dirty.overlapping(start, end).is_some() {
            self.remember_version();
        }
        self.remember_len(self.current.len().max(offset + buf.len() as u64));
        self.current.write(buf, offset);
        self.dirty.add(start, end);
        self.doomed.remove(start, end);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.remember_len(len);
        if len < self.current.len() {
            let end = self.current.block_end() * SECTORS_PER_BLOCK;
            if self.dirty.overlapping(len / SECTOR, end).is_some() {
                self.remember_version();
            }
            self.dirty.add(len / SECTOR, end);
            // The cut drops the cached pages and their failed state; the zeros that a later
            // growth shows are the file system's and always reach the disk.
            self.doomed.remove(len / SECTOR, end);
        }
        self.current.set_len(len);
    }

    fn remember_len(&mut self, new: u64) {
        let old = self.current.len();
        if new != old && self.lens.last() != Some(&old) {
            if self.lens.len() == LENS_MAX {
                self.lens.remove(0);
            }
            self.lens.push(old);
        }
    }

    fn remember_version(&mut self) {
        if self.versions.len() == VERSIONS_MAX {
            self.versions.remove(0);
        }
        self.versions.push(self.writable_back());
    }

    pub(super) fn sync(&mut self) {
        self.settle(self.writable_back());
    }

    /// The content of the disk if all dirty sectors are written back now: the cached content,
    /// except for sectors that an earlier sync failed to write, which keep their durable content.
    fn writable_back(&self) -> Content {
        let mut content = self.current.clone();
        if !self.doomed.is_empty() {
            for number in self.doomed.blocks() {
                let choose = |sector| {
                    if self.doomed.contains(sector) { &self.durable } else { &self.current }
                };
                content.put_block(number, mixed_block(number, choose));
            }
            content.settle_len(self.current.len());
        }
        content
    }

    /// A sync that fails, as on Linux: some of the dirty sectors reached the disk. All of them
    /// stay readable and count as clean, so no later sync writes the others; only a new write
    /// to them does.
    pub(super) fn sync_fails(&mut self, rng: &mut Random) {
        let left = self.image(Survival::Each(128), rng);
        for (start, end) in std::mem::take(&mut self.dirty).0 {
            self.doomed.add(start, end);
        }
        self.settle(left);
    }

    fn settle(&mut self, durable: Content) {
        self.durable = durable;
        self.dirty = Ranges::default();
        self.versions.clear();
        self.lens.clear();
    }

    /// Changes the cached and the durable content.
    pub(super) fn tamper(&mut self, change: impl Fn(&mut Content)) {
        change(&mut self.current);
        change(&mut self.durable);
    }

    /// The file after a crash.
    pub(super) fn after_crash(&self, survival: Survival, rng: &mut Random) -> FileNode {
        let left = self.image(survival, rng);
        FileNode { current: left.clone(), durable: left, ..FileNode::default() }
    }

    fn image(&self, survival: Survival, rng: &mut Random) -> Content {
        let mut left = self.durable.clone();
        for number in self.dirty.blocks() {
            let same = |version: &Content| version.shares_block(&self.durable, number);
            if same(&self.current) && self.versions.iter().all(same) {
                continue;
            }
            let choices = std::array::from_fn::<_, { BLOCK_LEN / SECTOR_LEN }, _>(|_| {
                self.choose_version(survival, rng)
            });
            let newest = |choice: &&Content| std::ptr::eq(*choice, &raw const self.current);
            if self.doomed.is_empty() && choices.iter().all(newest) {
                left.put_block(number, self.current.block(number).cloned());
                continue;
            }
            let choose = |sector: u64| {
                if self.dirty.contains(sector) {
                    choices[usize::try_from(sector % SECTORS_PER_BLOCK).unwrap_or_default()]
                } else {
                    &self.durable
                }
            };
            left.put_block(number, mixed_block(number, choose));
        }
        left.settle_len(self.choose_len(survival, rng));
        left
    }

    fn choose_version(&self, survival: Survival, rng: &mut Random) -> &Content {
        if survival.keeps(rng) {
            return &self.current;
        }
        // A version in between, or the durable content.
        let count = self.versions.len() as u64;
        let chosen = match survival {
            Survival::All | Survival::Nothing => count,
            Survival::Each(_) => rng.below(count + 1),
        };
        let between = usize::try_from(chosen).ok().and_then(|at| self.versions.get(at));
        between.unwrap_or(&self.durable)
    }

    fn choose_len(&self, survival: Survival, rng: &mut Random) -> u64 {
        if survival.keeps(rng) {
            return self.current.len();
        }
        let count = self.lens.len() as u64;
        let chosen = match survival {
            Survival::All | Survival::Nothing => count,
            Survival::Each(_) => rng.below(count + 1),
        };
        let between = usize::try_from(chosen).ok().and_then(|at| self.lens.get(at));
        between.copied().unwrap_or_else(|| self.durable.len())
    }
}

/// A block made of sectors from the contents that `choose` returns.
fn mixed_block<'a>(number: u64, choose: impl Fn(u64) -> &'a Content) -> Option<Arc<Block>> {
    let mut block = None;
    for (place, sector) in (0..BLOCK_LEN / SECTOR_LEN).zip(number * SECTORS_PER_BLOCK..) {
        if let Some(source) = choose(sector).block(number) {
            let range = place * SECTOR_LEN..(place + 1) * SECTOR_LEN;
            let empty = || Arc::new([0; BLOCK_LEN]);
            let target = Arc::make_mut(block.get_or_insert_with(empty));
            target[range.clone()].copy_from_slice(&source[range]);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(content.len()).unwrap()];
        content.read(&mut bytes, 0);
        bytes
    }

    fn found(file: &FileNode, seed: u64) -> Vec<u8> {
        let mut rng = Random::new(seed);
        let survival = Survival::draw(&mut rng);
        read(&file.after_crash(survival, &mut rng).current)
    }

    #[test]
    fn ranges_match_a_plain_set() {
        for seed in 0..200 {
            let mut rng = Random::new(seed);
            let mut ranges = Ranges::default();
            let mut plain = [false; 64];
            for _ in 0..40 {
                let (start, end) = (rng.below(64), rng.below(64));
                let span = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
                let add = rng.chance(128);
                if start < end {
                    plain[span].fill(add);
                }
                if add {
                    ranges.add(start, end);
                } else if start < end {
                    ranges.remove(start, end);
                }
            }
            for (sector, expected) in (0..).zip(plain) {
                assert_eq!(ranges.contains(sector), expected, "seed {seed} sector {sector}");
            }
            let blocks: Vec<u64> = ranges.blocks().collect();
            let expected: Vec<u64> = (0..8u64)
                .filter(|block| (0..8).any(|at| ranges.contains(block * 8 + at)))
                .collect();
            assert_eq!(blocks, expected);
        }
    }

    #[test]
    fn synced_sectors_survive_and_unsynced_ones_are_new_old_or_in_between() {
        let mut file = FileNode::default();
        file.write(&[1; 2048], 0);
        file.sync();
        file.write(&[2; 1024], 512);
        file.write(&[3; 512], 1024);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let bytes = found(&file, seed);
            assert_eq!(bytes.len(), 2048);
            assert_eq!(bytes[..512], [1; 512]);
            assert_eq!(bytes[1536..], [1; 512]);
            for sector in bytes.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            }
            seen.insert((bytes[512], bytes[1024]));
        }
        let all = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_length_and_data_or_zeros_between() {
        let mut file = FileNode::default();
        file.write(&[1; 600], 0);
        file.sync();
        file.write(&[2; 1000], 600);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let bytes = found(&file, seed);
            assert_eq!(bytes[..600], [1; 600]);
            let piece = |at: usize| bytes.get(at).copied();
            seen.insert((bytes.len(), piece(600), piece(1100), piece(1599)));
        }
        assert!(seen.contains(&(600, None, None, None)));
        assert!(seen.contains(&(1600, Some(2), Some(2), Some(2))));
        assert!(seen.contains(&(1600, Some(0), Some(2), Some(0))));
        assert!(seen.iter().all(|(len, ..)| [600, 1600].contains(len)));
    }

    #[test]
    fn a_crash_may_undo_an_unsynced_truncation() {
        let mut file = FileNode::default();
        file.write(&[1; 20_000], 0);
        file.sync();
        file.set_len(5_000);
        file.set_len(20_000);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bytes = found(&file, seed);
            assert_eq!(bytes[..5_000], [1; 5_000]);
            let rest = bytes.get(5_120..).unwrap_or_default();
            assert!(rest.chunks(512).all(|piece| piece.iter().all(|byte| *byte == piece[0])));
            seen.insert((bytes.len(), bytes.get(19_000).copied()));
        }
        for expected in [(5_000, None), (20_000, Some(0)), (20_000, Some(1))] {
            assert!(seen.contains(&expected), "{expected:?}");
        }
    }

    #[test]
    fn writes_lost_by_a_failed_sync_stay_lost_until_they_are_written_again() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut file = FileNode::default();
            file.write(&[1; 512], 0);
            file.sync();
            file.write(&[2; 512], 0);
            file.sync_fails(&mut Random::new(seed));
            assert_eq!(read(&file.current), [2; 512], "the cache still shows it");
            file.sync();
            let bytes = found(&file, seed);
            lost += u32::from(bytes == [1; 512]);
            file.write(&[3; 512], 0);
            file.sync();
            assert_eq!(found(&file, seed), [3; 512]);
        }
        assert!((20..80).contains(&lost), "{lost}");
    }

    /// A file with one durable sector of ones, over which a write of twos was lost by a failed
    /// sync.
    fn with_a_lost_write(seed: u64) -> FileNode {
        let mut rng = Random::new(seed);
        loop {
            let mut file = FileNode::default();
            file.write(&[1; 512], 0);
            file.sync();
            file.write(&[2; 512], 0);
            file.sync_fails(&mut rng);
            if read(&file.durable) == [1; 512] {
                return file;
            }
        }
    }

    #[test]
    fn bytes_written_again_after_a_failed_sync_are_durable_after_the_next() {
        for seed in 0..50 {
            let mut file = with_a_lost_write(seed);
            file.write(&[2; 512], 0);
            file.sync();
            assert_eq!(found(&file, seed), [2; 512]);
        }
    }

    #[test]
    fn a_write_over_a_lost_one_never_brings_the_lost_one_back() {
        for seed in 0..300 {
            let mut file = with_a_lost_write(seed);
            file.write(&[3; 512], 512);
            file.write(&[4; 1024], 0);
            let bytes = found(&file, seed);
            assert!([1, 4].contains(&bytes[0]), "seed {seed}: {}", bytes[0]);
        }
    }

    #[test]
    fn truncating_a_lost_write_leaves_zeros_and_not_the_older_bytes() {
        for seed in 0..50 {
            let mut file = with_a_lost_write(seed);
            file.set_len(0);
            file.set_len(512);
            file.sync();
            assert_eq!(found(&file, seed), [0; 512]);
        }
    }
}
