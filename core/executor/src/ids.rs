//! Request ids. They are unique across the members of a cluster and across restarts.
//!
//! Source: etcd v3.7 pkg/idutil/id.go.

use proto::NodeId;

/// The bits of an id that are a counter. The bits above them are the low 16 bits of the member's
/// id.
const COUNTER_BITS: u32 = 48;
/// The bits of the start time, in milliseconds, that the counter begins with.
const TIME_BITS: u32 = 40;

/// The ids of one process, divided into lanes. Each lane can be used independently, and an id
/// determines its lane.
#[derive(Clone, Copy, Debug)]
pub struct RequestIds {
    first: u64,
    lanes: u64,
}

impl RequestIds {
    /// The ids of `member` for a start at `unix_ms`, in `lanes` lanes (at least one).
    #[must_use]
    pub fn new(member: NodeId, unix_ms: u64, lanes: usize) -> RequestIds {
        let time = unix_ms & ((1 << TIME_BITS) - 1);
        let counter = (time << (COUNTER_BITS - TIME_BITS)) + 1;
        RequestIds { first: (member.0 << COUNTER_BITS) | counter, lanes: lanes.max(1) as u64 }
    }

    /// The ids of one lane.
    ///
    /// # Panics
    /// When there is no such lane.
    #[must_use]
    pub fn lane(&self, lane: usize) -> IdLane {
        assert!((lane as u64) < self.lanes, "a lane is one of those that the ids are divided into");
        IdLane { next: self.first.wrapping_add(lane as u64), step: self.lanes }
    }

    /// The lane of an id; `None` if this process cannot have created it. An id of another member
    /// may fall into some lane, where nothing waits for it.
    #[must_use]
    pub fn lane_of(&self, id: u64) -> Option<usize> {
        usize::try_from(id.checked_sub(self.first)? % self.lanes).ok()
    }
}

/// The ids of one lane.
#[derive(Debug)]
pub struct IdLane {
    next: u64,
    step: u64,
}

impl IdLane {
    /// An id that was not handed out before.
    pub fn next_id(&mut self) -> u64 {
        let id = self.next;
        self.next = self.next.wrapping_add(self.step);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_etcds_and_tell_their_lane() {
        let ids = RequestIds::new(NodeId(0x1234_5678), 0x0102_0304_0506, 3);
        let (mut first, mut last) = (ids.lane(0), ids.lane(2));
        assert_eq!(first.next_id(), 0x5678_0203_0405_0601);
        assert_eq!(first.next_id(), 0x5678_0203_0405_0604);
        let id = last.next_id();
        assert_eq!(id, 0x5678_0203_0405_0603);
        assert_eq!(ids.lane_of(id), Some(2));
        assert_eq!(ids.lane_of(7), None);
    }
}
