//! Elections: requesting, casting and counting votes and pre-votes.
//!
//! Source: etcd raft v3.7 raft.go (hup, campaign, poll, stepCandidate); thesis §3.4, §9.6.

use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use crate::quorum::VoteResult;
use proto::{EntryId, EntryKind, NodeId, Term};

impl Node {
    /// Starts an election, with a pre-vote if that is switched on. Does nothing on a leader, on a
    /// member that is not a voter, and while a committed configuration change is not applied,
    /// since it may remove this voter.
    pub fn campaign(&mut self) {
        if !self.may_campaign() {
            return;
        }
        if self.config.rules.pre_vote {
            self.ask_for_pre_votes();
        } else {
            self.ask_for_votes(false);
        }
    }

    /// Handles the leader's request to campaign at once, because it transfers its leadership.
    pub(crate) fn handle_timeout_now(&mut self, from: NodeId) {
        let (id, term) = (self.config.id, self.term);
        match self.role {
            Role::Follower => {
                tracing::info!(
                    "{id:x} [term {term}] received MsgTimeoutNow from {from:x} and starts an election to get leadership."
                );
                if self.may_campaign() {
                    self.ask_for_votes(true);
                }
            }
            Role::PreCandidate | Role::Candidate => tracing::debug!(
                "{id:x} [term {term} state {}] ignored MsgTimeoutNow from {from:x}",
                self.role
            ),
            Role::Leader => {}
        }
    }

    fn may_campaign(&self) -> bool {
        let id = self.config.id;
        if self.role == Role::Leader {
            tracing::debug!("{id:x} ignoring MsgHup because already leader");
            return false;
        }
        if !self.is_promotable() {
            tracing::warn!("{id:x} is unpromotable and can not campaign");
            return false;
        }
        if self.log.any_unapplied(|entry| entry.kind != EntryKind::Normal) {
            tracing::warn!(
                "{id:x} cannot campaign at term {} since there are still pending configuration changes to apply",
                self.term
            );
            return false;
        }
        if self.next_term().is_none() {
            tracing::error!("{id:x} cannot campaign: {} is the last term", self.term);
            return false;
        }
        tracing::info!("{id:x} is starting a new election at term {}", self.term);
        true
    }

    fn ask_for_pre_votes(&mut self) {
        let Some(next) = self.next_term() else { return };
        self.become_pre_candidate();
        let last = self.log.last();
        for voter in self.tracker.config.voters.ids() {
            if voter == self.config.id {
                let granted = Body::PreVoteResponse { granted: true };
                let own = Message { term: next, ..self.message(voter, granted) };
                self.out.outbox.after.push(own);
            } else {
                self.log_request("MsgPreVote", voter, last);
                // A pre-vote promises nothing, so it need not wait for a write.
                let request = self.message(voter, Body::PreVote { last });
                self.out.outbox.messages.push(Message { term: next, ..request });
            }
        }
    }

    fn ask_for_votes(&mut self, transfer: bool) {
        let Some(next) = self.next_term() else { return };
        self.become_candidate(next);
        let last = self.log.last();
        for voter in self.tracker.config.voters.ids() {
            if voter == self.config.id {
                self.send_after_write(voter, Body::VoteResponse { granted: true });
            } else {
                self.log_request("MsgVote", voter, last);
                self.send_after_write(voter, Body::Vote { last, transfer });
            }
        }
    }

    fn log_request(&self, name: &str, voter: NodeId, last: EntryId) {
        tracing::info!(
            "{:x} [logterm: {}, index: {}] sent {name} request to {voter:x} at term {}",
            self.config.id,
            last.term,
            last.index,
            self.term
        );
    }

    fn become_candidate(&mut self, term: Term) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        self.reset(term);
        self.vote = self.config.id;
        self.role = Role::Candidate;
        tracing::info!("{:x} became candidate at term {}", self.config.id, self.term);
    }

    fn become_pre_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        // The term and the vote stay as they are.
        self.tracker.votes.clear();
        self.leader = NodeId::NONE;
        self.role = Role::PreCandidate;
        tracing::info!("{:x} became pre-candidate at term {}", self.config.id, self.term);
    }

    /// True if this member may vote for `from` in its term. Repeating a vote is allowed.
    fn can_vote(&self, from: NodeId) -> bool {
        let free = self.vote == NodeId::NONE && self.leader == NodeId::NONE;
        self.vote == from || free
    }

    /// Handles a vote request of the current term.
    pub(crate) fn handle_vote(&mut self, from: NodeId, candidate: EntryId) {
        let granted = self.can_vote(from) && self.log.is_up_to_date(candidate);
        self.log_vote(granted, "MsgVote", from, candidate);
        self.send_after_write(from, Body::VoteResponse { granted });
        if granted {
            self.clock.election_elapsed = 0;
            self.vote = from;
        }
    }

    /// Answers whether a vote for the candidate would be granted in `term`.
    pub(crate) fn handle_pre_vote(&mut self, from: NodeId, term: Term, candidate: EntryId) {
        let can_vote = self.can_vote(from) || term > self.term;
        let granted = can_vote && self.log.is_up_to_date(candidate);
        self.log_vote(granted, "MsgPreVote", from, candidate);
        let response = self.message(from, Body::PreVoteResponse { granted });
        // A grant has the term of the request, so that an outdated candidate does not count it; a
        // refusal has the term of this member.
        let term = if granted { term } else { self.term };
        self.out.outbox.after.push(Message { term, ..response });
    }

    pub(crate) fn log_vote(&self, granted: bool, name: &str, from: NodeId, candidate: EntryId) {
        let last = self.log.last();
        let (verb, to) = if granted { ("cast", "for") } else { ("rejected", "from") };
        tracing::info!(
            "{:x} [logterm: {}, index: {}, vote: {:x}] {verb} {name} {to} {from:x} [logterm: {}, index: {}] at term {}",
            self.config.id,
            last.term,
            last.index,
            self.vote,
            candidate.term,
            candidate.index,
            self.term
        );
    }

    /// Counts the answer to a request that a member with the role `asked_as` has made.
    pub(crate) fn count_vote(&mut self, asked_as: Role, from: NodeId, granted: bool) {
        if self.role != asked_as {
            return;
        }
        let id = self.config.id;
        let name = if asked_as == Role::Candidate { "MsgVoteResp" } else { "MsgPreVoteResp" };
        let rejection = if granted { "" } else { " rejection" };
        tracing::info!("{id:x} received {name}{rejection} from {from:x} at term {}", self.term);
        self.tracker.record_vote(from, granted);
        let (yes, no, result) = self.tracker.tally();
        tracing::info!("{id:x} has received {yes} {name} votes and {no} vote rejections");
        match (result, asked_as) {
            (VoteResult::Pending, _) => {}
            (VoteResult::Won, Role::Candidate) => {
                self.become_leader();
                self.broadcast_append();
            }
            (VoteResult::Won, _) => self.ask_for_votes(false),
            // A refused pre-vote has a term above that of this member only if it is outdated,
            // which `take_term` has handled.
            (VoteResult::Lost, _) => self.become_follower(self.term, NodeId::NONE),
        }
    }
}
