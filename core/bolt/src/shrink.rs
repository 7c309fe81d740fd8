//! Gives space back while the database serves.
//!
//! Once a quarter of the file is unused, each commit writes a bounded number of the last pages
//! anew, which puts them into the lowest free places; the high-water mark then falls, and the
//! file is cut after the meta is synced. It goes on until a tenth is unused. Half-empty
//! neighbours are joined by [`crate::apply`] wherever it passes.
//!
//! - What a view can reach is neither overwritten nor cut off: its pages are not free.
//! - Nested buckets, which etcd has none of, stay where they are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::apply::{Action, Op, apply};
use crate::db::State;
use crate::error::Error;
use crate::map::{Slot, Use};
use crate::store::Store;
use crate::tx::{Open, opened};

/// Pages that one commit moves, at most.
const PAGES_MAX: u64 = 256;
/// Entries of the map that one commit looks at, at most.
const LOOK_MAX: u64 = 1 << 16;
/// A file of fewer pages is left alone.
const FILE_PAGES_MIN: u64 = 64;

/// Whether there is work; begins at a quarter unused, ends at a tenth.
fn is_due(store: &Store<'_>, state: &mut State) -> bool {
    let hwm = store.map.hwm();
    let unused = store.map.free() + store.map.pending();
    if unused * 4 > hwm {
        state.shrinking = true;
    } else if unused * 10 < hwm {
        state.shrinking = false;
    }
    state.shrinking && hwm >= FILE_PAGES_MIN
}

/// The last runs of the file that can move down, as trees and keys that lead to them.
fn choose(store: &mut Store<'_>) -> Result<BTreeMap<Slot, BTreeSet<Bytes>>, Error> {
    let mut chosen: BTreeMap<Slot, BTreeSet<Bytes>> = BTreeMap::new();
    let hwm = store.map.hwm();
    let used = hwm - store.map.free() - store.map.pending();
    // Where the end will be when all is done.
    let target = used + used / 16;
    // Branches move with their leaves, so leave as much again for them.
    let mut budget = (store.map.free() / 2).min(PAGES_MAX);
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
    Ok(chosen)
}

/// Does a bounded part of the work, if there is any.
pub(crate) fn step(
    store: &mut Store<'_>,
    state: &mut State,
    buckets: &mut BTreeMap<Bytes, Option<Open>>,
) -> Result<(), Error> {
    if !is_due(store, state) {
        return Ok(());
    }
    let chosen = choose(store)?;
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
