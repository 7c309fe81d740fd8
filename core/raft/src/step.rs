//! Incoming messages: validation, the comparison of terms, and dispatch.
//!
//! Source: etcd raft v3.7 raft.go (Step, stepLeader, stepCandidate, stepFollower).

use crate::confchange::ConfChanges;
use crate::error::Error;
use crate::log::in_a_row;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use proto::{EntryId, NodeId, Term};

impl Node {
    /// Handles a message of another member.
    ///
    /// # Errors
    /// [`Error::Peer`] for an invalid message; the log is unchanged then.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        let from = message.from;
        self.validate(&message).map_err(|what| Error::Peer { from, what })?;
        if !message.body.has_no_term() && !self.take_term(&message) {
            return Ok(());
        }
        if message.body.is_from_leader() {
            self.follow(from)?;
        }
        match message.body {
            Body::Propose { entries } => {
                // The proposing member tries again after a timeout.
                if let Err(dropped) = self.propose_entries(entries) {
                    tracing::debug!("{:x} {dropped}, from {from:x}", self.config.id);
                }
                Ok(())
            }
            Body::Append { prev, entries, commit } => {
                self.handle_append(from, prev, entries, commit)
            }
            Body::AppendAccepted { index } => {
                self.handle_append_accepted(from, index);
                Ok(())
            }
            Body::AppendRejected { index, hint } => {
                self.handle_append_rejected(from, index, hint);
                Ok(())
            }
            Body::Vote { last } => {
                self.handle_vote(from, last);
                Ok(())
            }
            Body::VoteResponse { granted } => {
                self.handle_vote_response(from, granted);
                Ok(())
            }
            Body::Heartbeat { commit, context } => self.handle_heartbeat(from, commit, context),
            Body::HeartbeatResponse { context } => {
                self.handle_heartbeat_response(from, &context);
                Ok(())
            }
            Body::ReadIndex { context } => {
                self.handle_read_index(from, context);
                Ok(())
            }
            Body::ReadIndexResponse { index, context } => {
                self.handle_read_index_response(index, &context);
                Ok(())
            }
        }
    }

    /// Compares terms: returns false for a message of an earlier term, and becomes a follower if
    /// the message has a later one.
    fn take_term(&mut self, message: &Message) -> bool {
        let Message { from, term, body, .. } = message;
        let id = self.config.id;
        if *term > self.term {
            tracing::info!(
                "{id:x} [term: {}] received a {} message with higher term from {from:x} [term: {term}]",
                self.term,
                body.name()
            );
            let leader = if body.is_from_leader() { *from } else { NodeId::NONE };
            self.become_follower(*term, leader);
        } else if *term < self.term {
            tracing::info!(
                "{id:x} [term: {}] ignored a {} message with lower term from {from:x} [term: {term}]",
                self.term,
                body.name()
            );
            return false;
        }
        true
    }

    /// Follows the sender, which is the leader of this term.
    fn follow(&mut self, from: NodeId) -> Result<(), Error> {
        match self.role {
            Role::Leader => {
                let what = format!("two leaders in term {}", self.term);
                return Err(Error::Peer { from, what });
            }
            Role::Candidate => self.become_follower(self.term, from),
            Role::Follower => {
                self.clock.election_elapsed = 0;
                self.leader = from;
            }
        }
        Ok(())
    }

    /// Refuses messages that would violate an invariant, before any change.
    fn validate(&self, message: &Message) -> Result<(), String> {
        let Message { from, to, term, body } = message;
        if *to != self.config.id {
            return Err(format!("it is for member {to:x}"));
        }
        if *from == self.config.id || *from == NodeId::NONE {
            return Err("the sender is this member or none".into());
        }
        if body.has_no_term() != (*term == Term(0)) {
            return Err(format!("{} in term {term}", body.name()));
        }
        if *term == Term(u64::MAX) {
            return Err("the last possible term, after which no election is possible".into());
        }
        if body.is_response() && !self.tracker.progress.contains_key(from) {
            return Err(format!("{} from an unknown member", body.name()));
        }
        let later_than_term = |id: &EntryId| id.term > *term;
        match body {
            Body::Append { prev, entries, .. } => {
                let last = entries.last().map_or(*prev, proto::Entry::id);
                in_a_row(*prev, entries)?;
                if later_than_term(&last) {
                    return Err(format!("entry of term {} in term {term}", last.term));
                }
            }
            Body::Propose { entries } => {
                if entries.is_empty() {
                    return Err("a proposal without entries".into());
                }
                for entry in entries {
                    ConfChanges::of(entry).map_err(|error| error.to_string())?;
                }
            }
            Body::AppendAccepted { index } => {
                let ours = *term == self.term && self.role == Role::Leader;
                if ours && *index > self.log.last().index {
                    return Err(format!("it accepts entry {index}, which does not exist"));
                }
            }
            Body::Vote { last } if later_than_term(last) => {
                return Err(format!("a candidate of term {term} with a log of term {}", last.term));
            }
            Body::Heartbeat { commit, .. } => {
                if *commit > self.log.last().index {
                    return Err(format!(
                        "tocommit({commit}) is out of range [lastIndex({})]",
                        self.log.last().index
                    ));
                }
            }
            Body::Vote { .. }
            | Body::AppendRejected { .. }
            | Body::VoteResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => {}
        }
        Ok(())
    }
}
