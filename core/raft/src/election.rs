//! Elections: requesting, casting and counting votes.
//!
//! Source: etcd raft v3.7 raft.go (hup, campaign, poll, stepCandidate); thesis §3.4.

use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::{Role, Waiting};
use crate::quorum::VoteResult;
use proto::{EntryId, EntryKind, NodeId, Term};

impl Node {
    /// Starts an election. Does nothing on a leader, on a member that is not a voter, and while a
    /// committed configuration change is not applied, since it may remove this voter.
    pub fn campaign(&mut self) {
        if self.role == Role::Leader {
            return;
        }
        let id = self.config.id;
        if !self.is_promotable() {
            tracing::warn!("{id:x} is unpromotable and can not campaign");
            return;
        }
        if self.log.any_unapplied(|entry| entry.kind != EntryKind::Normal) {
            tracing::warn!(
                "{id:x} cannot campaign at term {} since there are still pending configuration changes to apply",
                self.term
            );
            return;
        }
        let Some(next) = self.term.0.checked_add(1) else {
            tracing::error!("{id:x} cannot campaign: {} is the last term", self.term);
            return;
        };
        tracing::info!("{id:x} is starting a new election at term {}", self.term);
        self.become_candidate(Term(next));
        let last = self.log.last();
        for voter in self.tracker.config.voters.ids() {
            if voter == id {
                self.outbox.waiting.push(Waiting::OwnVote(self.term));
                continue;
            }
            tracing::info!(
                "{id:x} [logterm: {}, index: {}] sent MsgVote request to {voter:x} at term {}",
                last.term,
                last.index,
                self.term
            );
            // A vote request needs no durable state: if a crash loses the term, this member only
            // requests votes again.
            self.send(voter, Body::Vote { last });
        }
    }

    fn become_candidate(&mut self, term: Term) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        self.reset(term);
        self.vote = self.config.id;
        self.role = Role::Candidate;
        tracing::info!("{:x} became candidate at term {}", self.config.id, self.term);
    }

    /// Handles a vote request of the current term.
    pub(crate) fn handle_vote(&mut self, from: NodeId, candidate: EntryId) {
        let last = self.log.last();
        // Repeating a vote for the same candidate is allowed.
        let free = self.vote == NodeId::NONE && self.leader == NodeId::NONE;
        let granted = (self.vote == from || free) && self.log.is_up_to_date(candidate);
        tracing::info!(
            "{:x} [logterm: {}, index: {}, vote: {:x}] {} {from:x} [logterm: {}, index: {}] at term {}",
            self.config.id,
            last.term,
            last.index,
            self.vote,
            if granted { "cast MsgVote for" } else { "rejected MsgVote from" },
            candidate.term,
            candidate.index,
            self.term
        );
        if granted {
            self.clock.election_elapsed = 0;
            self.vote = from;
        }
        self.send_when_durable(from, Body::VoteResponse { granted });
    }

    /// Counts a vote. This member's own vote is counted once it is durable.
    pub(crate) fn handle_vote_response(&mut self, from: NodeId, granted: bool) {
        if self.role != Role::Candidate {
            return;
        }
        let id = self.config.id;
        let rejection = if granted { "" } else { " rejection" };
        tracing::info!(
            "{id:x} received MsgVoteResp{rejection} from {from:x} at term {}",
            self.term
        );
        self.tracker.record_vote(from, granted);
        let (yes, no, result) = self.tracker.tally();
        tracing::info!("{id:x} has received {yes} MsgVoteResp votes and {no} vote rejections");
        match result {
            VoteResult::Pending => {}
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append();
            }
            VoteResult::Lost => self.become_follower(self.term, NodeId::NONE),
        }
    }

    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = self.message(to, body);
        self.outbox.messages.push(message);
    }

    /// Sends a message that reports this member's term, vote or log once they are durable.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, body: Body) {
        let message = self.message(to, body);
        self.outbox.waiting.push(Waiting::Send(message));
    }

    fn message(&self, to: NodeId, body: Body) -> Message {
        assert!(to != self.config.id && to != NodeId::NONE, "a message is for another member");
        let term = if body.has_no_term() { Term(0) } else { self.term };
        Message { from: self.config.id, to, term, body }
    }
}
