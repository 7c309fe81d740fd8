//! Sending entries to the other members, from memory or from the log file.
//!
//! Source: etcd raft v3.7 raft.go (bcastAppend, maybeSendAppend).

use crate::message::Body;
use crate::node::Node;
use crate::output::{LogPart, LogRead, Role};
use crate::tracker::ProgressState;
use proto::{Entry, EntryId, Index, NodeId};

impl Node {
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
        let Some(progress) = self.tracker.progress.get(&to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let before = Index(progress.next.0 - 1);
        let full = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        let Some(term) = self.log.term(before) else {
            // While the window is full, only an empty append is sent, if it was asked for.
            return (even_empty || !full) && self.send_released(to, before);
        };
        let entries = if full {
            Vec::new()
        } else {
            let bytes_max = self.config.limits.append_bytes_max;
            self.log.slice(progress.next, self.log.last().index, bytes_max)
        };
        if entries.is_empty() && !even_empty {
            return false;
        }
        self.send_entries(to, EntryId { term, index: before }, entries);
        true
    }

    fn send_entries(&mut self, to: NodeId, prev: EntryId, entries: Vec<Entry>) {
        let commit = self.log.committed();
        if let Some(progress) = self.tracker.progress.get_mut(&to) {
            let bytes = entries.iter().map(|entry| entry.data.len()).sum();
            progress.sent_entries(entries.len() as u64, bytes);
            progress.sent_commit = commit;
        }
        self.send(to, Body::Append { prev, entries, commit });
    }

    /// Sends a member entries after `before` that are no longer in memory: reads them from the log
    /// file, or sends a snapshot.
    fn send_released(&mut self, to: NodeId, before: Index) -> bool {
        if !self.config.rules.reads_log {
            return self.send_snapshot(to);
        }
        let term = self.term;
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return false };
        // Nothing is read for a member that does not respond. Its next response to a heartbeat
        // starts this again.
        if !progress.recent_active {
            return false;
        }
        let first = before.next();
        progress.reading = Some(first);
        let last = self.log.last().index;
        let bytes_max = self.config.limits.append_bytes_max;
        let read = LogRead { term, first, last, bytes_max };
        let asked = &mut self.out.outbox.log_reads;
        // Members that need the same entries share one read.
        if !asked.iter().any(|other| other.first == first) {
            asked.push(read);
        }
        false
    }

    /// Called when the caller has read a part of the log; `None` if the file no longer has it.
    ///
    /// # Panics
    /// If it is not the requested part.
    pub fn log_read(&mut self, read: LogRead, part: Option<LogPart>) {
        if self.role != Role::Leader || read.term != self.term {
            return;
        }
        if let Some(part) = &part {
            let first = part.entries.first().map(|entry| entry.index);
            assert!(
                first == Some(read.first) && part.prev.index.next() == read.first,
                "the part that was read begins with the first entry that was asked for"
            );
        }
        for member in self.others() {
            let Some(progress) = self.tracker.progress.get_mut(&member) else { continue };
            if progress.reading != Some(read.first) || progress.next != read.first {
                continue;
            }
            progress.reading = None;
            let full = progress.state == ProgressState::Replicate && progress.inflights.is_full();
            let Some(LogPart { prev, entries }) = &part else {
                // If there is no snapshot either, the next response to a heartbeat asks again.
                self.send_snapshot(member);
                continue;
            };
            // The data of the entries is shared between the members.
            let entries = if full { Vec::new() } else { entries.clone() };
            self.send_entries(member, *prev, entries);
            while self.send_append(member, false) {}
        }
    }
}
