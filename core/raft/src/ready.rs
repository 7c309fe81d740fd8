//! Handing out work to the caller, and taking back finished log writes.
//!
//! Source: etcd raft v3.7 rawnode.go (Ready, with asynchronous storage writes).

use crate::node::Node;
use crate::output::{Ready, Receipt, Role, SoftState, Waiting};
use proto::HardState;

impl Node {
    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    /// The current hard state.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    fn needs_write(&self) -> bool {
        let HardState { term, vote, .. } = self.writes.hard;
        self.log.has_unwritten() || (term, vote) != (self.term, self.vote)
    }

    fn may_write(&self) -> bool {
        self.writes.in_flight.len() < self.config.writes_max
    }

    /// True if [`Node::ready`] returns any work.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        let write = self.needs_write();
        self.soft_state() != self.writes.soft
            || (write && self.may_write())
            || (!write && self.hard_state() != self.writes.hard)
            || (!write && !self.outbox.waiting.is_empty())
            || !self.outbox.messages.is_empty()
            || !self.outbox.reads.is_empty()
            || self.log.has_applicable()
    }

    /// Hands out the work for the caller. While [`crate::Config::writes_max`] writes are in flight,
    /// entries and the hard state are held back.
    #[must_use]
    pub fn ready(&mut self) -> Ready {
        let mut ready = Ready::default();
        if self.soft_state() != self.writes.soft {
            self.writes.soft = self.soft_state();
            ready.soft = Some(self.writes.soft);
        }
        let write = self.needs_write();
        let hard = self.hard_state();
        if (!write || self.may_write()) && hard != self.writes.hard {
            self.writes.hard = hard;
            ready.hard_state = Some(hard);
        }
        if write && self.may_write() {
            self.writes.number += 1;
            let number = self.writes.number;
            ready.must_sync = true;
            ready.entries = self.log.take_unwritten(number);
            ready.receipt = Some(Receipt { number, last: self.log.last() });
            let waiting = std::mem::take(&mut self.outbox.waiting);
            self.writes.in_flight.push_back((number, waiting));
        } else if !write {
            let waiting = std::mem::take(&mut self.outbox.waiting);
            match self.writes.in_flight.back_mut() {
                Some((_, behind)) => behind.extend(waiting),
                None => self.settle(waiting),
            }
        }
        ready.committed = self.log.take_applicable(self.config.committed_bytes_max);
        ready.messages = std::mem::take(&mut self.outbox.messages);
        ready.reads = std::mem::take(&mut self.outbox.reads);
        ready
    }

    /// A write and all writes before it are durable: the output that waited for them is released.
    /// Returning a receipt twice has no effect.
    ///
    /// Entries that were overwritten after they were handed out do not count as durable: an index
    /// is durable only if no write that contains it is in flight or still to be handed out.
    ///
    /// # Panics
    /// If the receipt was not handed out by this node.
    pub fn durable(&mut self, receipt: Receipt) {
        assert!(receipt.number <= self.writes.number, "a receipt comes from a Ready of this node");
        self.log.durable(receipt.number);
        while let Some((_, waiting)) =
            self.writes.in_flight.pop_front_if(|(number, _)| *number <= receipt.number)
        {
            self.settle(waiting);
        }
        if self.role == Role::Leader {
            self.own_append_durable();
        }
    }

    /// Releases output whose write is durable.
    fn settle(&mut self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            match waiting {
                Waiting::Send(message) => self.outbox.messages.push(message),
                // A vote of an earlier term does not count.
                Waiting::OwnVote(term) if term == self.term => {
                    self.handle_vote_response(self.config.id, true);
                }
                Waiting::OwnVote(_) => {}
            }
        }
    }
}
