//! A node with its disk.

use proto::{ConfState, Entry, EntryId, HardState, Index, NodeId};
use raft::{ConfChanges, Config, Message, Node, Read, Receipt, Restored};
use std::collections::VecDeque;

/// The state that survives a crash.
#[derive(Clone, Default)]
struct Disk {
    entries: Vec<Entry>,
    hard: HardState,
    /// A checkpoint of the state machine; the log is kept whole.
    applied: Index,
    conf: ConfState,
}

impl Disk {
    fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
    }
}

struct Write {
    receipt: Receipt,
    entries: Vec<Entry>,
    hard: HardState,
}

pub(crate) struct Member {
    pub(crate) node: Node,
    disk: Disk,
    writes: VecDeque<Write>,
    /// The newest hard state that was handed out. It goes with the next write.
    hard: HardState,
    to_apply: VecDeque<Entry>,
    config: Config,
}

impl Member {
    pub(crate) fn new(config: Config, conf: ConfState) -> Member {
        Member::start(config, Disk { conf, ..Disk::default() })
    }

    fn start(config: Config, disk: Disk) -> Member {
        let restored = Restored {
            hard_state: disk.hard,
            conf_state: disk.conf.clone(),
            snapshot: EntryId::default(),
            entries: disk.entries.clone(),
            applied: disk.applied,
        };
        let node = Node::new(config.clone(), restored).unwrap();
        let hard = node.hard_state();
        Member { node, disk, writes: VecDeque::new(), hard, to_apply: VecDeque::new(), config }
    }

    /// Takes a Ready: queues the write and the entries to apply, and returns messages and reads.
    pub(crate) fn ready(&mut self) -> (Vec<Message>, Vec<Read>) {
        let ready = self.node.ready();
        self.hard = ready.hard_state.unwrap_or(self.hard);
        assert_eq!(ready.must_sync, ready.receipt.is_some());
        assert!(ready.must_sync || ready.entries.is_empty());
        if let Some(receipt) = ready.receipt {
            self.writes.push_back(Write { receipt, entries: ready.entries, hard: self.hard });
        }
        self.to_apply.extend(ready.committed);
        (ready.messages, ready.reads)
    }

    /// Finishes the first `count` writes and reports only the last one, which implies the others.
    pub(crate) fn finish_writes(&mut self, count: usize) {
        let done: Vec<Write> = self.writes.drain(..count.min(self.writes.len())).collect();
        for write in &done {
            self.disk.append(&write.entries);
            self.disk.hard = write.hard;
        }
        if let Some(write) = done.last() {
            self.node.durable(write.receipt);
        }
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.len()
    }

    /// True if there is no work until the next input.
    pub(crate) fn is_idle(&self) -> bool {
        !self.node.has_ready() && self.writes.is_empty() && self.to_apply.is_empty()
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self) -> Option<(Entry, Option<ConfState>)> {
        let entry = self.to_apply.pop_front()?;
        let changes = ConfChanges::of(&entry).unwrap();
        let conf = changes.map(|changes| self.node.apply_conf_change(&changes).unwrap());
        self.node.applied(entry.index);
        Some((entry, conf))
    }

    /// Makes the state machine durable, independent of the log's hard state.
    pub(crate) fn checkpoint(&mut self) {
        self.disk.applied = self.node.applied_index();
        self.disk.conf = self.node.conf_state();
    }

    /// Crashes and restarts: the first `kept` writes in flight survive, and some entries of the next
    /// one without its hard state.
    pub(crate) fn crash(&mut self, kept: usize, torn: usize, seed: u64) {
        let mut disk = self.disk.clone();
        for (at, write) in self.writes.iter().enumerate() {
            if at < kept {
                disk.append(&write.entries);
                disk.hard = write.hard;
            } else if at == kept {
                disk.append(&write.entries[..torn.min(write.entries.len())]);
            }
        }
        let config = Config { seed, ..self.config.clone() };
        *self = Member::start(config, disk);
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.id()
    }
}
