//! Taking out of the tree the versions that a compaction drops. Every inner node knows for each
//! child the smallest compaction revision that drops something below it, so only the nodes on the
//! way to such versions are visited. What was taken out is not found again: there is no position
//! to keep between calls.

use super::node::{Inner, Leaf, Node};
use super::older::Older;
use super::stored::{Head, Stored};
use super::{Index, kept_at};
use std::sync::Arc;

/// The value of "no compaction drops anything here".
pub(crate) const NEVER: i64 = i64::MAX;

/// The smallest compaction revision that drops a version of a key: the one at which its oldest
/// version is superseded. A tombstone is superseded by the next revision.
pub(crate) fn droppable_from(head: &Head, older: &Older) -> i64 {
    let (oldest, next) = match older.first_two() {
        (None, _) => (head.at, NEVER),
        (Some(oldest), next) => (oldest, next.unwrap_or(head.at).main()),
    };
    if oldest.is_tombstone() { next.min(oldest.main().saturating_add(1)) } else { next }
}

/// One call of [`Index::take_superseded`].
struct Taking<'a> {
    /// The compaction's revision.
    main: i64,
    /// How many versions may still be taken.
    room: usize,
    taken: &'a mut dyn FnMut(Stored),
    visited_nodes: usize,
}

impl Index {
    /// Takes out at most `max` of the versions that a compaction at `main` drops. Returns the
    /// number of nodes visited: at most the depth of the tree for each version taken.
    pub(crate) fn take_superseded(
        &mut self,
        main: i64,
        max: usize,
        taken: &mut dyn FnMut(Stored),
    ) -> usize {
        if !self.has_superseded(main) {
            return 0;
        }
        let main = main.min(NEVER - 1);
        let mut taking = Taking { main, room: max, taken, visited_nodes: 0 };
        taking.visit(&mut self.root);
        self.sum = self.root.summary().sum;
        self.lower_root();
        taking.visited_nodes
    }

    /// Whether a compaction at `main` drops any version.
    pub(crate) fn has_superseded(&self, main: i64) -> bool {
        self.root.summary().droppable_from <= main.min(NEVER - 1)
    }
}

impl Taking<'_> {
    fn visit(&mut self, node: &mut Arc<Node>) {
        self.visited_nodes += 1;
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => self.visit_leaf(leaf),
            Node::Inner(inner) => self.visit_inner(inner),
        }
    }

    fn visit_inner(&mut self, inner: &mut Inner) {
        let main = self.main;
        while self.room > 0
            && let Some(at) = inner.below.iter().position(|below| below.droppable_from <= main)
        {
            let room = self.room;
            self.visit(&mut inner.children[at]);
            assert!(self.room < room, "a child that has something to drop gives a version");
            inner.below[at] = inner.children[at].summary();
            inner.tidy(at);
        }
    }

    fn visit_leaf(&mut self, leaf: &mut Leaf) {
        let mut at = 0;
        while at < leaf.heads.len() && self.room > 0 {
            if self.take_of_key(&leaf.heads[at], &mut leaf.older[at]) {
                leaf.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Takes versions of one key; true if the key is gone.
    fn take_of_key(&mut self, head: &Head, older: &mut Older) -> bool {
        if droppable_from(head, older) > self.main {
            return false;
        }
        let kept = kept_at(head, older, self.main);
        let bound = kept.unwrap_or_else(|| Stored::first_of(self.main.saturating_add(1)));
        self.room -= older.take_below(bound, self.room, self.taken);
        let is_gone = self.room > 0 && kept.is_none() && older.is_empty() && head.at < bound;
        if is_gone {
            (self.taken)(head.at);
            self.room -= 1;
        }
        is_gone
    }
}
