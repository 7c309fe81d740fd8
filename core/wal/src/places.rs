//! The places of entries in the segments of a log, so that entries can be read back without reading
//! a segment from its beginning. The place of one entry in about [`STRETCH_BYTES`] is kept, in 40
//! bytes. That is about 20 KB for a segment of 64 MB.
//!
//! Not here: reading (`read_back.rs`).
//!
//! - **Invariant:** a stretch is written in one segment, without a gap, and none of its entries is
//!   replaced by a later one: an entry that replaces others ends the stretch of those before it.
//!
//! Not in etcd, which keeps these entries in memory.

use crate::name::SegmentName;
use proto::{EntryId, Index};
use std::collections::VecDeque;

/// The bytes of a stretch, which consists of whole frames. Its last frame may end after this
/// length.
const STRETCH_BYTES: u64 = 128 << 10;

/// The place of an entry: the beginning of its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: SegmentName,
    pub(crate) offset: u64,
    /// The running crc before the frame.
    pub(crate) crc: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: Index,
    pub(crate) place: Place,
}

/// The places of the entries `base.index + 1 ..= last`, of which the oldest may be missing.
#[derive(Debug)]
pub(crate) struct Places {
    /// The entry before the first one.
    pub(crate) base: EntryId,
    stretches: VecDeque<Stretch>,
    last: Index,
}

impl Places {
    /// The places of a log whose first entry follows `base`.
    pub(crate) fn after(base: EntryId) -> Places {
        Places { base, stretches: VecDeque::new(), last: base.index }
    }

    /// Records that an entry is written at this place, after the entries recorded before. It
    /// replaces those from its index on.
    pub(crate) fn note(&mut self, index: Index, place: Place) {
        if index <= self.base.index {
            *self = Places::after(self.base);
            return;
        }
        let replaces = index <= self.last;
        if replaces {
            while self.stretches.back().is_some_and(|stretch| stretch.first >= index) {
                self.stretches.pop_back();
            }
        }
        let continues = |stretch: &Stretch| {
            stretch.place.segment == place.segment
                && place.offset - stretch.place.offset < STRETCH_BYTES
        };
        if replaces || !self.stretches.back().is_some_and(continues) {
            self.stretches.push_back(Stretch { first: index, place });
        }
        self.last = index;
    }

    /// Called when the segments up to this one are removed.
    pub(crate) fn forget_to(&mut self, seq: u64) {
        while self.stretches.front().is_some_and(|stretch| stretch.place.segment.seq <= seq) {
            self.stretches.pop_front();
        }
    }

    /// The stretch that contains an entry, and the last entry of the stretch.
    pub(crate) fn find(&self, index: Index) -> Option<(Stretch, Index)> {
        let after = self.stretches.partition_point(|stretch| stretch.first <= index);
        let stretch = *self.stretches.get(after.checked_sub(1)?)?;
        let last = self.stretches.get(after).map_or(self.last, |next| Index(next.first.0 - 1));
        (index <= last).then_some((stretch, last))
    }
}
