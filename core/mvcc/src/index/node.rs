//! The nodes of the copy-on-write B+tree. A node shared with a view is copied before it is changed
//! (`Arc::make_mut`); other nodes are changed in place. So a batch copies each node at most once.
//!
//! - The keys of a leaf, and of neighbouring leaves, ascend.
//! - An inner node's `lows[i]` is at most the smallest key below child `i` and greater than every
//!   key below child `i - 1`; `lows[0]` is empty.
//! - `below[i]` is the summary of the leaves below child `i`.
//! - No leaf is empty, unless it is the root.

use super::entry::{KeyEntry, NEVER, droppable_from};
use super::keys::{Keys, reserve};
use super::older::Older;
use super::stored::NewestVersion;
use std::sync::Arc;

/// The maximum number of keys in a leaf. A leaf is copied whole: 16 keys of 30 bytes are about 1.5
/// KiB.
pub(crate) const LEAF_MAX: usize = 16;
/// A leaf with fewer keys is merged with a neighbour if possible.
const LEAF_MIN: usize = 4;
/// The maximum number of key bytes in a leaf, unless it has a single longer key.
const LEAF_BYTES_MAX: usize = 16 * 1024;
/// The maximum number of children of an inner node. Copying one increments this many reference
/// counts.
pub(crate) const INNER_MAX: usize = 32;
const INNER_MIN: usize = 8;

/// Sums over the keys of a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Keys, including those whose newest version is a tombstone.
    pub(crate) keys: u64,
    /// Live keys.
    pub(crate) live: u64,
    /// The bytes of the live keys' newest versions as items of a `RangeResponse`.
    pub(crate) framed: u64,
}

impl Sum {
    pub(crate) fn of(head: &NewestVersion) -> Sum {
        let live = u64::from(head.is_live());
        Sum { keys: 1, live, framed: live * head.at.framed_len() }
    }

    pub(crate) fn add(&mut self, other: Sum) {
        self.keys += other.keys;
        self.live += other.live;
        self.framed += other.framed;
    }

    pub(crate) fn subtract(&mut self, other: Sum) {
        self.keys -= other.keys;
        self.live -= other.live;
        self.framed -= other.framed;
    }
}

/// The summary of a subtree, which its parent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) sum: Sum,
    /// The smallest compaction revision that drops a version of the subtree; [`NEVER`] if none
    /// does.
    pub(crate) droppable_from: i64,
}

impl Summary {
    pub(crate) const EMPTY: Summary =
        Summary { sum: Sum { keys: 0, live: 0, framed: 0 }, droppable_from: NEVER };

    pub(crate) fn add(&mut self, other: Summary) {
        self.sum.add(other.sum);
        self.droppable_from = self.droppable_from.min(other.droppable_from);
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) keys: Keys,
    pub(crate) heads: Vec<NewestVersion>,
    pub(crate) older: Vec<Older>,
}

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        let mut heads = Vec::with_capacity(self.heads.len() + 2);
        heads.extend_from_slice(&self.heads);
        let mut older = Vec::with_capacity(self.older.len() + 2);
        older.extend_from_slice(&self.older);
        Leaf { keys: self.keys.clone(), heads, older }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) lows: Keys,
    pub(crate) children: Vec<Arc<Node>>,
    pub(crate) below: Vec<Summary>,
}

/// A node with its lowest key, to be inserted into a parent: the right half of a split, or a built
/// node.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) low: Vec<u8>,
    pub(crate) node: Arc<Node>,
    pub(crate) summary: Summary,
}

/// The result of a put.
pub(crate) struct Placed {
    pub(crate) old: Option<NewestVersion>,
    pub(crate) new: NewestVersion,
    /// The smallest compaction revision that drops a version because of this put. [`NEVER`] if
    /// there is none, or if an older version was droppable before.
    pub(crate) droppable_from: i64,
    pub(crate) split: Option<Split>,
}

impl Leaf {
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::EMPTY;
        for (head, older) in self.heads.iter().zip(&self.older) {
            let droppable_from = droppable_from(head, older);
            summary.add(Summary { sum: Sum::of(head), droppable_from });
        }
        summary
    }

    /// The entry at a place in the leaf.
    pub(crate) fn entry(&self, at: usize) -> KeyEntry<'_> {
        KeyEntry { key: self.keys.get(at), head: &self.heads[at], older: &self.older[at] }
    }

    /// Whether the leaf has no room for one more key.
    fn is_full(&self, key: &[u8]) -> bool {
        let len = self.heads.len();
        len == LEAF_MAX || (len > 0 && self.keys.byte_len() + key.len() > LEAF_BYTES_MAX)
    }

    fn put(
        &mut self,
        key: &[u8],
        make: &mut dyn FnMut(Option<&NewestVersion>) -> NewestVersion,
    ) -> Placed {
        match self.keys.search(key) {
            Ok(at) => {
                let old = self.heads[at];
                let new = make(Some(&old));
                assert!(
                    new.at.revision() > old.at.revision(),
                    "a key's revisions ascend: {:?} after {:?}",
                    new.at,
                    old.at
                );
                let is_first = self.older[at].is_empty();
                self.older[at].push(old.at);
                self.heads[at] = new;
                let droppable_from =
                    if is_first { droppable_from(&new, &self.older[at]) } else { NEVER };
                Placed { old: Some(old), new, droppable_from, split: None }
            }
            Err(at) => {
                let new = make(None);
                let split = if self.is_full(key) {
                    // Split before inserting, so that no list is longer than that of a full leaf.
                    Some(self.split_for(at, key, new))
                } else {
                    self.insert(at, key, new);
                    None
                };
                let droppable_from = droppable_from(&new, &Older::None);
                Placed { old: None, new, droppable_from, split }
            }
        }
    }

    fn insert(&mut self, at: usize, key: &[u8], head: NewestVersion) {
        self.keys.insert(at, key);
        let spare = 4.min(LEAF_MAX.saturating_sub(self.heads.len()));
        reserve(&mut self.heads, 1, spare);
        self.heads.insert(at, head);
        reserve(&mut self.older, 1, spare);
        self.older.insert(at, Older::None);
    }

    /// Splits the leaf and inserts the key. The split is in the middle, or at the end if the key is
    /// appended, so that ascending keys fill leaves.
    fn split_for(&mut self, inserted: usize, key: &[u8], head: NewestVersion) -> Split {
        let len = self.heads.len();
        let at = if inserted == len { len } else { len / 2 };
        let mut right = Leaf {
            keys: self.keys.split_off(at),
            heads: self.heads.split_off(at),
            older: self.older.split_off(at),
        };
        if inserted < at || (inserted == at && at < len) {
            self.insert(inserted, key, head);
        } else {
            right.insert(inserted - at, key, head);
        }
        let (low, summary) = (right.keys.get(0).to_vec(), right.summary());
        Split { low, node: Arc::new(Node::Leaf(right)), summary }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.keys.remove(at);
        self.heads.remove(at);
        self.older.remove(at);
    }
}

impl Inner {
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::EMPTY;
        self.below.iter().for_each(|below| summary.add(*below));
        summary
    }

    /// The child that contains the key if the tree does.
    pub(crate) fn child_of(&self, key: &[u8]) -> usize {
        match self.lows.search(key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    /// Inserts the node that was split off child `at`. Splits this node if it is full.
    fn adopt(&mut self, at: usize, new: Split) -> Option<Split> {
        self.below[at] = self.children[at].summary();
        self.lows.insert(at + 1, &new.low);
        self.children.insert(at + 1, new.node);
        self.below.insert(at + 1, new.summary);
        let len = self.children.len();
        if len <= INNER_MAX {
            return None;
        }
        let at = if at + 2 == len { len - 1 } else { len / 2 };
        let mut lows = self.lows.split_off(at);
        let low = lows.get(0).to_vec();
        lows.remove(0);
        lows.insert(0, b"");
        let right =
            Inner { lows, children: self.children.split_off(at), below: self.below.split_off(at) };
        let summary = right.summary();
        Some(Split { low, node: Arc::new(Node::Inner(right)), summary })
    }

    /// Repairs child `at` after keys were removed below it: removes it if it is empty, merges it
    /// with a neighbour if both are small.
    pub(crate) fn tidy(&mut self, at: usize) {
        if self.below[at].sum.keys == 0 {
            self.drop_child(at);
            return;
        }
        if !self.children[at].is_small() {
            return;
        }
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            let Some([a, b]) = self.children.get(left..left + 2) else { continue };
            if a.can_take(b) {
                let right = Arc::unwrap_or_clone(self.children.remove(left + 1));
                let low = self.lows.get(left + 1).to_vec();
                self.lows.remove(left + 1);
                let summary = self.below.remove(left + 1);
                self.below[left].add(summary);
                Arc::make_mut(&mut self.children[left]).take(right, &low);
                return;
            }
        }
    }

    fn drop_child(&mut self, at: usize) {
        self.children.remove(at);
        self.below.remove(at);
        self.lows.remove(at);
        if at == 0 && !self.children.is_empty() {
            self.lows.remove(0);
            self.lows.insert(0, b"");
        }
    }
}

impl Node {
    pub(crate) fn summary(&self) -> Summary {
        match self {
            Node::Leaf(leaf) => leaf.summary(),
            Node::Inner(inner) => inner.summary(),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.heads.len() < LEAF_MIN,
            Node::Inner(inner) => inner.children.len() < INNER_MIN,
        }
    }

    /// Whether the right neighbour fits in and leaves room for some puts.
    fn can_take(&self, right: &Node) -> bool {
        match (self, right) {
            (Node::Leaf(a), Node::Leaf(b)) => {
                a.heads.len() + b.heads.len() <= LEAF_MAX * 3 / 4
                    && a.keys.byte_len() + b.keys.byte_len() <= LEAF_BYTES_MAX / 2
            }
            (Node::Inner(a), Node::Inner(b)) => {
                a.children.len() + b.children.len() <= INNER_MAX * 3 / 4
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("all leaves have the same depth")
            }
        }
    }

    /// Appends the right neighbour, whose lowest key is `low`.
    fn take(&mut self, right: Node, low: &[u8]) {
        match (self, right) {
            (Node::Leaf(a), Node::Leaf(mut b)) => {
                a.keys.append(&b.keys);
                a.heads.append(&mut b.heads);
                a.older.append(&mut b.older);
            }
            (Node::Inner(a), Node::Inner(mut b)) => {
                b.lows.remove(0);
                b.lows.insert(0, low);
                a.lows.append(&b.lows);
                a.children.append(&mut b.children);
                a.below.append(&mut b.below);
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("all leaves have the same depth")
            }
        }
    }
}

/// Puts a new version of a key; `make` gets the previous newest version.
pub(crate) fn put(
    node: &mut Arc<Node>,
    key: &[u8],
    make: &mut dyn FnMut(Option<&NewestVersion>) -> NewestVersion,
) -> Placed {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => leaf.put(key, make),
        Node::Inner(inner) => {
            let at = inner.child_of(key);
            let mut placed = put(&mut inner.children[at], key, make);
            let below = &mut inner.below[at];
            below.sum.add(Sum::of(&placed.new));
            if let Some(old) = &placed.old {
                below.sum.subtract(Sum::of(old));
            }
            below.droppable_from = below.droppable_from.min(placed.droppable_from);
            placed.split = placed.split.and_then(|new| inner.adopt(at, new));
            placed
        }
    }
}
