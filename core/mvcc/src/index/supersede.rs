//! Removes the versions that a compaction drops from the tree. An inner node holds for each child
//! the smallest compaction revision that drops a version below it, so only the paths to such
//! versions are visited. A removed version is not found again, so calls need no position to
//! continue from.

use super::entry::{NEVER, droppable_from, kept_at};
use super::node::{Inner, Leaf, Node};
use super::older::Older;
use super::stored::{NewestVersion, StoredVersion};
use super::tree::Index;
use std::sync::Arc;

/// One call of [`Index::take_superseded`].
struct Taking<'a> {
    /// The compaction's revision.
    main: i64,
    /// How many more versions may be removed.
    room: usize,
    taken: &'a mut dyn FnMut(StoredVersion),
    visited_nodes: usize,
}

impl Index {
    /// Removes at most `max` of the versions that a compaction at `main` drops, and passes them to
    /// `taken`. Returns the number of visited nodes: at most the depth of the tree for each removed
    /// version.
    pub(crate) fn take_superseded(
        &mut self,
        main: i64,
        max: usize,
        taken: &mut dyn FnMut(StoredVersion),
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
            assert!(
                self.room < room,
                "a version is removed below a child whose `droppable_from` is due"
            );
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

    /// Removes versions of one key. True if the key is to be removed, too.
    fn take_of_key(&mut self, head: &NewestVersion, older: &mut Older) -> bool {
        if droppable_from(head, older) > self.main {
            return false;
        }
        let kept = kept_at(head, older, self.main);
        let bound = kept.unwrap_or_else(|| StoredVersion::first_of(self.main.saturating_add(1)));
        self.room -= older.take_below(bound, self.room, self.taken);
        let is_gone = self.room > 0 && kept.is_none() && older.is_empty() && head.at < bound;
        if is_gone {
            (self.taken)(head.at);
            self.room -= 1;
        }
        is_gone
    }
}
