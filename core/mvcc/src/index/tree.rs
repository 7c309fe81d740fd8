//! The tree: lookups, puts, sums over ranges.

use super::entry::KeyEntry;
use super::keys::Keys;
use super::node::{self, Inner, Leaf, Node, Split, Sum};
use super::stored::NewestVersion;
use std::sync::Arc;

/// The index. A clone is a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) root: Arc<Node>,
    pub(crate) sum: Sum,
}

impl Default for Index {
    fn default() -> Index {
        Index { root: Arc::new(Node::Leaf(Leaf::default())), sum: Sum::default() }
    }
}

impl Index {
    /// The sums over all keys.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyEntry<'_>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|at| leaf.entry(at)),
            }
        }
    }

    /// Puts a new version of a key; `make` gets the previous newest version, if any.
    ///
    /// # Panics
    /// If the new version's revision is not greater than the previous one's.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        make: &mut dyn FnMut(Option<&NewestVersion>) -> NewestVersion,
    ) {
        let placed = node::put(&mut self.root, key, make);
        self.sum.add(Sum::of(&placed.new));
        if let Some(old) = &placed.old {
            self.sum.subtract(Sum::of(old));
        }
        if let Some(Split { low, node, summary }) = placed.split {
            let mut lows = Keys::default();
            lows.insert(0, b"");
            lows.insert(1, &low);
            let below = vec![self.root.summary(), summary];
            let children = vec![Arc::clone(&self.root), node];
            self.root = Arc::new(Node::Inner(Inner { lows, children, below }));
        }
    }

    /// Removes levels with a single child.
    pub(crate) fn lower_root(&mut self) {
        while let Node::Inner(inner) = &*self.root {
            match &inner.children[..] {
                [] => *self = Index::default(),
                [only] => self.root = Arc::clone(only),
                [_, _, ..] => return,
            }
        }
    }

    /// The sums over the keys before `key`.
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

    /// The sums over the keys from `from` up to but without `end`, or to the last key without
    /// `end`.
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
