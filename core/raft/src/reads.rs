//! The linearizable reads that wait: a queue. Not here: the rules of read-index (`read.rs`).

use crate::quorum::{Acked, Joint};
use bytes::Bytes;
use proto::{Index, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// A read that can be served once its index is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The argument of [`crate::Node::read_index`].
    pub context: u64,
    /// The index.
    pub index: Index,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) from: NodeId,
    pub(crate) context: Bytes,
}

/// The waiting reads of the current term.
///
/// Reads have positions from 1, in the order in which they arrived. A heartbeat carries the
/// position of the newest read, so an answer confirms all reads up to it.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that arrived before the first entry of the term was committed.
    pub(crate) early: Vec<Request>,
    /// Reads that wait for a quorum, each with the commit index at its arrival.
    pub(crate) unconfirmed: VecDeque<(Request, Index)>,
    /// The position before the first of `unconfirmed`.
    confirmed: u64,
    /// The position of the newest read for which a round of heartbeats was begun.
    asked: u64,
    pub(crate) acknowledged: BTreeMap<NodeId, u64>,
}

impl Acked for Reads {
    fn acked(&self, voter: NodeId) -> Option<Index> {
        self.acknowledged.get(&voter).copied().map(Index)
    }
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.early.len() + self.unconfirmed.len()
    }

    /// The position of the newest read.
    pub(crate) fn newest(&self) -> u64 {
        self.confirmed + self.unconfirmed.len() as u64
    }

    /// True while heartbeats that confirm reads are under way.
    pub(crate) fn is_round_under_way(&self) -> bool {
        self.asked > self.confirmed
    }

    /// True if reads wait for the next round of heartbeats.
    pub(crate) fn is_round_due(&self) -> bool {
        !self.is_round_under_way() && !self.unconfirmed.is_empty()
    }

    /// Begins a round for all reads that wait. `me` is this member, which agrees at once.
    pub(crate) fn begin_round(&mut self, me: NodeId) {
        self.asked = self.newest();
        self.acknowledged.insert(me, self.asked);
    }

    /// The context of heartbeats; empty if no read waits.
    pub(crate) fn heartbeat_context(&self) -> Bytes {
        if self.unconfirmed.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.newest().to_le_bytes())
    }

    /// Handles the context of a heartbeat response. Positions above the newest are ignored.
    pub(crate) fn acknowledge(&mut self, from: NodeId, context: &[u8]) {
        let Ok(bytes) = context.try_into() else { return };
        let position = u64::from_le_bytes(bytes);
        if position <= self.newest() {
            let known = self.acknowledged.entry(from).or_default();
            *known = position.max(*known);
        }
    }

    /// Removes and returns the reads that a quorum has confirmed.
    pub(crate) fn confirm(&mut self, voters: &Joint) -> Vec<(Request, Index)> {
        let reached = voters.committed(self).0.min(self.newest());
        let count = usize::try_from(reached.saturating_sub(self.confirmed)).unwrap_or_default();
        self.confirmed += count as u64;
        self.unconfirmed.drain(..count).collect()
    }
}
