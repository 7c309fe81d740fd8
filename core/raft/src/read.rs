//! Reads without a log entry: the leader notes its commit index, makes sure that it still leads, and
//! answers that whoever has applied that index may read (thesis §6.4). One round of heartbeats
//! serves all reads that wait.
//!
//! Source: etcd raft v3.7 read_only.go (ReadOnlySafe).

use crate::error::Dropped;
use crate::message::Body;
use crate::node::{Node, Role};
use crate::quorum::{Acked, Joint};
use bytes::Bytes;
use proto::{Index, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// How many reads may wait; each is a request that serves many clients.
const WAITING_MAX: usize = 4096;

/// A read can be served once the index is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// What [`Node::read_index`] was called with.
    pub context: u64,
    /// The index.
    pub index: Index,
}

#[derive(Clone, Debug)]
struct Request {
    from: NodeId,
    context: Bytes,
}

/// The reads of this term.
///
/// Reads have positions from 1, in the order in which they came. A heartbeat carries the position
/// of the newest one, and so its answers confirm all up to it.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Those that came before the first entry of the term was committed.
    early: Vec<Request>,
    /// Those that wait for a quorum, with the commit index of their time.
    unconfirmed: VecDeque<(Request, Index)>,
    /// The position before the first of `unconfirmed`.
    confirmed: u64,
    acknowledged: BTreeMap<NodeId, u64>,
}

impl Acked for Reads {
    fn acked(&self, voter: NodeId) -> Option<Index> {
        self.acknowledged.get(&voter).copied().map(Index)
    }
}

impl Reads {
    fn len(&self) -> usize {
        self.early.len() + self.unconfirmed.len()
    }

    fn newest(&self) -> u64 {
        self.confirmed + self.unconfirmed.len() as u64
    }

    /// What heartbeats carry: empty when nothing waits.
    pub(crate) fn heartbeat_context(&self) -> Bytes {
        if self.unconfirmed.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.newest().to_le_bytes())
    }

    /// A member has answered a heartbeat. A position that was never given out is not counted.
    pub(crate) fn acknowledge(&mut self, from: NodeId, context: &[u8]) {
        let Ok(bytes) = context.try_into() else { return };
        let position = u64::from_le_bytes(bytes);
        if position <= self.newest() {
            let known = self.acknowledged.entry(from).or_default();
            *known = position.max(*known);
        }
    }

    fn confirm(&mut self, voters: &Joint) -> Vec<(Request, Index)> {
        let reached = voters.committed(self).0.min(self.newest());
        let count = usize::try_from(reached.saturating_sub(self.confirmed)).unwrap_or_default();
        self.confirmed += count as u64;
        self.unconfirmed.drain(..count).collect()
    }
}

impl Node {
    /// Asks for the index at which a read is linearizable. The answer comes in a
    /// [`crate::Ready`], or never, if the leader changes: ask again then, or after a while.
    ///
    /// # Errors
    /// When nobody leads, or too many wait.
    pub fn read_index(&mut self, context: u64) -> Result<(), Dropped> {
        let context = Bytes::copy_from_slice(&context.to_be_bytes());
        match self.role {
            Role::Leader => self.read_on_leader(Request { from: self.config.id, context }),
            Role::Follower if self.leader != NodeId::NONE => {
                self.send(self.leader, Body::ReadIndex { context });
                Ok(())
            }
            Role::Follower | Role::Candidate => {
                tracing::info!(
                    "{:x} no leader at term {}; dropping index reading msg",
                    self.config.id,
                    self.term
                );
                Err(Dropped::NoLeader)
            }
        }
    }

    /// Another member asks.
    pub(crate) fn handle_read_index(&mut self, from: NodeId, context: Bytes) {
        if self.role == Role::Leader {
            // It asks again if it gets no answer.
            if let Err(dropped) = self.read_on_leader(Request { from, context }) {
                tracing::debug!("{:x} {dropped}, from {from:x}", self.config.id);
            }
        }
    }

    /// The leader has answered.
    pub(crate) fn handle_read_index_response(&mut self, index: Index, context: &Bytes) {
        if let Ok(bytes) = <[u8; 8]>::try_from(context.as_ref()) {
            self.outbox.reads.push(Read { context: u64::from_be_bytes(bytes), index });
        }
    }

    fn read_on_leader(&mut self, request: Request) -> Result<(), Dropped> {
        if self.reads.len() >= WAITING_MAX {
            return Err(Dropped::TooManyReads);
        }
        if !self.has_committed_in_term() {
            // Until then the commit index may lie behind what older leaders have answered for. This
            // holds for a sole voter too, whose stored commit index lags behind.
            self.reads.early.push(request);
        } else if self.is_sole_voter() {
            self.answer(request, self.log.committed());
        } else {
            self.reads.unconfirmed.push_back((request, self.log.committed()));
            self.confirm_by_heartbeat();
        }
        Ok(())
    }

    /// The first entry of the term is committed: what came before can be noted now.
    pub(crate) fn release_reads(&mut self) {
        if self.reads.early.is_empty() || !self.has_committed_in_term() {
            return;
        }
        let committed = self.log.committed();
        let early = std::mem::take(&mut self.reads.early);
        self.reads.unconfirmed.extend(early.into_iter().map(|request| (request, committed)));
        self.confirm_by_heartbeat();
    }

    fn confirm_by_heartbeat(&mut self) {
        let newest = self.reads.newest();
        self.reads.acknowledged.insert(self.config.id, newest);
        self.broadcast_heartbeat();
        self.advance_reads();
    }

    /// Answers the reads that a quorum has confirmed.
    pub(crate) fn advance_reads(&mut self) {
        for (request, index) in self.reads.confirm(&self.tracker.config.voters) {
            self.answer(request, index);
        }
    }

    fn answer(&mut self, Request { from, context }: Request, index: Index) {
        if from == self.config.id {
            self.handle_read_index_response(index, &context);
        } else {
            self.send(from, Body::ReadIndexResponse { index, context });
        }
    }
}
