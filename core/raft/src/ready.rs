//! What comes out of a node: what to write, to send, to apply, and to answer; and the way back of a
//! finished write.
//!
//! Source: etcd raft v3.7 rawnode.go (Ready, with asynchronous storage writes).

use crate::message::Message;
use crate::node::{Node, Role};
use crate::read::Read;
use proto::{Entry, EntryId, HardState, NodeId, Term};
use std::collections::VecDeque;

/// What this member and its leader are; not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Who leads; nobody if that is not known.
    pub leader: NodeId,
    /// What this member is.
    pub role: Role,
}

/// Names a write. To be given back with [`Node::durable`] when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    number: u64,
    last: EntryId,
}

impl Receipt {
    /// The end of the log when the write was handed out.
    #[must_use]
    pub fn last(self) -> EntryId {
        self.last
    }
}

/// What is to be done now. Everything is handed out once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The leader or the role has changed.
    pub soft: Option<SoftState>,
    /// The hard state has changed: written with `entries` if `must_sync`, else it can wait for the
    /// next write.
    pub hard_state: Option<HardState>,
    /// Whether `entries` and `hard_state` must be written and synced.
    pub must_sync: bool,
    /// What to append to the stored log. The first may be at or below the last one that is there:
    /// then the stored entries from there on are void.
    pub entries: Vec<Entry>,
    /// With `must_sync`: give this back when it is done.
    pub receipt: Option<Receipt>,
    /// What to apply, in this order; all of it is durable here and committed.
    pub committed: Vec<Entry>,
    /// What to send now; it may get lost. It waits for nothing: what had to be durable is.
    pub messages: Vec<Message>,
    /// Which reads can be served, and from when on.
    pub reads: Vec<Read>,
}

/// What has to wait until the term, the vote and the log that it speaks of are durable.
#[derive(Debug)]
pub(crate) enum Waiting {
    Send(Message),
    OwnVote(Term),
}

/// What waits to be handed out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) reads: Vec<Read>,
}

/// What has been handed out.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    number: u64,
    in_flight: VecDeque<(u64, Vec<Waiting>)>,
    hard: HardState,
    soft: SoftState,
}

impl Writes {
    /// What was stored is not news.
    pub(crate) fn begin(&mut self, hard: HardState, soft: SoftState) {
        (self.hard, self.soft) = (hard, soft);
    }
}

impl Node {
    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    /// What must be remembered, as of now.
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

    /// Whether [`Node::ready`] has something.
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

    /// Hands out what is to be done. While the writes that may be under way are, entries wait, and
    /// with them the hard state.
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

    /// A write is durable, and so are those before it: what waited for them goes on. A receipt that
    /// was given back already changes nothing.
    ///
    /// Entries that were overwritten since they were handed out do not count: for an index to count,
    /// no write that touches it may be under way or still to come.
    ///
    /// # Panics
    /// When the receipt is not one of this node.
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

    /// What was waited for is durable.
    fn settle(&mut self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            match waiting {
                Waiting::Send(message) => self.outbox.messages.push(message),
                // A vote in an election that is over is worth nothing.
                Waiting::OwnVote(term) if term == self.term => {
                    self.handle_vote_response(self.config.id, true);
                }
                Waiting::OwnVote(_) => {}
            }
        }
    }
}
