//! Iterates over the keys of a snapshot of the index. A walk holds its snapshot and can pause at
//! any time.

use super::entry::KeyEntry;
use super::node::Node;
use super::tree::Index;
use bytes::Bytes;
use std::sync::Arc;

/// A position in a snapshot of the index.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// The path from the root to the current leaf, with the place in each node.
    path: Vec<(Arc<Node>, usize)>,
    /// The exclusive end; none to walk to the last key.
    end: Option<Bytes>,
}

impl Walk {
    pub(crate) fn new(index: &Index, from: &[u8], end: Option<Bytes>) -> Walk {
        let mut path = Vec::with_capacity(6);
        let mut node = Arc::clone(&index.root);
        loop {
            let below = match &*node {
                Node::Inner(inner) => {
                    let at = inner.child_of(from);
                    Some((at, Arc::clone(&inner.children[at])))
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.keys.search(from);
                    path.push((Arc::clone(&node), at));
                    None
                }
            };
            let Some((at, child)) = below else { break };
            path.push((node, at));
            node = child;
        }
        let mut walk = Walk { path, end };
        walk.settle();
        walk
    }

    /// The current entry; none at the end.
    pub(crate) fn entry(&self) -> Option<KeyEntry<'_>> {
        let (node, at) = self.path.last()?;
        let Node::Leaf(leaf) = &**node else { unreachable!("a path ends in a leaf") };
        if *at >= leaf.heads.len() {
            return None;
        }
        let entry = leaf.entry(*at);
        match &self.end {
            Some(end) if entry.key >= &end[..] => None,
            _ => Some(entry),
        }
    }

    /// Moves to the next key.
    pub(crate) fn advance(&mut self) {
        if let Some((_, at)) = self.path.last_mut() {
            *at += 1;
        }
        self.settle();
    }

    /// If the current leaf is used up, moves to the first key of the next one.
    fn settle(&mut self) {
        let Some((node, at)) = self.path.last() else { return };
        let Node::Leaf(leaf) = &**node else { unreachable!("a path ends in a leaf") };
        if *at < leaf.heads.len() {
            return;
        }
        let last = self.path.len() - 1;
        let Some(turn) = self.path[..last].iter().rposition(|(node, at)| match &**node {
            Node::Inner(inner) => at + 1 < inner.children.len(),
            Node::Leaf(_) => unreachable!("a leaf has nothing below it"),
        }) else {
            return;
        };
        self.path.truncate(turn + 1);
        self.path[turn].1 += 1;
        loop {
            let (node, at) = &self.path[self.path.len() - 1];
            let Node::Inner(inner) = &**node else { return };
            let child = Arc::clone(&inner.children[*at]);
            self.path.push((child, 0));
        }
    }
}
