//! Handing out work to the caller.
//!
//! Source: etcd raft v3.7 rawnode.go (Ready, with asynchronous storage writes).

use crate::message::{Body, Message, OWN_LOG};
use crate::node::Node;
use crate::output::{LogWrite, Ready};
use proto::{HardState, NodeId};

impl Node {
    fn must_sync(&self) -> bool {
        let HardState { term, vote, .. } = self.out.handed.hard;
        self.log.has_unwritten()
            || self.log.has_unwritten_snapshot()
            || (term, vote) != (self.term, self.vote)
    }

    fn has_write(&self) -> bool {
        self.must_sync()
            || self.hard_state() != self.out.handed.hard
            || !self.out.outbox.after.is_empty()
    }

    /// True if [`Node::ready`] returns any work.
    #[must_use]
    pub fn has_ready(&self, with_write: bool) -> bool {
        let outbox = &self.out.outbox;
        self.soft_state() != self.out.handed.soft
            || (with_write && self.has_write())
            || !outbox.messages.is_empty()
            || !outbox.reads.is_empty()
            || !outbox.log_reads.is_empty()
            || outbox.wants_snapshot
            || self.log.has_applicable()
    }

    /// Hands out the work for the caller. Without `with_write`, everything that belongs to a write
    /// is held back, so that entries that arrive during a write form one write after it.
    #[must_use]
    pub fn ready(&mut self, with_write: bool) -> Ready {
        let mut ready = Ready::default();
        let soft = self.soft_state();
        if soft != self.out.handed.soft {
            self.out.handed.soft = soft;
            ready.soft = Some(soft);
        }
        ready.committed = self.log.take_applicable();
        if with_write && self.has_write() {
            ready.write = Some(self.take_write());
        }
        let outbox = &mut self.out.outbox;
        ready.messages = std::mem::take(&mut outbox.messages);
        ready.reads = std::mem::take(&mut outbox.reads);
        ready.log_reads = std::mem::take(&mut outbox.log_reads);
        ready.wants_snapshot = std::mem::take(&mut outbox.wants_snapshot);
        ready
    }

    fn take_write(&mut self) -> LogWrite {
        let must_sync = self.must_sync();
        let hard = self.hard_state();
        let hard_state = (hard != self.out.handed.hard).then_some(hard);
        self.out.handed.hard = hard;
        let mut after = std::mem::take(&mut self.out.outbox.after);
        let last = self.log.has_unpersisted().then(|| self.log.last());
        let entries = self.log.take_unwritten();
        let snapshot = self.log.take_snapshot();
        if last.is_some() || snapshot.is_some() {
            let stored = Body::Stored { last, snapshot: snapshot.clone().map(Box::new) };
            after.push(Message {
                from: OWN_LOG,
                to: self.config.id,
                term: self.term,
                body: stored,
            });
        }
        LogWrite { must_sync, hard_state, entries, snapshot, after }
    }

    /// Sends a message at once. It must not report state of this member that is not durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        assert!(to != self.config.id, "a message that is sent at once is for another member");
        let message = self.message(to, body);
        self.out.outbox.messages.push(message);
    }

    /// Sends a message once everything that this member has decided until now is durable.
    pub(crate) fn send_after_write(&mut self, to: NodeId, body: Body) {
        let message = self.message(to, body);
        self.out.outbox.after.push(message);
    }

    pub(crate) fn message(&self, to: NodeId, body: Body) -> Message {
        assert!(to != NodeId::NONE, "a message has a receiver");
        let term = if body.has_no_term() { proto::Term(0) } else { self.term };
        Message { from: self.config.id, to, term, body }
    }
}
