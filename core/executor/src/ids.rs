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

    /// The lane of an id; `None` if this process cannot have created it. Ids of another member have no
    /// lane, unless its id has the same low 16 bits, or the next number; then nothing waits for them.
    #[must_use]
    pub fn lane_of(&self, id: u64) -> Option<usize> {
        // The counter may exceed its bits.
        let count = id.wrapping_sub(self.first);
        if count >> COUNTER_BITS != 0 {
            return None;
        }
        usize::try_from(count % self.lanes).ok()
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

    /// Otherwise each answer to another member's request would wake a worker.
    #[test]
    fn ids_of_other_members_have_no_lane() {
        let of = |member| RequestIds::new(NodeId(member), 0x0102_0304_0506, 3);
        let ids = of(0x5678);
        for other in [0, 1, 0x5677, 0x5679, 0x8000, 0xffff] {
            assert_eq!(ids.lane_of(of(other).lane(1).next_id()), None, "{other:x}");
        }
    }

    #[test]
    fn ids_whose_counter_exceeds_its_bits_have_their_lane() {
        let ids = RequestIds::new(NodeId(0xffff), (1 << TIME_BITS) - 1, 3);
        let mut lane = ids.lane(2);
        let last = (0..300).map(|_| lane.next_id()).last().unwrap();
        assert!(last < 0x1000, "{last:x}");
        assert_eq!(ids.lane_of(last), Some(2));
    }
}
