//! Builds the index at restart. Versions come in order of revision. Batches of them are sorted by
//! key and merged with the current tree into a new tree of full leaves. The batch size grows with
//! the tree, so each version is moved about five times at most. The old tree is freed while the new
//! one grows.

use super::keys::Keys;
use super::node::{INNER_MAX, Inner, LEAF_MAX, Leaf, Node, Split};
use super::older::Older;
use super::stored::{NewestVersion, StoredVersion};
use super::tree::Index;
use std::sync::Arc;

/// The minimum number of versions in a batch.
const RUN_MIN: usize = 128 * 1024;
/// The maximum number of key bytes in a batch.
const RUN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The number of key bytes at which a built leaf is closed.
const LEAF_FILL_BYTES: usize = 12 * 1024;

/// A version read from the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoredVersion {
    pub(crate) at: StoredVersion,
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// Versions that are not yet merged into the tree.
#[derive(Debug, Default)]
pub(crate) struct VersionBatch {
    keys: Vec<u8>,
    found: Vec<(usize, RestoredVersion)>,
    /// Tombstones of keys that were already deleted. The index ignores them, as etcd does.
    unindexed: Vec<StoredVersion>,
}

impl VersionBatch {
    /// Adds a version. Versions come in order of revision.
    pub(crate) fn push(&mut self, key: &[u8], found: RestoredVersion) {
        self.keys.extend_from_slice(key);
        self.found.push((self.keys.len(), found));
    }

    /// Whether the batch should be merged into the tree.
    pub(crate) fn is_full(&self, index: &Index) -> bool {
        let keys = usize::try_from(index.sum.keys).unwrap_or(usize::MAX);
        self.found.len() >= RUN_MIN.max(keys / 4) || self.keys.len() >= RUN_BYTES_MAX
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.found[at - 1].0 };
        &self.keys[start..self.found[at].0]
    }

    /// The versions in order of key, then of revision. Most comparisons use only the eight bytes
    /// after the common prefix of all keys.
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

    /// Merges the batch into a tree and empties it.
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

    /// All versions that the merges ignored.
    pub(crate) fn into_unindexed(self) -> Vec<StoredVersion> {
        self.unindexed
    }
}

/// Combines the versions of a key by etcd's rules: the counters of the first version are taken from
/// the file, later versions count on from it. A tombstone after a tombstone is ignored.
fn replay(
    before: Option<(NewestVersion, Older)>,
    versions: impl Iterator<Item = RestoredVersion>,
    unindexed: &mut Vec<StoredVersion>,
) -> (NewestVersion, Older) {
    let (mut head, mut older) = match before {
        Some((head, older)) => (Some(head), older),
        None => (None, Older::None),
    };
    let mut passed = Vec::new();
    for found in versions {
        let next = match &head {
            None if found.at.is_tombstone() => NewestVersion::tombstone(found.at),
            None => NewestVersion {
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
                NewestVersion::tombstone(found.at)
            }
            Some(last) => follow(last, found.at, found.lease),
        };
        passed.extend(head.map(|last| last.at));
        head = Some(next);
    }
    older.extend(&passed);
    let Some(head) = head else { unreachable!("each key of a batch has a version") };
    (head, older)
}

/// The newest version after a put that follows `last`.
fn follow(last: &NewestVersion, at: StoredVersion, lease: i64) -> NewestVersion {
    if last.is_live() {
        NewestVersion { at, create: last.create, version: last.version.saturating_add(1), lease }
    } else {
        NewestVersion { at, create: at.main(), version: 1, lease }
    }
}

/// Takes a tree apart from the left and frees its nodes on the way.
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

    /// Moves to the next key if the current leaf is used up. False at the end.
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

    /// Takes the entry of a key if it is the next one.
    fn take(&mut self, key: &[u8]) -> Option<(NewestVersion, Older)> {
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
    /// Adds a key that is greater than all keys before.
    pub(crate) fn push(&mut self, key: &[u8], head: NewestVersion, older: Older) {
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

    /// Adds a node to a level. A full level becomes one node of the level above.
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
