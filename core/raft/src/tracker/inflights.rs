//! The appends on their way to one member: bounded, so that a slow one cannot fill memory.
//!
//! Source: etcd raft v3.7 tracker/inflights.go.

use proto::Index;
use std::collections::VecDeque;

/// The last index of each append that is not acknowledged yet, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflights {
    last: VecDeque<Index>,
    max: usize,
}

impl Inflights {
    /// An empty window for this many appends.
    #[must_use]
    pub fn new(max: usize) -> Inflights {
        Inflights { last: VecDeque::new(), max }
    }

    /// Remembers an append.
    ///
    /// # Panics
    /// When the window is full: the caller has to ask first.
    pub fn add(&mut self, last: Index) {
        assert!(!self.is_full(), "an append is sent only while the window has room");
        self.last.push_back(last);
    }

    /// Forgets the appends up to this index.
    pub fn free_to(&mut self, index: Index) {
        while self.last.front().is_some_and(|first| *first <= index) {
            self.last.pop_front();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.last.clear();
    }

    /// How many are on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether none is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether no further one may be sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.last.len() >= self.max
    }
}
