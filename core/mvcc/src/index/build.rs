//! Building the index at restart: the versions come in order of revision, are sorted by key in
//! runs, and each run is merged with the tree so far into a new tree of full leaves. A run is
//! let grow with the tree, so that a version is moved about five times at most however many there
//! are, and the old tree is given back while the new one grows.

use super::keys::Keys;
use super::node::{INNER_MAX, Inner, LEAF_MAX, Leaf, Node, Split};
use super::{Head, Index, Older, Stored};
use std::sync::Arc;

/// Versions in a run at least.
const RUN_MIN: usize = 128 * 1024;
/// Bytes of keys in a run at most.
const RUN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of keys at which a built leaf is closed.
const LEAF_FILL_BYTES: usize = 12 * 1024;

/// A version as it was found in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) at: Stored,
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// Versions that wait for being sorted in.
#[derive(Debug, Default)]
pub(crate) struct Run {
    keys: Vec<u8>,
    found: Vec<(usize, Found)>,
    /// Tombstones of deleted keys: the index leaves them out.
    unindexed: Vec<Stored>,
}

impl Run {
    /// Adds a version. They come in order of revision.
    pub(crate) fn push(&mut self, key: &[u8], found: Found) {
        self.keys.extend_from_slice(key);
        self.found.push((self.keys.len(), found));
    }

    /// Whether it is time to merge the run into a tree.
    pub(crate) fn is_full(&self, index: &Index) -> bool {
        let keys = usize::try_from(index.sum.keys).unwrap_or(usize::MAX);
        self.found.len() >= RUN_MIN.max(keys / 4) || self.keys.len() >= RUN_BYTES_MAX
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.found[at - 1].0 };
        &self.keys[start..self.found[at].0]
    }

    /// The versions in order of key, then of revision. Most comparisons look only at the eight
    /// bytes behind what all keys begin with.
    fn sorted(&self) -> Vec<(u64, usize)> {
        let first = if self.found.is_empty() { &[][..] } else { self.key(0) };
        let shared = (1..self.found.len()).fold(first.len(), |shared, at| {
            let key = self.key(at);
            if key.get(..shared) == first.get(..shared) {
                return shared;
            }
            first.iter().zip(key).take_while(|(a, b)| a == b).count()
        });
        let mut order: Vec<(u64, usize)> = (0..self.found.len())
            .map(|at| {
                let rest = &self.key(at)[shared..];
                let mut eight = [0; 8];
                let len = rest.len().min(8);
                eight[..len].copy_from_slice(&rest[..len]);
                (u64::from_be_bytes(eight), at)
            })
            .collect();
        order.sort_unstable_by(|(a_eight, a), (b_eight, b)| {
            a_eight.cmp(b_eight).then_with(|| self.key(*a).cmp(self.key(*b))).then(a.cmp(b))
        });
        order
    }

    /// Merges the run into a tree, and is empty then.
    pub(crate) fn merge_into(&mut self, index: &mut Index) {
        if self.found.is_empty() {
            return;
        }
        let order = self.sorted();
        let mut old = Drain::new(std::mem::take(index));
        let mut builder = Builder::default();
        let mut unindexed = Vec::new();
        let mut at = 0;
        while at < order.len() {
            let key = self.key(order[at].1);
            let eight = order[at].0;
            let is_same = |(other, next): &&(u64, usize)| *other == eight && self.key(*next) == key;
            let same = 1 + order[at + 1..].iter().take_while(is_same).count();
            old.move_below(key, &mut builder);
            let before = old.take(key);
            let versions = order[at..at + same].iter().map(|(_, next)| self.found[*next].1);
            let (head, older) = replay(before, versions, &mut unindexed);
            builder.push(key, head, older);
            at += same;
        }
        old.move_rest(&mut builder);
        *index = builder.finish();
        self.unindexed.append(&mut unindexed);
        self.keys.clear();
        self.found.clear();
    }

    /// The versions of all merges that the index left out.
    pub(crate) fn into_unindexed(self) -> Vec<Stored> {
        self.unindexed
    }
}

/// What the versions of a key add up to, by etcd's rules: the first version found of a key is
/// believed, later ones count on from it; a tombstone on a tombstone is ignored.
fn replay(
    before: Option<(Head, Older)>,
    versions: impl Iterator<Item = Found>,
    unindexed: &mut Vec<Stored>,
) -> (Head, Older) {
    let (mut head, mut older) = match before {
        Some((head, older)) => (Some(head), older),
        None => (None, Older::None),
    };
    let mut passed = Vec::new();
    for found in versions {
        let next = match &head {
            None if found.at.is_tombstone() => Head::tombstone(found.at),
            None => Head {
                at: found.at,
                create: found.create,
                version: found.version,
                lease: found.lease,
            },
            Some(last) if found.at.is_tombstone() => {
                if !last.is_live() {
                    unindexed.push(found.at);
                    continue;
                }
                Head::tombstone(found.at)
            }
            Some(last) => follow(last, found.at, found.lease),
        };
        passed.extend(head.map(|last| last.at));
        head = Some(next);
    }
    older.extend(&passed);
    let Some(head) = head else { unreachable!("a key is there because of a version") };
    (head, older)
}

/// The put that comes after `last`.
fn follow(last: &Head, at: Stored, lease: i64) -> Head {
    if last.is_live() {
        Head { at, create: last.create, version: last.version.saturating_add(1), lease }
    } else {
        Head { at, create: at.main(), version: 1, lease }
    }
}

/// Takes a tree apart from the left, giving its memory back on the way.
struct Drain {
    path: Vec<std::vec::IntoIter<Arc<Node>>>,
    leaf: Leaf,
    at: usize,
}

impl Drain {
    fn new(index: Index) -> Drain {
        let path = vec![vec![index.root].into_iter()];
        let mut drain = Drain { path, leaf: Leaf::default(), at: 0 };
        drain.next_leaf();
        drain
    }

    fn next_leaf(&mut self) -> bool {
        while let Some(level) = self.path.last_mut() {
            match level.next().map(Arc::unwrap_or_clone) {
                None => {
                    self.path.pop();
                }
                Some(Node::Inner(inner)) => self.path.push(inner.children.into_iter()),
                Some(Node::Leaf(leaf)) => {
                    (self.leaf, self.at) = (leaf, 0);
                    return true;
                }
            }
        }
        self.leaf = Leaf::default();
        self.at = 0;
        false
    }

    /// Stands on a key, unless there are no more.
    fn settle(&mut self) -> bool {
        while self.at >= self.leaf.heads.len() {
            if !self.next_leaf() {
                return false;
            }
        }
        true
    }

    fn move_one(&mut self, builder: &mut Builder) {
        let older = std::mem::take(&mut self.leaf.older[self.at]);
        builder.push(self.leaf.keys.get(self.at), self.leaf.heads[self.at], older);
        self.at += 1;
    }

    fn move_below(&mut self, key: &[u8], builder: &mut Builder) {
        while self.settle() && self.leaf.keys.get(self.at) < key {
            self.move_one(builder);
        }
    }

    fn move_rest(&mut self, builder: &mut Builder) {
        while self.settle() {
            self.move_one(builder);
        }
    }

    /// The key's entry if it is the next.
    fn take(&mut self, key: &[u8]) -> Option<(Head, Older)> {
        if !self.settle() || self.leaf.keys.get(self.at) != key {
            return None;
        }
        let older = std::mem::take(&mut self.leaf.older[self.at]);
        self.at += 1;
        Some((self.leaf.heads[self.at - 1], older))
    }
}

/// Builds a tree of full nodes from ascending keys.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    leaf: Leaf,
    levels: Vec<Vec<Split>>,
}

impl Builder {
    /// Adds a key that is greater than all before.
    pub(crate) fn push(&mut self, key: &[u8], head: Head, older: Older) {
        let full = self.leaf.heads.len() == LEAF_MAX
            || self.leaf.keys.byte_len() + key.len() > LEAF_FILL_BYTES;
        if full && !self.leaf.heads.is_empty() {
            self.close_leaf();
        }
        self.leaf.keys.insert(self.leaf.heads.len(), key);
        self.leaf.heads.push(head);
        self.leaf.older.push(older);
    }

    fn close_leaf(&mut self) {
        let leaf = Leaf {
            keys: self.leaf.keys.exact(),
            heads: self.leaf.heads.as_slice().to_vec(),
            older: self.leaf.older.drain(..).collect(),
        };
        let (low, summary) = (leaf.keys.get(0).to_vec(), leaf.summary());
        self.leaf.keys.clear();
        self.leaf.heads.clear();
        self.add(0, Split { low, node: Arc::new(Node::Leaf(leaf)), summary });
    }

    /// Adds a node to a level, and what that level's nodes make up to the next one.
    fn add(&mut self, level: usize, node: Split) {
        if self.levels.len() == level {
            self.levels.push(Vec::with_capacity(INNER_MAX));
        }
        self.levels[level].push(node);
        if self.levels[level].len() == INNER_MAX {
            let inner = join(std::mem::take(&mut self.levels[level]));
            self.add(level + 1, inner);
        }
    }

    pub(crate) fn finish(mut self) -> Index {
        if !self.leaf.heads.is_empty() {
            self.close_leaf();
        }
        let mut level = 0;
        while level < self.levels.len() {
            let mut nodes = std::mem::take(&mut self.levels[level]);
            let is_top = level + 1 == self.levels.len();
            if is_top && nodes.len() == 1 {
                let Some(Split { node, summary, .. }) = nodes.pop() else { break };
                return Index { root: node, sum: summary.sum };
            }
            if !nodes.is_empty() {
                self.add(level + 1, join(nodes));
            }
            level += 1;
        }
        Index::default()
    }
}

fn join(nodes: Vec<Split>) -> Split {
    let mut lows = Keys::default();
    let mut children = Vec::with_capacity(nodes.len());
    let mut below = Vec::with_capacity(nodes.len());
    let mut first = Vec::new();
    for (at, Split { low, node, summary }) in nodes.into_iter().enumerate() {
        if at == 0 {
            lows.insert(0, b"");
            first = low;
        } else {
            lows.insert(at, &low);
        }
        children.push(node);
        below.push(summary);
    }
    let inner = Inner { lows: lows.exact(), children, below };
    let summary = inner.summary();
    Split { low: first, node: Arc::new(Node::Inner(inner)), summary }
}
