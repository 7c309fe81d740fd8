//! The committed entries that were handed out and are not applied yet, bounded in bytes.
//!
//! Source: etcd raft v3.7 log.go (`applyingEntsSize`).

use super::size::encoded_len;
use proto::{Entry, Index};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
struct Batch {
    last: Index,
    bytes: usize,
    data_bytes: usize,
}

/// The batches with the applier.
#[derive(Debug)]
pub(super) struct Applying {
    /// The last index that was handed out.
    pub(super) index: Index,
    batches: VecDeque<Batch>,
    bytes: usize,
    bytes_max: usize,
}

impl Applying {
    pub(super) fn new(index: Index, bytes_max: usize) -> Applying {
        Applying { index, batches: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// True while no further batch may be handed out.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// The bytes that the next batch may have.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    pub(super) fn hand_out(&mut self, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        let batch = Batch {
            last: last.index,
            bytes: entries.iter().map(encoded_len).sum(),
            data_bytes: entries.iter().map(|entry| entry.data.len()).sum(),
        };
        self.index = batch.last;
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// Removes the batches up to `index`, and returns the bytes of their data.
    pub(super) fn applied_to(&mut self, index: Index) -> usize {
        let mut data_bytes = 0;
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.last <= index) {
            self.bytes -= batch.bytes;
            data_bytes += batch.data_bytes;
        }
        data_bytes
    }

    /// Called when the state is replaced by a snapshot at `index`.
    pub(super) fn restart(&mut self, index: Index) {
        self.index = index.max(self.index);
        self.applied_to(self.index);
    }
}
