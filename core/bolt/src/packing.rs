//! Chooses neighbouring leaves that fit on fewer pages, if pages are less than three quarters full
//! on average. A walk visits all buckets, a bounded number of branches per commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::apply::Touches;
use crate::bucket::{Bucket, OpenBucket, Root};
use crate::error::Error;
use crate::map::TreeId;
use crate::page::{DEPTH_MAX, Kind, Page};
use crate::writer::PageWriter;

/// The most branches that one commit examines.
const BRANCHES_MAX: usize = 8;
/// Packing starts if the average fill of runs is below this, in hundredths of an eighth. Fills are
/// rounded down, so this is about three quarters.
const FILL_LOW: u64 = 550;
/// Commits without packing after a walk that found nothing to pack, unless the average fill drops
/// by [`REST_FILL`].
const REST_COMMITS: u64 = 1000;
/// In hundredths of an eighth.
const REST_FILL: u64 = 20;

/// The progress of packing.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    /// The bucket and key at which the walk continues; `None`: at the first bucket.
    next: Option<(Bytes, Bytes)>,
    /// Whether the current walk has chosen pages.
    chose: bool,
    /// The txid until which packing rests.
    rest_until: u64,
    /// The average fill when the rest began, in hundredths of an eighth.
    rest_fill: u64,
}

/// The buckets as of the last commit, and those that the transaction has opened.
pub(crate) struct Buckets<'b> {
    pub(crate) committed: &'b BTreeMap<Bytes, Bucket>,
    pub(crate) opened: &'b BTreeMap<Bytes, Option<OpenBucket>>,
}

/// The branch above the leaf for `key` and the upper bound of its keys; `None` if the tree has no
/// branch.
fn branch_above_leaf(
    writer: &mut PageWriter<'_>,
    root: &Root,
    key: &[u8],
) -> Result<Option<(Page, Option<Bytes>)>, Error> {
    let Root::Page(mut id) = *root else { return Ok(None) };
    let mut above: Option<(Page, Option<Bytes>)> = None;
    for _ in 0..DEPTH_MAX {
        let page = writer.read(id)?;
        if page.kind() == Kind::Leaf {
            return Ok(above);
        }
        let index = page.child_index(key);
        id = page.child(index);
        // The upper bound of this page is the next key of its parent.
        let upper = above.and_then(|(parent, upper)| {
            let next = parent.child_index(key) + 1;
            if next < parent.count() { Some(parent.key_bytes(next)) } else { upper }
        });
        above = Some((page, upper));
    }
    Err(writer.corrupt(id, "a tree deeper than any writer makes"))
}

impl Packing {
    /// Examines the next branches and chooses children of one of them that fit on clearly fewer
    /// pages, at most `pages_max / 2`.
    pub(crate) fn choose(
        &mut self,
        writer: &mut PageWriter<'_>,
        txid: u64,
        pages_max: u64,
        buckets: &Buckets<'_>,
    ) -> Result<Touches, Error> {
        let (runs, eighths) = writer.map.fill_sum();
        let fill = eighths * 100 / runs.max(1);
        let rests = txid < self.rest_until && fill + REST_FILL > self.rest_fill;
        if fill >= FILL_LOW || rests {
            return Ok(Touches::new());
        }
        for _ in 0..BRANCHES_MAX {
            let chosen = self.choose_in_next_branch(writer, pages_max, buckets)?;
            self.chose |= !chosen.is_empty();
            if self.next.is_none() && !std::mem::take(&mut self.chose) {
                self.rest_until = txid + REST_COMMITS;
                self.rest_fill = fill;
            }
            if self.next.is_none() || !chosen.is_empty() {
                return Ok(chosen);
            }
        }
        Ok(Touches::new())
    }

    /// Chooses children of the next branch, and advances.
    fn choose_in_next_branch(
        &mut self,
        writer: &mut PageWriter<'_>,
        pages_max: u64,
        buckets: &Buckets<'_>,
    ) -> Result<Touches, Error> {
        let mut chosen = Touches::new();
        let (place, key) = self.next.take().unwrap_or_default();
        let Some((name, bucket)) = buckets.committed.range::<Bytes, _>(&place..).next() else {
            return Ok(chosen);
        };
        let key = if *name == place { key } else { Bytes::new() };
        let bucket = match buckets.opened.get(name) {
            Some(Some(opened)) => Some(&opened.bucket),
            Some(None) => None,
            None => Some(bucket),
        };
        if let Some(bucket) = bucket.filter(|bucket| bucket.tree != TreeId::PINNED)
            && let Some((branch, upper)) = branch_above_leaf(writer, &bucket.root, &key)?
        {
            let (keys, behind) = sparse_window(writer, &branch, upper, &key, pages_max);
            self.next = behind.map(|key| (name.clone(), key));
            if !keys.is_empty() {
                chosen.insert(bucket.tree, keys);
            }
        }
        if self.next.is_none() {
            let after = (Bound::Excluded(name), Bound::Unbounded);
            let following = buckets.committed.range::<Bytes, _>(after).next();
            self.next = following.map(|(name, _)| (name.clone(), Bytes::new()));
        }
        Ok(chosen)
    }
}

/// The keys of the children of a branch from `key` on, at most `pages_max / 2`, if packing saves at
/// least a seventh of their pages; and the key after them, if there is one.
fn sparse_window(
    writer: &PageWriter<'_>,
    branch: &Page,
    upper: Option<Bytes>,
    key: &[u8],
    pages_max: u64,
) -> (BTreeSet<Bytes>, Option<Bytes>) {
    let start = branch.child_index(key);
    let window = usize::try_from(pages_max / 2).unwrap_or(usize::MAX);
    let end = branch.count().min(start.saturating_add(window));
    let next = if end < branch.count() { Some(branch.key_bytes(end)) } else { upper };
    let count = (end - start) as u64;
    // Fills are rounded down, so the best guess is half an eighth more. Packed pages are filled to
    // about seven eighths, which are 14 halves of an eighth.
    let halves: u64 =
        (start..end).map(|index| 2 * writer.map.fill(branch.child(index)).eighths() + 1).sum();
    let needed = halves.div_ceil(14);
    if needed * 7 > count * 6 {
        return (BTreeSet::new(), next);
    }
    ((start..end).map(|index| branch.key_bytes(index)).collect(), next)
}
