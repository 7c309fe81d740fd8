//! Gives unused space back: each commit rewrites a bounded number of pages.
//!
//! - *Relocation*: once a quarter of the file is unused, the last pages move to the lowest free
//!   spans. The high-water mark falls, and the file is cut after the meta is synced. It stops when
//!   a tenth is unused.
//! - *Packing*: once pages are less than three quarters full on average, neighbours are packed
//!   onto fewer pages. (`apply` joins the neighbours of pages that it writes in any case.)
//!
//! Pages that a view can reach are neither overwritten nor cut off, because they are not free.
//! Nested buckets, which etcd does not use, stay where they are.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::apply::{Action, Op, apply};
use crate::bucket::OpenBucket;
use crate::error::Error;
use crate::map::TreeId;
use crate::packing::Buckets;
use crate::state::WriterState;
use crate::writer::PageWriter;

/// The most bytes that one commit relocates, and that it packs.
const MOVE_BYTES: usize = 1024 * 1024;
/// Smaller files are not shrunk.
const FILE_PAGES_MIN: u64 = 8;

/// Relocates and packs a bounded number of pages, if necessary.
pub(crate) fn step(
    writer: &mut PageWriter<'_>,
    state: &mut WriterState,
    buckets: &mut BTreeMap<Bytes, Option<OpenBucket>>,
) -> Result<(), Error> {
    if writer.map.hwm() < FILE_PAGES_MIN {
        return Ok(());
    }
    let pages_max = (MOVE_BYTES / writer.page_size()).max(4) as u64;
    let txid = state.current.tx_id();
    let mut chosen = state.relocation.choose(writer, txid, pages_max)?;
    let both = Buckets { committed: &state.current.inner.buckets, opened: buckets };
    for (tree, keys) in state.packing.choose(writer, txid, pages_max, &both)? {
        chosen.entry(tree).or_default().extend(keys);
    }
    writer.remember = false;
    for (tree, keys) in chosen {
        if tree == TreeId::ROOT {
            // The root tree is written later in the commit: a bucket marked as changed has its
            // leaf there rewritten.
            for name in keys {
                open(state, buckets, &name);
            }
            continue;
        }
        let Some(name) = state.tree_ids.name(tree).cloned() else { continue };
        let Some(open) = open(state, buckets, &name) else { continue };
        let mut ops = keys.into_iter().map(|key| Op { key, action: Action::Touch });
        open.bucket.root = apply(writer, &open.bucket.root, tree, &mut ops)?;
    }
    writer.remember = true;
    Ok(())
}

/// The bucket in the transaction, marked as changed; `None` if the transaction deletes it.
fn open<'b>(
    state: &WriterState,
    buckets: &'b mut BTreeMap<Bytes, Option<OpenBucket>>,
    name: &Bytes,
) -> Option<&'b mut OpenBucket> {
    if !buckets.contains_key(name) {
        let bucket = state.current.inner.buckets.get(name)?;
        buckets.insert(name.clone(), Some(OpenBucket::new(bucket.clone())));
    }
    let open = buckets.get_mut(name)?.as_mut()?;
    open.changed = true;
    Some(open)
}
