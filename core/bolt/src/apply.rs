//! Merges a sorted stream of operations into a tree, copy-on-write.
//!
//! One pass from left to right: each page on the path to an operation is read once, merged, and
//! written to a new place. Other pages stay where they are. A page that becomes less than half full
//! is merged with a neighbour if both fit on one page.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::bucket::{Root, inline_page};
use crate::error::{Error, UsageError};
use crate::map::TreeId;
use crate::pack::Packer;
use crate::page::{
    DEPTH_MAX, HEADER, ITEM_BUCKET, Item, KEY_BYTES_MAX, Kind, Page, VALUE_BYTES_MAX,
};
use crate::writer::PageWriter;

/// The change of a key.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Put {
        value: Bytes,
        /// [`ITEM_BUCKET`] in the root tree, else 0.
        flags: u32,
    },
    Delete,
    /// Rewrites the pages on the path to the key, unchanged, so that they move.
    Touch,
}

/// Keys whose pages are to be rewritten, by tree.
pub(crate) type Touches = BTreeMap<TreeId, BTreeSet<Bytes>>;

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) key: Bytes,
    pub(crate) action: Action,
}

/// A sorted stream of operations with one operation of lookahead.
struct Ops<'o> {
    source: &'o mut dyn Iterator<Item = Op>,
    next: Option<Op>,
}

impl<'o> Ops<'o> {
    fn new(source: &'o mut dyn Iterator<Item = Op>) -> Result<Ops<'o>, Error> {
        let mut ops = Ops { source, next: None };
        ops.advance()?;
        Ok(ops)
    }

    fn advance(&mut self) -> Result<Option<Op>, Error> {
        let next = self.source.next();
        if let Some(op) = &next {
            if let Action::Put { value, .. } = &op.action {
                check_put(&op.key, value)?;
            }
            let sorted = self.next.as_ref().is_none_or(|before| before.key < op.key);
            assert!(sorted, "operations come in strictly ascending order of their keys");
        }
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// The next key, if it is below `upper`.
    fn key_below(&self, upper: Option<&[u8]>) -> Option<&Bytes> {
        let key = &self.next.as_ref()?.key;
        upper.is_none_or(|upper| &key[..] < upper).then_some(key)
    }
}

/// Checks the key and value of a put.
pub(crate) fn check_put(key: &[u8], value: &[u8]) -> Result<(), UsageError> {
    if key.is_empty() {
        Err(UsageError::EmptyKey)
    } else if key.len() > KEY_BYTES_MAX {
        Err(UsageError::KeyTooLarge)
    } else if value.len() > VALUE_BYTES_MAX {
        Err(UsageError::ValueTooLarge)
    } else {
        Ok(())
    }
}

struct Merge<'m, 's, 'o> {
    writer: &'m mut PageWriter<'s>,
    ops: Ops<'o>,
    tree: TreeId,
}

/// Bytes in use on a page.
fn used(page: &Page) -> usize {
    (0..page.count()).map(|index| page.item(index).size()).sum::<usize>()
}

/// Applies `ops` to the tree `tree` with this root, and returns the new root.
///
/// # Errors
/// Errors of reading, writing and [`check_put`], and [`UsageError::Incompatible`] if an operation
/// meets a nested bucket. The writer must then be rolled back.
pub(crate) fn apply(
    writer: &mut PageWriter<'_>,
    root: &Root,
    tree: TreeId,
    ops: &mut dyn Iterator<Item = Op>,
) -> Result<Root, Error> {
    let ops = Ops::new(ops)?;
    if ops.next.is_none() {
        return Ok(root.clone());
    }
    let page = match root {
        Root::Inline(page) => page.clone(),
        Root::Page(id) => writer.read(*id)?,
    };
    let mut merge = Merge { writer, ops, tree };
    let mut packer = Packer::new(page.kind(), tree, merge.writer.page_size());
    merge.node(&page, None, 0, &mut packer)?;
    if matches!(root, Root::Page(_)) {
        merge.writer.free(&page)?;
    }
    finish_root(writer, packer, tree)
}

/// Whether a leaf of `len` bytes can be the root of an inline bucket.
fn can_be_inline(writer: &PageWriter<'_>, tree: TreeId, len: usize, nested: bool) -> bool {
    tree != TreeId::ROOT && !nested && len <= writer.page_size() / 4
}

/// Writes the levels of a tree above the elements in `packer`, and returns its root.
fn finish_root(
    writer: &mut PageWriter<'_>,
    mut packer: Packer,
    tree: TreeId,
) -> Result<Root, Error> {
    if packer.is_single() {
        if packer.kind() == Kind::Branch && packer.items().len() == 1 {
            return collapse(writer, packer.items()[0].child, tree);
        }
        if packer.kind() == Kind::Leaf || packer.is_empty() {
            let nested = packer.items().iter().any(|item| item.flags & ITEM_BUCKET != 0);
            if can_be_inline(writer, tree, packer.page_len(), nested) {
                return Ok(Root::Inline(inline_page(&packer.take_items())));
            }
            if packer.is_empty() {
                return Ok(Root::Page(writer.write(Kind::Leaf, &[], tree)?.child));
            }
        }
    }
    loop {
        packer.flush(writer, true)?;
        let entries = packer.take_out();
        if let [only] = &entries[..] {
            return Ok(Root::Page(only.child));
        }
        packer = Packer::new(Kind::Branch, tree, writer.page_size());
        for entry in entries {
            packer.push(writer, entry)?;
        }
    }
}

/// Replaces a root branch with one child by that child.
fn collapse(writer: &mut PageWriter<'_>, child: u64, tree: TreeId) -> Result<Root, Error> {
    let mut id = child;
    for _ in 0..DEPTH_MAX {
        let page = writer.read(id)?;
        match page.kind() {
            Kind::Branch if page.count() == 1 => {
                id = page.child(0);
                writer.free(&page)?;
            }
            Kind::Branch => return Ok(Root::Page(id)),
            Kind::Leaf => {
                let nested = (0..page.count()).any(|index| page.is_bucket(index));
                if !can_be_inline(writer, tree, HEADER + used(&page), nested) {
                    return Ok(Root::Page(id));
                }
                let items: Vec<Item> = (0..page.count()).map(|index| page.item(index)).collect();
                writer.free(&page)?;
                return Ok(Root::Inline(inline_page(&items)));
            }
        }
    }
    Err(writer.corrupt(id, "a tree deeper than any writer makes"))
}

impl Merge<'_, '_, '_> {
    /// Pushes the elements of a page after the merge. The caller frees the page.
    fn node(
        &mut self,
        page: &Page,
        upper: Option<&[u8]>,
        depth: usize,
        packer: &mut Packer,
    ) -> Result<(), Error> {
        if page.kind() != packer.kind() || depth > DEPTH_MAX {
            return Err(self.writer.corrupt(page.id(), "leaves at different depths"));
        }
        match page.kind() {
            Kind::Leaf => self.leaf(page, upper, packer),
            Kind::Branch => {
                for entry in self.children(page, upper, depth)? {
                    packer.push(self.writer, entry)?;
                }
                Ok(())
            }
        }
    }

    /// Merges the operations below `upper` with a leaf's elements.
    fn leaf(
        &mut self,
        page: &Page,
        upper: Option<&[u8]>,
        packer: &mut Packer,
    ) -> Result<(), Error> {
        let mut index = 0;
        while let Some(key) = self.ops.key_below(upper) {
            while index < page.count() && page.key(index) < &key[..] {
                packer.push(self.writer, page.item(index))?;
                index += 1;
            }
            let found = index < page.count() && page.key(index) == &key[..];
            let Some(Op { key, action }) = self.ops.advance()? else { break };
            let nested = found && page.is_bucket(index);
            match action {
                Action::Touch => {}
                Action::Put { .. } | Action::Delete
                    if found && nested != (self.tree == TreeId::ROOT) =>
                {
                    return Err(UsageError::Incompatible.into());
                }
                Action::Put { value, flags } => {
                    packer.push(self.writer, Item::leaf(key, value, flags))?;
                    index += usize::from(found);
                }
                Action::Delete => index += usize::from(found),
            }
        }
        while index < page.count() {
            packer.push(self.writer, page.item(index))?;
            index += 1;
        }
        Ok(())
    }

    /// Reads a child page, and checks that its keys are within the bounds of the branch.
    fn child(&mut self, id: u64, low: &[u8], upper: Option<&[u8]>) -> Result<Page, Error> {
        let page = self.writer.read(id)?;
        let inside = page.count().checked_sub(1).is_none_or(|last| {
            page.key(0) >= low && upper.is_none_or(|upper| page.key(last) < upper)
        });
        if inside {
            Ok(page)
        } else {
            Err(self.writer.corrupt(id, "keys outside what the branch above says"))
        }
    }

    /// Merges the operations below `upper` into a branch's children, and returns its new
    /// elements.
    fn children(
        &mut self,
        page: &Page,
        upper: Option<&[u8]>,
        depth: usize,
    ) -> Result<Vec<Item>, Error> {
        let mut entries = Vec::with_capacity(page.count() + 1);
        let mut pending: Option<Packer> = None;
        for index in 0..page.count() {
            let last = index + 1 == page.count();
            let child_upper = if last { upper } else { Some(page.key(index + 1)) };
            if self.ops.key_below(child_upper).is_none() {
                let entry = Item::branch(page.key_bytes(index), page.child(index));
                if !self.absorb(&mut pending, &entry, child_upper, &mut entries)? {
                    entries.push(entry);
                }
                continue;
            }
            let child = self.child(page.child(index), page.key(index), child_upper)?;
            let packer = pending.get_or_insert_with(|| {
                Packer::new(child.kind(), self.tree, self.writer.page_size())
            });
            self.node(&child, child_upper, depth + 1, packer)?;
            self.writer.free(&child)?;
        }
        if let Some(packer) = pending {
            self.finish(packer, &mut entries, upper.is_none())?;
        }
        Ok(entries)
    }

    /// Handles an unchanged child after changed ones: merges it into the pending page, or writes
    /// the pending page. True if the child was merged.
    fn absorb(
        &mut self,
        pending: &mut Option<Packer>,
        entry: &Item,
        upper: Option<&[u8]>,
        entries: &mut Vec<Item>,
    ) -> Result<bool, Error> {
        let Some(packer) = pending.as_mut() else { return Ok(false) };
        if !packer.is_empty() && packer.wants_merge() {
            let child = self.child(entry.child, &entry.key, upper)?;
            if child.kind() != packer.kind() {
                return Err(self.writer.corrupt(entry.child, "leaves at different depths"));
            }
            if packer.fits(used(&child)) {
                packer.push_page(self.writer, &child)?;
                self.writer.free(&child)?;
                return Ok(true);
            }
        }
        packer.flush(self.writer, false)?;
        entries.append(&mut packer.take_out());
        *pending = None;
        Ok(false)
    }

    /// Writes the pending pages of the last children, merged with the page before them if they are
    /// small.
    fn finish(
        &mut self,
        mut packer: Packer,
        entries: &mut Vec<Item>,
        append: bool,
    ) -> Result<(), Error> {
        entries.append(&mut packer.take_out());
        if !packer.is_empty()
            && packer.wants_merge()
            && let Some(before) = entries.last()
        {
            let upper = packer.items().front().map(|item| item.key.clone());
            let page = self.child(before.child, &before.key, upper.as_deref())?;
            if page.kind() != packer.kind() {
                return Err(self.writer.corrupt(page.id(), "leaves at different depths"));
            }
            let growing = append && packer.kind() == Kind::Leaf;
            if packer.fits(used(&page)) && !(growing && self.writer.is_fresh(page.id())) {
                packer.prepend(&page);
                self.writer.free(&page)?;
                entries.pop();
            }
        }
        packer.flush(self.writer, append)?;
        entries.append(&mut packer.take_out());
        Ok(())
    }
}
