//! Linearizable reads without a log entry (read-index, thesis §6.4): the leader takes its commit
//! index, confirms with a quorum that it still leads, and answers with the index. A member that has
//! applied the index may serve the read. One round of heartbeats serves all waiting reads.
//!
//! With [`ReadMode::Lease`] the leader answers at once, and relies on check-quorum: no other leader
//! is elected while a quorum has heard from this one within the election timeout.
//!
//! Source: etcd raft v3.7 read_only.go.

use crate::config::ReadMode;
use crate::error::DroppedRequest;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use crate::reads::{Read, Request};
use bytes::Bytes;
use proto::{Index, NodeId};

/// The most reads that may wait. Each one serves many clients.
const WAITING_MAX: usize = 4096;

impl Node {
    /// Asks for the index at which a read is linearizable. The answer comes in a [`crate::Ready`].
    /// If the leader changes there may be no answer; the caller asks again after a timeout.
    ///
    /// # Errors
    /// [`DroppedRequest`] if there is no leader or too many reads wait.
    pub fn read_index(&mut self, context: u64) -> Result<(), DroppedRequest> {
        let context = Bytes::copy_from_slice(&context.to_be_bytes());
        match self.role {
            Role::Leader => self.read_on_leader(Request { from: self.config.id, context }),
            Role::Follower if self.leader != NodeId::NONE => {
                self.send(self.leader, Body::ReadIndex { context });
                Ok(())
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                tracing::info!(
                    "{:x} no leader at term {}; dropping index reading msg",
                    self.config.id,
                    self.term
                );
                Err(DroppedRequest::NoLeader)
            }
        }
    }

    /// Handles a read-index request of another member.
    pub(crate) fn handle_read_index(&mut self, from: NodeId, context: Bytes) {
        if self.role == Role::Leader {
            // The other member asks again if it gets no answer.
            if let Err(dropped) = self.read_on_leader(Request { from, context }) {
                tracing::debug!("{:x} {dropped}, from {from:x}", self.config.id);
            }
        } else if self.role == Role::Follower && self.leader != NodeId::NONE {
            // The leader answers the member that asked first.
            let request = self.message(self.leader, Body::ReadIndex { context });
            self.out.outbox.messages.push(Message { from, ..request });
        }
    }

    /// Handles the leader's answer to a read-index request.
    pub(crate) fn handle_read_index_response(&mut self, index: Index, context: &Bytes) {
        if let Ok(bytes) = <[u8; 8]>::try_from(context.as_ref()) {
            self.out.outbox.reads.push(Read { context: u64::from_be_bytes(bytes), index });
        }
    }

    fn read_on_leader(&mut self, request: Request) -> Result<(), DroppedRequest> {
        if self.reads.len() >= WAITING_MAX {
            return Err(DroppedRequest::TooManyReads);
        }
        if !self.has_committed_in_term() {
            // Until an entry of this term is committed, the commit index may be below that of an
            // older leader. This holds for a sole voter too, since its stored commit index lags.
            self.reads.early.push(request);
        } else if self.is_sole_voter() || self.config.rules.read_mode == ReadMode::Lease {
            self.answer(request, self.log.committed());
        } else {
            self.reads.unconfirmed.push_back((request, self.log.committed()));
            if !(self.config.rules.gathers_reads && self.reads.is_round_under_way()) {
                self.confirm_by_heartbeat();
            }
        }
        Ok(())
    }

    /// Queues the early reads once the first entry of the term is committed.
    pub(crate) fn release_reads(&mut self) {
        if self.reads.early.is_empty() || !self.has_committed_in_term() {
            return;
        }
        let committed = self.log.committed();
        let early = std::mem::take(&mut self.reads.early);
        if self.config.rules.read_mode == ReadMode::Lease {
            for request in early {
                self.answer(request, committed);
            }
            return;
        }
        self.reads.unconfirmed.extend(early.into_iter().map(|request| (request, committed)));
        self.confirm_by_heartbeat();
    }

    fn confirm_by_heartbeat(&mut self) {
        self.reads.begin_round(self.config.id);
        self.broadcast_heartbeat();
        self.answer_confirmed();
    }

    /// Answers the reads that a quorum has confirmed, and begins a round for those that wait for it.
    pub(crate) fn advance_reads(&mut self) {
        self.answer_confirmed();
        if self.reads.is_round_due() {
            self.confirm_by_heartbeat();
        }
    }

    fn answer_confirmed(&mut self) {
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
