//! Incoming messages: the comparison of terms, and dispatch. Not here: which messages are refused
//! (`validate.rs`).
//!
//! Source: etcd raft v3.7 raft.go (Step, stepLeader, stepCandidate, stepFollower).

use crate::error::Error;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use proto::{EntryId, NodeId, Term};

impl Node {
    /// Handles a message of another member.
    ///
    /// # Errors
    /// [`Error::Peer`] for an invalid message, [`Error::UnknownPeer`] for a response of a member
    /// that is not in the configuration. The log is unchanged then.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        self.validate(&message)?;
        if !message.body.has_no_term() && !self.take_term(&message) {
            return Ok(());
        }
        self.dispatch(message)
    }

    pub(crate) fn dispatch(&mut self, message: Message) -> Result<(), Error> {
        let Message { from, term, body, .. } = message;
        if body.is_from_leader() {
            self.follow(from)?;
        }
        match body {
            Body::Propose { entries } => {
                // The proposing member tries again after a timeout.
                if let Err(dropped) = self.propose_entries(entries) {
                    tracing::debug!("{:x} {dropped}, from {from:x}", self.config.id);
                }
            }
            Body::Append { prev, entries, commit } => {
                return self.handle_append(from, prev, entries, commit);
            }
            Body::AppendAccepted { index } => self.handle_append_accepted(from, index),
            Body::AppendRejected { index, hint } => self.handle_append_rejected(from, index, hint),
            Body::Snapshot(snapshot) => self.handle_snapshot(from, *snapshot),
            Body::Vote { last, .. } => self.handle_vote(from, last),
            Body::PreVote { last } => self.handle_pre_vote(from, term, last),
            Body::VoteResponse { granted } => {
                self.count_vote(Role::Candidate, from, granted);
            }
            Body::PreVoteResponse { granted } => {
                self.count_vote(Role::PreCandidate, from, granted);
            }
            Body::Heartbeat { commit, context } => self.handle_heartbeat(from, commit, context),
            Body::HeartbeatResponse { context } => self.handle_heartbeat_response(from, &context),
            Body::TransferLeader => self.transfer_leadership(from),
            Body::TimeoutNow => self.handle_timeout_now(from),
            Body::ReadIndex { context } => self.handle_read_index(from, context),
            Body::ReadIndexResponse { index, context } => {
                self.handle_read_index_response(index, &context);
            }
            Body::Stored { .. } => unreachable!("only step_own takes it"),
        }
        Ok(())
    }

    /// Compares terms: returns false for a message that is to be ignored, and becomes a follower if
    /// the message has a later term.
    pub(crate) fn take_term(&mut self, message: &Message) -> bool {
        if message.term > self.term {
            return self.take_later_term(message);
        }
        if message.term < self.term {
            self.answer_earlier_term(message);
            return false;
        }
        true
    }

    fn take_later_term(&mut self, message: &Message) -> bool {
        let Message { from, term, body, .. } = message;
        let id = self.config.id;
        match body {
            Body::Vote { last, transfer: false } | Body::PreVote { last }
                if self.has_live_leader() =>
            {
                self.log_ignored_candidate(body, *from, *last);
                return false;
            }
            // A pre-vote changes nothing. A granted one has the term of the election that follows.
            Body::PreVote { .. } | Body::PreVoteResponse { granted: true } => return true,
            Body::Propose { .. }
            | Body::Append { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::Snapshot(_)
            | Body::Vote { .. }
            | Body::VoteResponse { .. }
            | Body::PreVoteResponse { granted: false }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TransferLeader
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. }
            | Body::Stored { .. } => {}
        }
        tracing::info!(
            "{id:x} [term: {}] received a {} message with higher term from {from:x} [term: {term}]",
            self.term,
            body.name()
        );
        let leader = if body.is_from_leader() { *from } else { NodeId::NONE };
        self.become_follower(*term, leader);
        true
    }

    /// True if check-quorum is on and a leader was heard from within the election timeout, so that
    /// no election is needed (thesis §4.2.3).
    fn has_live_leader(&self) -> bool {
        self.config.rules.check_quorum
            && self.leader != NodeId::NONE
            && self.clock.election_elapsed < self.config.election_ticks
    }

    fn log_ignored_candidate(&self, body: &Body, from: NodeId, candidate: EntryId) {
        let last = self.log.last();
        tracing::info!(
            "{:x} [logterm: {}, index: {}, vote: {:x}] ignored {} from {from:x} [logterm: {}, index: {}] at term {}: lease is not expired (remaining ticks: {})",
            self.config.id,
            last.term,
            last.index,
            self.vote,
            body.name(),
            candidate.term,
            candidate.index,
            self.term,
            self.config.election_ticks - self.clock.election_elapsed
        );
    }

    fn answer_earlier_term(&mut self, message: &Message) {
        let Message { from, term, body, .. } = message;
        let rules = self.config.rules;
        let is_leader = matches!(body, Body::Heartbeat { .. } | Body::Append { .. });
        if is_leader && (rules.check_quorum || rules.pre_vote) {
            // With these rules this member cannot disturb an outdated leader by an election. The
            // response tells it the newer term, so that it steps down and this member, which may
            // have a term that no leader has, is taken in again.
            self.send_after_write(*from, Body::AppendAccepted { index: proto::Index(0) });
        } else if let Body::PreVote { last } = body {
            self.log_vote(false, body.name(), *from, *last);
            self.send_after_write(*from, Body::PreVoteResponse { granted: false });
        } else if let Body::Stored { .. } = body {
            self.stored_in_earlier_term(message);
        } else {
            tracing::info!(
                "{:x} [term: {}] ignored a {} message with lower term from {from:x} [term: {term}]",
                self.config.id,
                self.term,
                body.name()
            );
        }
    }

    /// Follows the sender, which is the leader of this term.
    fn follow(&mut self, from: NodeId) -> Result<(), Error> {
        match self.role {
            Role::Leader => {
                let what = format!("two leaders in term {}", self.term);
                return Err(Error::Peer { from, what });
            }
            Role::Candidate | Role::PreCandidate => self.become_follower(self.term, from),
            Role::Follower => {
                self.clock.election_elapsed = 0;
                self.leader = from;
            }
        }
        Ok(())
    }

    pub(crate) fn next_term(&self) -> Option<Term> {
        // The highest number is no term, so that there is always a next one.
        self.term.0.checked_add(1).map(Term)
    }
}
