//! The leader: proposals, commit, replication.
//!
//! Source: etcd raft v3.7 raft.go (becomeLeader, stepLeader, appendEntry, maybeSendAppend).

mod append_response;
mod heartbeat;

use crate::confchange::ConfChanges;
use crate::error::DroppedRequest;
use crate::message::Body;
use crate::node::{Node, Proposed};
use crate::output::Role;
use crate::tracker::ProgressState;
use proto::{Entry, EntryId, Index, NodeId};

impl Node {
    pub(crate) fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate becomes leader");
        self.reset(self.term);
        self.leader = self.config.id;
        self.role = Role::Leader;
        if let Some(own) = self.tracker.progress.get_mut(&self.config.id) {
            own.become_replicate();
            own.recent_active = true;
        }
        // The log may contain a configuration change that is not applied. Instead of searching for
        // it, no change is accepted until the whole log is applied.
        self.pending_conf_index = self.log.last().index;
        // Entries of earlier terms are committed with an entry of the leader's own term (thesis
        // §6.4).
        self.append_own(vec![Entry::default()]);
        tracing::info!("{:x} became leader at term {}", self.config.id, self.term);
    }

    /// Appends entries to the leader's own log. They count once they are durable.
    fn append_own(&mut self, entries: Vec<Entry>) {
        let (term, before) = (self.term, self.log.last().index.0);
        self.log.append((before + 1..).zip(entries).map(|(index, entry)| Entry {
            term,
            index: Index(index),
            ..entry
        }));
    }

    pub(crate) fn propose_entries(
        &mut self,
        mut entries: Vec<Entry>,
    ) -> Result<Proposed, DroppedRequest> {
        match self.role {
            Role::Leader => {}
            Role::Follower if self.leader != NodeId::NONE => {
                self.send(self.leader, Body::Propose { entries });
                return Ok(Proposed::Forwarded);
            }
            Role::Follower | Role::Candidate => {
                tracing::info!(
                    "{:x} no leader at term {}; dropping proposal",
                    self.config.id,
                    self.term
                );
                return Err(DroppedRequest::NoLeader);
            }
        }
        if !self.tracker.progress.contains_key(&self.config.id) {
            return Err(DroppedRequest::NotAMember);
        }
        let ignored = self.admit_conf_changes(&mut entries);
        let first = self.log.last().index.next();
        self.append_own(entries);
        self.broadcast_append();
        Ok(match ignored {
            Some(why) => Proposed::Ignored { why },
            None => Proposed::Appended {
                first: EntryId { term: self.term, index: first },
                last: self.log.last(),
            },
        })
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
            let Some(why) = self.objection(&changes) else {
                self.pending_conf_index = Index(index);
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
        let (pending, applied) = (self.pending_conf_index, self.log.applied());
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

    /// Raises the commit index to the last entry that a quorum holds, if that is an entry of this
    /// term, and sends it to the others. Returns false if the commit index did not change.
    pub(crate) fn advance_commit(&mut self) -> bool {
        let index = self.tracker.committed();
        // An entry of an earlier term may still be overwritten although a quorum holds it (thesis
        // §3.6.2).
        let of_this_term = self.log.term(index) == Some(self.term);
        if index <= self.log.committed() || !of_this_term {
            return false;
        }
        self.log.commit_to(index);
        self.broadcast_append();
        true
    }

    /// More of the leader's own entries are durable.
    pub(crate) fn own_append_durable(&mut self) {
        let persisted = self.log.persisted();
        let Some(own) = self.tracker.progress.get_mut(&self.config.id) else { return };
        if own.maybe_update(persisted) && self.advance_commit() {
            self.release_reads();
        }
    }

    fn others(&self) -> Vec<NodeId> {
        self.tracker.progress.keys().copied().filter(|id| *id != self.config.id).collect()
    }

    pub(crate) fn broadcast_append(&mut self) {
        for member in self.others() {
            self.send_append(member, true);
        }
    }

    /// Sends new entries to the members that do not have them yet.
    pub(crate) fn send_new_entries(&mut self) {
        for member in self.others() {
            self.send_append(member, false);
        }
    }

    /// Sends the next entries to a member. With `even_empty`, sends the commit index if there are no
    /// entries. Returns false if nothing was sent.
    pub(crate) fn send_append(&mut self, to: NodeId, even_empty: bool) -> bool {
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let before = Index(progress.next.0 - 1);
        let Some(term) = self.log.term(before) else {
            // The member needs entries that are no longer in memory. Snapshots are not built yet.
            tracing::debug!("{:x} has no entry {before} for {to:x} any more", self.config.id);
            return false;
        };
        let prev = EntryId { term, index: before };
        let full = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        let entries = if full {
            Vec::new()
        } else {
            self.log.slice(progress.next, self.log.last().index, self.config.append_bytes_max)
        };
        if entries.is_empty() && !even_empty {
            return false;
        }
        let commit = self.log.committed();
        progress.sent_entries(entries.len() as u64);
        progress.sent_commit = commit;
        self.send(to, Body::Append { prev, entries, commit });
        true
    }
}
