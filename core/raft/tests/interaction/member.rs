//! A node with its log, the work of its append and apply threads, and its snapshots.

use proto::{ConfState, Entry, EntryId, HardState, Index};
use raft::{ConfChanges, LogWrite, Node, RaftSnapshot};
use std::collections::VecDeque;

pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) is_async: bool,
    /// The entry before the first of `stored`.
    base: EntryId,
    stored: Vec<Entry>,
    /// The last hard state that was handed out.
    pub(crate) hard: HardState,
    pub(crate) append_work: VecDeque<LogWrite>,
    pub(crate) apply_work: VecDeque<Vec<Entry>>,
    /// The state after each applied entry.
    history: Vec<RaftSnapshot>,
}

impl Member {
    pub(crate) fn new(mut node: Node, snapshot: RaftSnapshot, is_async: bool) -> Member {
        node.set_snapshot(snapshot.clone());
        Member {
            hard: node.hard_state(),
            node,
            is_async,
            base: snapshot.id,
            stored: Vec::new(),
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
            history: vec![snapshot],
        }
    }

    /// Stores a write.
    pub(crate) fn append(&mut self, write: &LogWrite) {
        if let Some(snapshot) = &write.snapshot {
            self.base = snapshot.id;
            self.stored.clear();
        }
        if let Some(first) = write.entries.first() {
            self.stored.retain(|entry| entry.index < first.index);
            self.stored.extend_from_slice(&write.entries);
            self.stored.retain(|entry| entry.index > self.base.index);
        }
    }

    /// Applies an entry to the state machine, whose state is all data in a row.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        let changes = ConfChanges::of(entry).expect("a valid change");
        let is_change = changes.is_some();
        let conf_state: Option<ConfState> = changes
            .map(|changes| self.node.apply_conf_change(&changes).expect("a possible change"));
        let last = self.snapshot();
        let mut data = last.data.to_vec();
        if !is_change {
            data.extend_from_slice(&entry.data);
        }
        let conf_state = conf_state.unwrap_or_else(|| last.conf_state.clone());
        let snapshot = RaftSnapshot { id: entry.id(), conf_state, data: data.into() };
        self.node.set_snapshot(snapshot.clone());
        self.history.push(snapshot);
    }

    pub(crate) fn snapshot(&self) -> &RaftSnapshot {
        self.history.last().expect("there is always one")
    }

    /// Removes the entries up to `index`, from memory as well.
    pub(crate) fn compact(&mut self, index: Index) {
        if let Some(last) = self.stored.iter().rfind(|entry| entry.index <= index) {
            self.base = last.id();
        }
        self.stored.retain(|entry| entry.index > index);
        self.node.compact(index);
    }

    /// The text of the stored log.
    pub(crate) fn log(&self) -> String {
        if self.stored.is_empty() {
            let last = self.base.index;
            return format!("log is empty: first index={}, last index={last}", last.next());
        }
        self.stored.iter().map(|entry| raft::describe::entry(entry) + "\n").collect()
    }
}
