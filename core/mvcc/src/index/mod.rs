//! The index: which versions each key has, and where. A copy-on-write B+tree with counts in its
//! inner nodes; a clone of it is a snapshot that no later change reaches, and costs one reference
//! count. Not here: values, which only the backend has.
//!
//! etcd keeps the versions of a key in generations, each ending with a tombstone; here they are
//! one ascending list in which tombstones are marked, which says the same. What a reader at a
//! revision sees is the newest version at or before it, unless that is a tombstone.
//!
//! Source: etcd v3.7 server/storage/mvcc/{index,key_index}.go.

mod build;
mod keys;
mod node;
mod older;
mod stored;
mod supersede;
mod walk;

pub(crate) use build::{Found, Run};
pub(crate) use node::Sum;
pub(crate) use older::Older;
pub(crate) use stored::{Head, Stored};
pub(crate) use walk::Walk;

use node::{Inner, Leaf, Node, Split};
use std::sync::Arc;

/// The tree. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    root: Arc<Node>,
    sum: Sum,
}

impl Default for Index {
    fn default() -> Index {
        Index { root: Arc::new(Node::Leaf(Leaf::default())), sum: Sum::default() }
    }
}

/// A key and its versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) head: &'a Head,
    older: &'a Older,
}

impl Entry<'_> {
    /// The version that a reader at a main revision sees.
    pub(crate) fn live_at(&self, main: i64) -> Option<Stored> {
        newest_at(self.head, self.older, main).filter(|stored| !stored.is_tombstone())
    }

    /// All versions, oldest first.
    #[cfg(test)]
    pub(crate) fn versions(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        let _ = self.older.visit(&mut |stored| {
            all.push(stored);
            std::ops::ControlFlow::Continue(())
        });
        all.push(self.head.at);
        all
    }
}

/// The newest version at or before a main revision, which may be a tombstone.
fn newest_at(head: &Head, older: &Older, main: i64) -> Option<Stored> {
    if head.at.main() <= main { Some(head.at) } else { older.at(main) }
}

/// The version that a compaction at `main` keeps of those up to it: the newest. A tombstone is
/// kept only if it was made at that very revision, because a watcher may start there.
fn kept_at(head: &Head, older: &Older, main: i64) -> Option<Stored> {
    newest_at(head, older, main).filter(|stored| !stored.is_tombstone() || stored.main() == main)
}

impl Index {
    /// What the whole index holds.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|at| leaf.entry(at)),
            }
        }
    }

    /// Puts a newest version of a key; `make` is given the one that it follows, if any.
    ///
    /// # Panics
    /// When the new version's revision is not above that of the old one.
    pub(crate) fn put(&mut self, key: &[u8], make: &mut dyn FnMut(Option<&Head>) -> Head) {
        let placed = node::put(&mut self.root, key, make);
        self.sum.add(Sum::of(&placed.new));
        if let Some(old) = &placed.old {
            self.sum.subtract(Sum::of(old));
        }
        if let Some(Split { low, node, summary }) = placed.split {
            let mut lows = keys::Keys::default();
            lows.insert(0, b"");
            lows.insert(1, &low);
            let below = vec![self.root.summary(), summary];
            let children = vec![Arc::clone(&self.root), node];
            self.root = Arc::new(Node::Inner(Inner { lows, children, below }));
        }
    }

    /// Takes levels away that have one child only.
    fn lower_root(&mut self) {
        while let Node::Inner(inner) = &*self.root {
            match &inner.children[..] {
                [] => *self = Index::default(),
                [only] => self.root = Arc::clone(only),
                [_, _, ..] => return,
            }
        }
    }

    /// What the keys before `key` hold.
    pub(crate) fn sum_below(&self, key: &[u8]) -> Sum {
        let mut sum = Sum::default();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    inner.below[..at].iter().for_each(|below| sum.add(below.sum));
                    node = &inner.children[at];
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.keys.search(key);
                    leaf.heads[..at].iter().for_each(|head| sum.add(Sum::of(head)));
                    return sum;
                }
            }
        }
    }

    /// What the keys from `from` up to but without `end` hold; to the last key without `end`.
    pub(crate) fn sum_of(&self, from: &[u8], end: Option<&[u8]>) -> Sum {
        if end.is_some_and(|end| end <= from) {
            return Sum::default();
        }
        let mut sum = end.map_or(self.sum, |end| self.sum_below(end));
        if !from.is_empty() {
            sum.subtract(self.sum_below(from));
        }
        sum
    }
}

impl Leaf {
    fn entry(&self, at: usize) -> Entry<'_> {
        Entry { key: self.keys.get(at), head: &self.heads[at], older: &self.older[at] }
    }
}

#[cfg(test)]
mod tests;
