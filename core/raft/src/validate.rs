//! The messages of peers that are refused before any change, since they would violate an invariant.

use crate::confchange::{self, ConfChanges};
use crate::error::Error;
use crate::log::in_a_row;
use crate::message::{Body, Message, OWN_APPLIER, RaftSnapshot};
use crate::node::Node;
use crate::output::Role;
use crate::tracker::InflightLimits;
use proto::{Entry, EntryId, Index, NodeId, Term};

impl Node {
    /// Refuses messages that would violate an invariant.
    pub(crate) fn validate(&self, message: &Message) -> Result<(), Error> {
        let from = message.from;
        self.check_addresses(message)
            .and_then(|()| self.check_content(message))
            .map_err(|what| Error::Peer { from, what })?;
        if message.body.is_response() && !self.tracker.progress.contains_key(&from) {
            return Err(Error::UnknownPeer { from });
        }
        Ok(())
    }

    fn check_addresses(&self, message: &Message) -> Result<(), String> {
        let Message { from, to, term, body } = message;
        if *to != self.config.id {
            return Err(format!("it is for member {to:x}"));
        }
        // A transfer request has the target of the transfer as its sender, which may be this
        // member.
        let of_this_member = *from == self.config.id && *body != Body::TransferLeader;
        if of_this_member || *from == NodeId::NONE || *from >= OWN_APPLIER {
            return Err("the sender is this member or none".into());
        }
        if body.has_no_term() != (*term == Term(0)) {
            return Err(format!("{} in term {term}", body.name()));
        }
        if *term == Term(u64::MAX) {
            return Err("the last possible term, after which no election is possible".into());
        }
        Ok(())
    }

    fn check_content(&self, message: &Message) -> Result<(), String> {
        let Message { term, body, .. } = message;
        let later_than_term = |id: &EntryId| id.term > *term;
        let last = self.log.last().index;
        match body {
            Body::Append { prev, entries, .. } => {
                let newest = entries.last().map_or(*prev, Entry::id);
                in_a_row(*prev, entries)?;
                if later_than_term(&newest) {
                    return Err(format!("entry of term {} in term {term}", newest.term));
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
                if ours && *index > last {
                    return Err(format!("it accepts entry {index}, which does not exist"));
                }
            }
            Body::Snapshot(snapshot) => check_snapshot(snapshot, *term)?,
            Body::Vote { last, .. } | Body::PreVote { last } if later_than_term(last) => {
                return Err(format!("a candidate of term {term} with a log of term {}", last.term));
            }
            Body::Heartbeat { commit, .. } => {
                if *commit > last {
                    return Err(format!("tocommit({commit}) is out of range [lastIndex({last})]"));
                }
            }
            Body::Stored { .. } => return Err("a report of a write comes from nobody else".into()),
            Body::Vote { .. }
            | Body::PreVote { .. }
            | Body::AppendRejected { .. }
            | Body::VoteResponse { .. }
            | Body::PreVoteResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TransferLeader
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => {}
        }
        Ok(())
    }
}

fn check_snapshot(snapshot: &RaftSnapshot, term: Term) -> Result<(), String> {
    let RaftSnapshot { id, conf_state, .. } = snapshot;
    if id.index == Index(0) || id.index == Index(u64::MAX) || id.term > term {
        return Err(format!("a snapshot at {}/{} in term {term}", id.term, id.index));
    }
    if conf_state.voters.is_empty() {
        return Err("a snapshot without voters".into());
    }
    match confchange::restore(conf_state, id.index, InflightLimits::default()) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("a snapshot with an invalid configuration: {why}")),
    }
}
