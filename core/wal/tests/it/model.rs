//! A model of a log and a random workload for it: what a reader must find after a crash.

use bytes::Bytes;
use proto::{ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use random::Random;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vfs::SimDisk;
use wal::{Error, Metadata, OpenAt, Recovered, SnapshotRecord, Wal};

pub(crate) const DIR: &str = "/data/wal";
pub(crate) const SEGMENT: u64 = 24 * 1024;

pub(crate) fn metadata() -> Metadata {
    Metadata { node: NodeId(0x0720_14b8_29d2_85e6), cluster: 7 }
}

/// The content of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogContent {
    pub(crate) entries: BTreeMap<Index, Entry>,
    pub(crate) state: HardState,
    pub(crate) snapshot: EntryId,
}

impl LogContent {
    pub(crate) fn append(&mut self, entry: &Entry) {
        self.entries.split_off(&entry.index);
        self.entries.insert(entry.index, entry.clone());
        if entry.term > self.state.term {
            // The state record of the entry's batch may be lost.
            self.state = HardState { term: entry.term, vote: NodeId::NONE, ..self.state };
        }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last_key_value().map_or(self.snapshot, |(_, last)| last.id())
    }

    /// True if a log with this content, opened at the snapshot, gives `recovered`.
    pub(crate) fn is(&self, snapshot: EntryId, recovered: &Recovered) -> bool {
        let after = self.entries.range(snapshot.index.next()..).map(|(_, entry)| entry);
        self.snapshot == snapshot
            && recovered.hard_state == self.state
            && after.eq(&recovered.entries)
    }
}

/// The durable content, and the contents that an unfinished operation may leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) durable: LogContent,
    /// In the order in which records reach the file.
    pub(crate) under_way: Vec<LogContent>,
    /// The newest state given to the log. The file may lack its commit index.
    pub(crate) state: HardState,
}

pub(crate) enum Step {
    Append(Vec<Entry>, HardState),
    Snapshot(SnapshotRecord),
    Tend,
    Release,
}

impl Model {
    pub(crate) fn begin(&mut self, step: &Step) {
        let mut log = self.durable.clone();
        match step {
            Step::Append(entries, state) => {
                self.state = *state;
                let votes = |state: HardState| (state.term, state.vote);
                if entries.is_empty() && votes(*state) == votes(log.state) {
                    return;
                }
                for entry in entries {
                    log.append(entry);
                    self.under_way.push(log.clone());
                }
                log.state = *state;
                self.under_way.push(log);
            }
            Step::Snapshot(snapshot) => {
                self.state.commit = self.state.commit.max(snapshot.id.index);
                log.state = self.state;
                self.under_way.push(log.clone());
                log.snapshot = snapshot.id;
                self.under_way.push(log);
            }
            Step::Tend | Step::Release => {}
        }
    }

    /// The operation succeeded.
    pub(crate) fn end(&mut self) {
        if let Some(last) = self.under_way.drain(..).next_back() {
            self.durable = last;
        }
    }

    /// A restart found one of the contents possible.
    pub(crate) fn restart(&mut self, found: LogContent) {
        self.under_way.clear();
        self.state = found.state;
        self.durable = found;
    }

    pub(crate) fn next_step(&self, rng: &mut Random) -> Step {
        let last = self.durable.last();
        let mut state = self.state;
        match rng.below(12) {
            0 => {
                state.term = Term(state.term.0 + 1);
                state.vote = NodeId(rng.below(3));
                Step::Append(Vec::new(), state)
            }
            1 => {
                state.commit = Index(state.commit.0 + rng.below(last.index.0 - state.commit.0 + 1));
                Step::Append(Vec::new(), state)
            }
            2 if state.commit > self.durable.snapshot.index => {
                let id = self.durable.entries[&state.commit].id();
                let voters = vec![NodeId(1)];
                let conf_state = Some(ConfState { voters, ..ConfState::default() });
                Step::Snapshot(SnapshotRecord { id, conf_state })
            }
            3 => Step::Tend,
            4 => Step::Release,
            5 if last.index > state.commit => {
                // Another leader replaces entries that are not committed.
                state.term = Term(state.term.0 + 1);
                let from = state.commit.0 + 1 + rng.below(last.index.0 - state.commit.0);
                Step::Append(entries(rng, from, state.term), state)
            }
            _ => {
                state.term = state.term.max(Term(1));
                let batch = entries(rng, last.index.0 + 1, state.term);
                state.commit = Index(state.commit.0 + rng.below(last.index.0 - state.commit.0 + 1));
                Step::Append(batch, state)
            }
        }
    }

    /// Carries a step out on the log.
    pub(crate) fn carry_out(&self, wal: &mut Wal, step: &Step) -> Result<(), Error> {
        match step {
            Step::Append(entries, state) => {
                wal.append(entries, *state)?;
                wal.sync()
            }
            Step::Snapshot(snapshot) => wal.save_snapshot(snapshot),
            Step::Tend => wal.tend(),
            Step::Release => {
                wal.release_to(self.durable.snapshot.index);
                wal.purge(2).map(drop)
            }
        }
    }

    /// The possible content that `recovered` shows; panics if it shows none.
    pub(crate) fn find(
        &self,
        snapshot: EntryId,
        recovered: &Recovered,
        context: &str,
    ) -> LogContent {
        assert_eq!(recovered.metadata, metadata());
        let fits = |log: &&LogContent| log.is(snapshot, recovered);
        let log = std::iter::once(&self.durable).chain(&self.under_way).find(fits);
        let Some(log) = log else {
            panic!(
                "{context}: found snapshot {snapshot:?}, state {:?}, {} entries up to {:?}; durable {:?}, {:?}, {:?}",
                recovered.hard_state,
                recovered.entries.len(),
                recovered.entries.last().map(Entry::id),
                self.durable.snapshot,
                self.durable.state,
                self.durable.last(),
            )
        };
        log.clone()
    }

    /// Opens the log and finds which possible content it has.
    pub(crate) fn check(&self, disk: &SimDisk, context: &str) -> (Wal, LogContent) {
        let opened = open(disk);
        let (wal, snapshot, recovered) =
            opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        (wal, self.find(snapshot, &recovered, context))
    }
}

pub(crate) fn entries(rng: &mut Random, from: u64, term: Term) -> Vec<Entry> {
    let count = 1 + rng.below(4);
    let mut entry = |index| {
        let len = match rng.below(8) {
            0 => 0,
            1 => 3_000 + rng.below(6_000),
            _ => rng.below(300),
        };
        // Some data is all zeros, as a torn sector is.
        let byte = u8::try_from(rng.below(3) * 100).unwrap();
        let data = Bytes::from(vec![byte; usize::try_from(len).unwrap()]);
        Entry { term, index: Index(index), kind: EntryKind::Normal, data }
    };
    (from..from + count).map(&mut entry).collect()
}

/// Opens the log at its newest snapshot.
pub(crate) fn open(disk: &SimDisk) -> Result<(Wal, EntryId, Recovered), Error> {
    let newest = wal::valid_snapshots(disk, Path::new(DIR))?.pop();
    let snapshot = newest.map(|record| record.id).unwrap_or_default();
    let at = OpenAt { segment_bytes: SEGMENT, ..OpenAt::new(snapshot, Index(0)) };
    let (wal, recovered) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), &at)?;
    Ok((wal, snapshot, recovered))
}
