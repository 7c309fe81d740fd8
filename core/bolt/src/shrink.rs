//! Gives space back while the database serves.
//!
//! - *Moving*: once a quarter of the file is unused, each commit writes a bounded number of the
//!   last pages anew, which puts them into the lowest free places; the high-water mark then
//!   falls, and the file is cut after the meta is synced. It goes on until a tenth is unused.
//! - *Packing*: once pages are less than three quarters full on average, each commit looks at some
//!   neighbours and packs them onto fewer pages. (What [`crate::apply`] passes, it joins anyway.)
//!
//! - What a view can reach is neither overwritten nor cut off: its pages are not free.
//! - Nested buckets, which etcd has none of, stay where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::apply::{Action, Op, apply};
use crate::bucket::Root;
use crate::db::State;
use crate::error::Error;
use crate::map::{Slot, Use};
use crate::page::{Kind, Page};
use crate::store::Store;
use crate::tx::{Open, opened};
use crate::view::DEPTH_MAX;

/// Bytes that one commit moves, and that it packs, at most.
const MOVE_BYTES: usize = 1024 * 1024;
/// Entries of the map that one commit looks at, at most.
const LOOK_MAX: u64 = 1 << 16;
/// A file of fewer pages is left alone.
const FILE_PAGES_MIN: u64 = 8;
/// Branches that one commit looks at for neighbours to pack, at most.
const BRANCHES_MAX: usize = 8;
/// Packing begins when runs are less full than this on average, in hundredths of an eighth
/// (rounded down for each): about three quarters.
const FILL_LOW: u64 = 550;
/// Commits between a look at all buckets that found nothing to pack and the next; it comes
/// earlier if runs are less full by [`REST_FILL`].
const REST_COMMITS: u64 = 1000;
/// In hundredths of an eighth.
const REST_FILL: u64 = 20;

/// How far the work has come.
#[derive(Debug, Default)]
pub(crate) struct Shrink {
    /// Moving has begun and is not done.
    moving: bool,
    /// Where packing goes on: a bucket and a key; `None`: with the first.
    place: Option<(Bytes, Bytes)>,
    /// The present round over all buckets has packed something.
    packed: bool,
    /// No packing before this txid, unless pages get clearly less full than they were.
    rest_until: u64,
    /// How full runs were when a round was in vain, in hundredths of an eighth.
    rest_fill: u64,
}

/// The operations that write pages anew, for each tree.
type Touches = BTreeMap<Slot, BTreeSet<Bytes>>;

/// The pages of [`MOVE_BYTES`].
fn pages_max(store: &Store<'_>) -> usize {
    (MOVE_BYTES / store.page_size()).max(4)
}

/// Whether there is something to move; begins at a quarter unused, ends at a tenth.
fn is_due(store: &Store<'_>, shrink: &mut Shrink) -> bool {
    let hwm = store.map.hwm();
    let unused = store.map.free() + store.map.pending();
    if unused * 4 > hwm {
        shrink.moving = true;
    } else if unused * 10 < hwm {
        shrink.moving = false;
    }
    shrink.moving
}

/// The last runs of the file that can move down, as trees and keys that lead to them.
fn choose_last(store: &mut Store<'_>, chosen: &mut Touches) -> Result<(), Error> {
    let hwm = store.map.hwm();
    let used = hwm - store.map.free() - store.map.pending();
    // Where the end will be when all is done.
    let target = used + used / 16;
    // Branches move with their leaves, so leave as much again for them.
    let mut budget = (store.map.free() / 2).min(pages_max(store) as u64);
    let mut page = hwm;
    let mut run_end = hwm;
    let floor = target.max(hwm.saturating_sub(LOOK_MAX));
    while page > floor && budget > 0 {
        page -= 1;
        let slot = match store.map.get(page) {
            Use::Overflow(_) => continue,
            Use::Run(slot) => slot,
            Use::Free | Use::Pending | Use::Meta => {
                run_end = page;
                continue;
            }
        };
        let pages = run_end - page;
        run_end = page;
        let fits = pages <= budget && store.map.place(pages) + pages <= page;
        if slot == Slot::PINNED || store.is_fresh(page) || !fits {
            continue;
        }
        let content = store.read(page)?;
        if content.count() > 0 {
            budget -= pages;
            chosen.entry(slot).or_default().insert(content.key_bytes(0));
        }
    }
    Ok(())
}

/// The branch above the leaf for `key`, its path's upper bound, and nothing if the tree has none.
fn branch_above_leaf(
    store: &mut Store<'_>,
    root: &Root,
    key: &[u8],
) -> Result<Option<(Page, Option<Bytes>)>, Error> {
    let Root::Page(mut id) = *root else { return Ok(None) };
    let mut above: Option<(Page, Option<Bytes>)> = None;
    for _ in 0..DEPTH_MAX {
        let page = store.read(id)?;
        if page.kind() == Kind::Leaf {
            return Ok(above);
        }
        let index = page.child_index(key);
        id = page.child(index);
        // The bound of this page is the bound of the child it was reached by.
        let upper = above.and_then(|(parent, upper)| {
            let next = parent.child_index(key) + 1;
            if next < parent.count() { Some(parent.key_bytes(next)) } else { upper }
        });
        above = Some((page, upper));
    }
    Err(store.corrupt(id, "a tree deeper than any writer makes"))
}

/// Looks at the next few neighbours, and chooses those that fit on clearly fewer pages.
fn choose_sparse(
    store: &mut Store<'_>,
    state: &mut State,
    buckets: &BTreeMap<Bytes, Option<Open>>,
    chosen: &mut Touches,
) -> Result<(), Error> {
    let txid = state.current.tx_id();
    let (runs, eighths) = store.map.fill_sum();
    let fill = eighths * 100 / runs.max(1);
    let rests = txid < state.shrink.rest_until && fill + REST_FILL > state.shrink.rest_fill;
    if fill >= FILL_LOW || rests {
        return Ok(());
    }
    for _ in 0..BRANCHES_MAX {
        let all = &state.current.inner.buckets;
        let (name, key) = state.shrink.place.take().unwrap_or_default();
        let Some((found_name, bucket)) = all.range::<Bytes, _>(&name..).next() else {
            return Ok(());
        };
        let key = if *found_name == name { key } else { Bytes::new() };
        let (root, slot) = match buckets.get(found_name) {
            Some(Some(open)) => (open.bucket.root.clone(), open.bucket.slot),
            Some(None) => (bucket.root.clone(), Slot::PINNED),
            None => (bucket.root.clone(), bucket.slot),
        };
        let above = match slot {
            Slot::PINNED => None,
            Slot(_) => branch_above_leaf(store, &root, &key)?,
        };
        let (keys, next) = match above {
            Some((branch, upper)) => sparse_window(store, &branch, upper, &key),
            None => (BTreeSet::new(), None),
        };
        let found = !keys.is_empty();
        state.shrink.packed |= found;
        if found {
            chosen.entry(slot).or_default().extend(keys);
        }
        let after = (Bound::Excluded(found_name), Bound::Unbounded);
        let next_bucket = || all.range::<Bytes, _>(after).next().map(|(name, _)| name.clone());
        state.shrink.place = match next {
            Some(next) => Some((found_name.clone(), next)),
            None => next_bucket().map(|name| (name, Bytes::new())),
        };
        if state.shrink.place.is_none() && !std::mem::take(&mut state.shrink.packed) {
            // A whole round in vain.
            state.shrink.rest_until = txid + REST_COMMITS;
            state.shrink.rest_fill = fill;
        }
        if found || state.shrink.place.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// The keys of a branch's children from `key` on, as many as one commit packs, if packing them
/// saves at least a seventh of their pages; and the key after them, if there is one.
fn sparse_window(
    store: &Store<'_>,
    branch: &Page,
    upper: Option<Bytes>,
    key: &[u8],
) -> (BTreeSet<Bytes>, Option<Bytes>) {
    let start = branch.child_index(key);
    let end = branch.count().min(start + pages_max(store) / 2);
    let next = if end < branch.count() { Some(branch.key_bytes(end)) } else { upper };
    let count = (end - start) as u64;
    // A fill is rounded down: half an eighth more is the best guess. Pages are filled to seven
    // eighths and a bit.
    let halves: u64 =
        (start..end).map(|index| 2 * store.map.fill(branch.child(index)).eighths() + 1).sum();
    let needed = halves.div_ceil(14);
    if needed * 7 > count * 6 {
        return (BTreeSet::new(), next);
    }
    ((start..end).map(|index| branch.key_bytes(index)).collect(), next)
}

/// Does a bounded part of the work, if there is any.
pub(crate) fn step(
    store: &mut Store<'_>,
    state: &mut State,
    buckets: &mut BTreeMap<Bytes, Option<Open>>,
) -> Result<(), Error> {
    if store.map.hwm() < FILE_PAGES_MIN {
        return Ok(());
    }
    let mut chosen = Touches::new();
    if is_due(store, &mut state.shrink) {
        choose_last(store, &mut chosen)?;
    }
    choose_sparse(store, state, buckets, &mut chosen)?;
    store.remember = false;
    for (slot, keys) in chosen {
        if slot == Slot::ROOT {
            // The root tree is written after us; a bucket's element takes its leaf along.
            for name in keys {
                open(state, buckets, &name);
            }
            continue;
        }
        let Some(name) = state.slots.name(slot).cloned() else { continue };
        let Some(open) = open(state, buckets, &name) else { continue };
        let mut ops = keys.into_iter().map(|key| Op { key, action: Action::Touch });
        open.bucket.root = apply(store, &open.bucket.root, slot, &mut ops)?;
    }
    store.remember = true;
    Ok(())
}

/// The bucket in the transaction, marked as changed; `None` if the transaction deletes it.
fn open<'b>(
    state: &State,
    buckets: &'b mut BTreeMap<Bytes, Option<Open>>,
    name: &Bytes,
) -> Option<&'b mut Open> {
    if !buckets.contains_key(name) {
        let bucket = state.current.inner.buckets.get(name)?;
        buckets.insert(name.clone(), Some(opened(bucket)));
    }
    let open = buckets.get_mut(name)?.as_mut()?;
    open.changed = true;
    Some(open)
}
