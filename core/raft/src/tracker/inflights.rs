//! The appends in flight to one member, which are bounded so that a slow member cannot fill the
//! memory.
//!
//! Source: etcd raft v3.7 tracker/inflights.go.

use proto::Index;
use std::collections::VecDeque;

/// The last index of each append without a response, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflights {
    last: VecDeque<Index>,
    max: usize,
}

impl Inflights {
    /// An empty window for `max` appends.
    #[must_use]
    pub fn new(max: usize) -> Inflights {
        Inflights { last: VecDeque::new(), max }
    }

    /// Adds an append.
    ///
    /// # Panics
    /// If the window is full.
    pub fn add(&mut self, last: Index) {
        assert!(!self.is_full(), "an append is sent only while the window has room");
        self.last.push_back(last);
    }

    /// Removes the appends up to `index`.
    pub fn free_to(&mut self, index: Index) {
        while self.last.front().is_some_and(|first| *first <= index) {
            self.last.pop_front();
        }
    }

    /// Removes all appends.
    pub fn clear(&mut self) {
        self.last.clear();
    }

    /// The number of appends in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// True if no append is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// True if no further append may be sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.last.len() >= self.max
    }
}
