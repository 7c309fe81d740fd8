//! A node with its disk.

use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId};
use raft::{
    ConfChanges, Config, LogPart, LogRead, LogWrite, Message, Node, RaftSnapshot, Read, Restored,
};
use std::collections::VecDeque;

/// The state that survives a crash.
#[derive(Clone, Default)]
struct Disk {
    /// The entry before the first of `entries`.
    base: EntryId,
    entries: Vec<Entry>,
    hard: HardState,
    /// A checkpoint of the state machine, which is never behind `base`.
    applied: EntryId,
    conf: ConfState,
    snapshot: Option<RaftSnapshot>,
}

impl Disk {
    fn write(&mut self, write: &LogWrite) {
        self.hard = write.hard_state.unwrap_or(self.hard);
        if let Some(snapshot) = &write.snapshot {
            (self.base, self.applied) = (snapshot.id, snapshot.id);
            self.conf = snapshot.conf_state.clone();
            self.snapshot = Some(snapshot.clone());
            self.entries.clear();
        }
        self.append(&write.entries);
    }

    fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
    }

    fn read(&self, read: LogRead) -> Option<LogPart> {
        let before = |entry: &&Entry| entry.index.next() == read.first;
        let prev = match self.entries.iter().find(before) {
            Some(entry) => entry.id(),
            None if self.base.index.next() == read.first => self.base,
            None => return None,
        };
        let from_first = self.entries.iter().filter(|entry| entry.index >= read.first);
        let entries: Vec<Entry> =
            from_first.take_while(|entry| entry.index <= read.last).take(3).cloned().collect();
        Some(LogPart { prev, entries })
    }
}

pub(crate) struct Member {
    pub(crate) node: Node,
    disk: Disk,
    writes: VecDeque<LogWrite>,
    writes_max: usize,
    to_apply: VecDeque<Entry>,
    /// The last applied entry.
    applied: EntryId,
    log_reads: Vec<LogRead>,
    config: Config,
}

impl Member {
    pub(crate) fn new(config: Config, conf: ConfState, writes_max: usize) -> Member {
        Member::start(config, Disk { conf, ..Disk::default() }, writes_max)
    }

    fn start(config: Config, disk: Disk, writes_max: usize) -> Member {
        let restored = Restored {
            hard_state: disk.hard,
            conf_state: disk.conf.clone(),
            snapshot: disk.base,
            entries: disk.entries.clone(),
            applied: disk.applied.index,
            newest: disk.snapshot.clone(),
        };
        Member {
            node: Node::new(config.clone(), restored).unwrap(),
            applied: disk.applied,
            disk,
            writes: VecDeque::new(),
            writes_max,
            to_apply: VecDeque::new(),
            log_reads: Vec::new(),
            config,
        }
    }

    /// Takes a Ready: queues the write and the entries to apply, and returns messages and reads.
    pub(crate) fn ready(&mut self) -> (Vec<Message>, Vec<Read>) {
        let ready = self.node.ready(self.writes.len() < self.writes_max);
        self.writes.extend(ready.write);
        self.to_apply.extend(ready.committed);
        self.log_reads.extend(ready.log_reads);
        if ready.wants_snapshot && !self.is_restoring() {
            let conf_state = self.node.conf_state();
            let snapshot = RaftSnapshot { id: self.applied, conf_state, data: "state".into() };
            self.node.set_snapshot(snapshot);
        }
        (ready.messages, ready.reads)
    }

    /// Finishes the first `count` writes, and returns the messages that may leave now.
    pub(crate) fn finish_writes(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for write in self.writes.drain(..count.min(self.writes.len())) {
            self.disk.write(&write);
            if let Some(snapshot) = &write.snapshot {
                // The state continues from the snapshot, which contains all entries that waited.
                self.to_apply.clear();
                self.applied = snapshot.id;
                self.node.set_snapshot(snapshot.clone());
            }
            for message in write.after {
                if message.to == self.config.id {
                    // A member that was removed no longer counts.
                    self.node.step_own(message).ok();
                } else {
                    messages.push(message);
                }
            }
        }
        messages
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.len()
    }

    /// Answers the oldest question for entries that are no longer in memory.
    pub(crate) fn read_log(&mut self) -> bool {
        let Some(read) = self.log_reads.pop() else { return false };
        let part = self.disk.read(read);
        let found = part.is_some();
        self.node.log_read(read, part);
        found
    }

    /// True if there is no work until the next input.
    pub(crate) fn is_idle(&self) -> bool {
        !self.node.has_ready(true)
            && self.writes.is_empty()
            && self.to_apply.is_empty()
            && self.log_reads.is_empty()
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self) -> Option<(Entry, Option<ConfState>)> {
        let entry = self.to_apply.pop_front()?;
        let changes = ConfChanges::of(&entry).unwrap();
        let conf = changes.map(|changes| self.node.apply_conf_change(&changes).unwrap());
        self.applied = entry.id();
        self.node.applied(entry.index);
        Some((entry, conf))
    }

    /// True while the node's configuration belongs to a snapshot that is not durable yet.
    fn is_restoring(&self) -> bool {
        self.writes.iter().any(|write| write.snapshot.is_some())
            || self.node.first_index() > self.applied.index.next()
    }

    /// Makes the state machine durable, independent of the log's hard state.
    pub(crate) fn checkpoint(&mut self) {
        if !self.is_restoring() {
            self.disk.applied = self.applied;
            self.disk.conf = self.node.conf_state();
        }
    }

    /// Takes a snapshot, and removes the entries that it contains.
    pub(crate) fn compact(&mut self) {
        self.checkpoint();
        let id = self.disk.applied;
        // Only entries that are durable in the log are removed.
        if self.is_restoring() || id.index <= self.disk.base.index {
            return;
        }
        let snapshot =
            RaftSnapshot { id, conf_state: self.disk.conf.clone(), data: "state".into() };
        self.disk.entries.retain(|entry| entry.index > id.index);
        self.disk.base = id;
        self.disk.snapshot = Some(snapshot.clone());
        self.node.set_snapshot(snapshot);
        self.node.compact(id.index);
    }

    /// Crashes and restarts: the first `kept` writes in flight survive, and some entries of the next
    /// one without its hard state.
    pub(crate) fn crash(&mut self, kept: usize, torn: usize, seed: u64) {
        let mut disk = self.disk.clone();
        for (at, write) in self.writes.iter().enumerate() {
            if at < kept {
                disk.write(write);
            } else if at == kept && write.snapshot.is_none() {
                disk.append(&write.entries[..torn.min(write.entries.len())]);
            }
        }
        let config = Config { seed, ..self.config.clone() };
        *self = Member::start(config, disk, self.writes_max);
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    /// True if the entry is on the disk.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index <= self.disk.base.index || self.disk.entries.iter().any(|entry| entry.id() == id)
    }

    pub(crate) fn applied_index(&self) -> Index {
        self.applied.index
    }
}
