//! The appends in flight to one member, which are bounded so that a slow member cannot fill the
//! memory.
//!
//! Source: etcd raft v3.7 tracker/inflights.go.

use proto::Index;
use std::collections::VecDeque;

/// The limits on the appends in flight to one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InflightLimits {
    /// The most appends.
    pub count: usize,
    /// While they have this many bytes of data, no further one is sent.
    pub bytes: usize,
}

/// The last index and the bytes of data of each append without a response, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflights {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
    limits: InflightLimits,
}

impl Inflights {
    /// An empty window.
    #[must_use]
    pub fn new(limits: InflightLimits) -> Inflights {
        Inflights { appends: VecDeque::new(), bytes: 0, limits }
    }

    /// Adds an append.
    ///
    /// # Panics
    /// If the window is full.
    pub fn add(&mut self, last: Index, bytes: usize) {
        assert!(!self.is_full(), "an append is sent only while the window has room");
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Removes the appends up to `index`.
    pub fn free_to(&mut self, index: Index) {
        while let Some((_, bytes)) = self.appends.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }

    /// Removes all appends.
    pub fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }

    /// The number of appends in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.appends.len()
    }

    /// True if no append is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// True if no further append may be sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.appends.len() >= self.limits.count || self.bytes >= self.limits.bytes
    }
}
