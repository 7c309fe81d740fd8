//! Proposals: of clients on this member, and those that other members forward.
//!
//! Source: etcd raft v3.7 raft.go (MsgProp in stepLeader and stepFollower, appendEntry).

use crate::confchange::ConfChanges;
use crate::error::{DroppedRequest, Error};
use crate::message::{Body, Message};
use crate::node::Node;
use crate::output::Role;
use bytes::Bytes;
use prost::Message as _;
use proto::raftpb;
use proto::{ConfChange, Entry, EntryId, EntryKind, Index, NodeId};

/// The outcome of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It was appended to this member's log. Another leader may still overwrite it.
    Appended {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// It was sent to the leader. The message may get lost.
    Forwarded,
    /// It was a configuration change that is not possible now. An empty entry was appended instead.
    Ignored {
        /// The reason, in etcd's words.
        why: String,
    },
}

impl Node {
    /// Proposes entries, which stay together in this order. A leader appends them; a follower
    /// forwards them to the leader.
    ///
    /// # Errors
    /// [`DroppedRequest`] if there is no leader that takes them now.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Result<Proposed, DroppedRequest> {
        let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        self.propose_entries(entries)
    }

    /// As [`Node::propose`], for entries of any kind.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub fn propose_all(
        &mut self,
        entries: impl Iterator<Item = (EntryKind, Bytes)>,
    ) -> Result<Proposed, DroppedRequest> {
        let entry = |(kind, data)| Entry { kind, data, ..Entry::default() };
        self.propose_entries(entries.map(entry).collect())
    }

    /// The entries of a message that forwards proposals, for a leader that proposes them together
    /// with others.
    ///
    /// # Errors
    /// As [`Node::step`].
    pub fn forwarded(&self, message: Message) -> Result<Vec<(EntryKind, Bytes)>, Error> {
        self.validate(&message)?;
        let Body::Propose { entries } = message.body else {
            unreachable!("only messages with proposals are taken apart")
        };
        Ok(entries.into_iter().map(|entry| (entry.kind, entry.data)).collect())
    }

    /// Proposes the change of one member, as etcd does.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, DroppedRequest> {
        let (kind, data) = (EntryKind::ConfChange, change.encode());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    /// Proposes several changes in one step. Without changes, proposes to leave the joint
    /// configuration.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub fn propose_conf_changes(
        &mut self,
        changes: &raftpb::ConfChangeV2,
    ) -> Result<Proposed, DroppedRequest> {
        let (kind, data) = (EntryKind::ConfChangeV2, changes.encode_to_vec().into());
        self.propose_entries(vec![Entry { kind, data, ..Entry::default() }])
    }

    pub(crate) fn propose_entries(
        &mut self,
        mut entries: Vec<Entry>,
    ) -> Result<Proposed, DroppedRequest> {
        if self.role != Role::Leader {
            return self.forward(entries);
        }
        if !self.tracker.progress.contains_key(&self.config.id) {
            return Err(DroppedRequest::NotAMember);
        }
        if self.leading.transferee != NodeId::NONE {
            tracing::debug!(
                "{:x} [term {}] transfer leadership to {:x} is in progress; dropping proposal",
                self.config.id,
                self.term,
                self.leading.transferee
            );
            return Err(DroppedRequest::LeadershipMoves);
        }
        let pending = self.leading.pending_conf_index;
        let ignored = self.admit_conf_changes(&mut entries);
        let first = self.log.last().index.next();
        if !self.append_own(entries) {
            self.leading.pending_conf_index = pending;
            return Err(DroppedRequest::TooManyBytes);
        }
        self.broadcast_append();
        Ok(match ignored {
            Some(why) => Proposed::Ignored { why },
            None => Proposed::Appended {
                first: EntryId { term: self.term, index: first },
                last: self.log.last(),
            },
        })
    }

    fn forward(&mut self, entries: Vec<Entry>) -> Result<Proposed, DroppedRequest> {
        let (id, term, leader) = (self.config.id, self.term, self.leader);
        if self.role != Role::Follower || leader == NodeId::NONE {
            tracing::info!("{id:x} no leader at term {term}; dropping proposal");
            return Err(DroppedRequest::NoLeader);
        }
        if !self.config.rules.forwards_proposals {
            tracing::info!(
                "{id:x} not forwarding to leader {leader:x} at term {term}; dropping proposal"
            );
            return Err(DroppedRequest::NotForwarded);
        }
        self.send(leader, Body::Propose { entries });
        Ok(Proposed::Forwarded)
    }

    /// Appends entries to the leader's own log. They count once they are durable. Returns false,
    /// and appends nothing, if too many bytes are not applied.
    pub(crate) fn append_own(&mut self, entries: Vec<Entry>) -> bool {
        let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
        let uncommitted = self.leading.uncommitted_bytes;
        let limit = self.config.limits.uncommitted_bytes_max;
        // Empty entries are always taken: a new leader needs one, and so does leaving a joint
        // configuration.
        if uncommitted > 0 && bytes > 0 && uncommitted.saturating_add(bytes) > limit {
            tracing::warn!(
                "{:x} appending new entries to log would exceed uncommitted entry size limit; dropping proposal",
                self.config.id
            );
            return false;
        }
        self.leading.uncommitted_bytes += bytes;
        let (term, before) = (self.term, self.log.last().index.0);
        self.log.append((before + 1..).zip(entries).map(|(index, entry)| Entry {
            term,
            index: Index(index),
            ..entry
        }));
        let index = self.log.last().index;
        self.send_after_write(self.config.id, Body::AppendAccepted { index });
        true
    }

    /// Replaces configuration changes that are not possible now by empty entries, and returns the
    /// reason.
    fn admit_conf_changes(&mut self, entries: &mut [Entry]) -> Option<String> {
        let mut ignored = None;
        for (index, entry) in (self.log.last().index.0 + 1..).zip(entries) {
            let changes = match ConfChanges::of(entry) {
                Ok(None) => continue,
                Ok(Some(changes)) => changes,
                Err(error) => {
                    unreachable!("a configuration change is decoded before it is proposed: {error}")
                }
            };
            let objection =
                self.objection(&changes).filter(|_| self.config.rules.validates_conf_changes);
            let Some(why) = objection else {
                self.leading.pending_conf_index = Index(index);
                continue;
            };
            tracing::info!(
                "{:x} ignoring conf change {changes} at config {}: {why}",
                self.config.id,
                self.tracker.config
            );
            *entry = Entry::default();
            ignored = Some(why);
        }
        ignored
    }

    fn objection(&self, changes: &ConfChanges) -> Option<String> {
        let (pending, applied) = (self.leading.pending_conf_index, self.log.applied());
        let joint = self.tracker.config.voters.is_joint();
        let leaves = changes.changes.is_empty();
        if pending > applied {
            Some(format!(
                "possible unapplied conf change at index {pending} (applied to {applied})"
            ))
        } else if joint && !leaves {
            Some("must transition out of joint config first".into())
        } else if !joint && leaves {
            Some("not in joint state; refusing empty conf change".into())
        } else {
            None
        }
    }
}
