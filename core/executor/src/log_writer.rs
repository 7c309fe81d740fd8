//! The machine around the WAL and the `.snap` files. It works in steps of one or a few disk calls,
//! so that a test can stop between any two of them.

use crate::message::{ApplyInput, ConsensusInput, Envelope, LogInput};
use member::{Append, Receipt};
use proto::{HardState, Index};
use raft::{LogPart, LogRead, Message};
use state::Snapshot;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use vfs::Vfs;
use wal::snap::{self, EncodedSnap, SnapFile};
use wal::{EntryRead, SnapshotRecord, Wal};

/// How many old files are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// `.snap` files; 0 keeps all.
    pub(crate) snapshots_max: usize,
    /// Segments of the WAL; 0 keeps all.
    pub(crate) segments_max: usize,
}

/// A completed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStep {
    /// A batch was written, not synced.
    Write,
    /// The batch was synced.
    Sync,
    /// The next segment was prepared, if that was due.
    Tend,
    /// The content of a `.snap` file was encoded.
    EncodeSnapshot,
    /// A `.snap` file was written and synced.
    SaveSnapshot,
    /// There was no space for a `.snap` file. The log continues without it.
    SkipSnapshot,
    /// The record of the snapshot was written to the WAL.
    RecordSnapshot,
    /// Files that are no longer needed were removed.
    Purge,
    /// A piece of the log was read for a member that is behind.
    Read,
}

/// Whether the member can continue without a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// It can: the log keeps its segments.
    No,
    /// It cannot: the snapshot was received and replaces the log.
    Yes,
}

/// A queued step.
#[derive(Debug)]
enum Work {
    Write(Append),
    /// Then these messages to other members report it.
    Sync(Receipt, Vec<Message>),
    Tend,
    EncodeSnapshot(Snapshot, Needed),
    SaveSnapshot(EncodedSnap, Needed),
    RecordSnapshot(Snapshot),
    /// As `RecordSnapshot`, but for a snapshot that replaces the log.
    RecordReceived(Snapshot),
    Purge(Index),
}

fn is_no_space(error: &wal::Error) -> bool {
    let wal::Error::Io { source, .. } = error else { return false };
    source.kind() == ErrorKind::StorageFull
}

/// Owns the log on disk. See the crate's description.
#[derive(Debug)]
pub struct LogWriter {
    vfs: Arc<dyn Vfs>,
    wal: Wal,
    snap_dir: PathBuf,
    retention: Retention,
    work: VecDeque<Work>,
    /// Reads for members that are behind. They are done in pieces, between the steps of `work`.
    reads: VecDeque<(LogRead, EntryRead)>,
    /// The next step is a piece of a read, if there is one.
    is_reads_turn: bool,
    failed: bool,
}

impl LogWriter {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        wal: Wal,
        snap_dir: PathBuf,
        retention: Retention,
    ) -> LogWriter {
        LogWriter {
            vfs,
            wal,
            snap_dir,
            retention,
            work: VecDeque::new(),
            reads: VecDeque::new(),
            is_reads_turn: false,
            failed: false,
        }
    }

    /// The WAL.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Queues the steps of one input. They are done after those queued before.
    pub fn take(&mut self, input: LogInput) {
        match input {
            LogInput::Append(mut append) => {
                let sync = Work::Sync(append.receipt, std::mem::take(&mut append.answers));
                self.work.extend([Work::Write(append), sync, Work::Tend]);
            }
            LogInput::Read(read) => {
                let LogRead { first, last, bytes_max, .. } = read;
                self.reads.push_back((read, EntryRead::new(first, last, bytes_max)));
            }
            LogInput::Restore(snapshot) => {
                let encode = Work::EncodeSnapshot(snapshot.clone(), Needed::Yes);
                self.work.extend([encode, Work::RecordReceived(snapshot)]);
            }
            LogInput::Snapshot(snapshot, HardState { commit, .. }) => {
                // After a restart the WAL ignores a snapshot beyond its commit index.
                assert!(commit >= snapshot.id.index, "a snapshot covers committed entries only");
                self.work.extend([
                    Work::EncodeSnapshot(snapshot.clone(), Needed::No),
                    Work::RecordSnapshot(snapshot.clone()),
                    Work::Purge(snapshot.id.index),
                ]);
            }
        }
    }

    /// True if [`LogWriter::step`] has something to do. Never after a failure.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.failed && (!self.work.is_empty() || !self.reads.is_empty())
    }

    /// Does the next step; `None` if there is none.
    ///
    /// # Errors
    /// When the disk fails. The step is not repeated: the state of the file after a failed write or
    /// sync is unknown, so the member must stop.
    pub fn step(&mut self, out: &mut Vec<Envelope>) -> Result<Option<LogStep>, wal::Error> {
        if self.failed {
            return Ok(None);
        }
        // A read delays a write by one piece, and writes delay a read by one step for each piece.
        let is_reads_turn = std::mem::replace(&mut self.is_reads_turn, false);
        if (is_reads_turn || self.work.is_empty()) && !self.reads.is_empty() {
            self.read_piece(out);
            return Ok(Some(LogStep::Read));
        }
        self.is_reads_turn = true;
        let Some(work) = self.work.pop_front() else { return Ok(None) };
        // Cleared only by success, so that no later step runs after an error.
        self.failed = true;
        let step = self.carry_out(work, out)?;
        self.failed = false;
        Ok(Some(step))
    }

    fn carry_out(&mut self, work: Work, out: &mut Vec<Envelope>) -> Result<LogStep, wal::Error> {
        match work {
            Work::Write(append) => {
                self.wal.append(&append.entries, append.hard_state)?;
                Ok(LogStep::Write)
            }
            Work::Sync(receipt, answers) => {
                self.wal.sync()?;
                // At once, not by way of consensus: the leader waits for them.
                if !answers.is_empty() {
                    out.push(Envelope::Peers(answers));
                }
                out.push(Envelope::Consensus(ConsensusInput::Durable(receipt)));
                Ok(LogStep::Sync)
            }
            Work::Tend => {
                self.wal.tend()?;
                Ok(LogStep::Tend)
            }
            Work::EncodeSnapshot(Snapshot { id, conf_state, data }, needed) => {
                let encoded = EncodedSnap::new(&SnapFile { id, conf_state, data });
                self.work.push_front(Work::SaveSnapshot(encoded, needed));
                Ok(LogStep::EncodeSnapshot)
            }
            Work::SaveSnapshot(encoded, needed) => match encoded.save(&*self.vfs, &self.snap_dir) {
                Ok(()) => Ok(LogStep::SaveSnapshot),
                Err(error) if needed == Needed::No && is_no_space(&error) => {
                    self.skip_snapshot(&error, out);
                    Ok(LogStep::SkipSnapshot)
                }
                Err(error) => Err(error),
            },
            Work::RecordSnapshot(Snapshot { id, conf_state, .. }) => {
                let conf_state = Some(conf_state);
                self.wal.save_snapshot(&SnapshotRecord { id, conf_state })?;
                tracing::info!(snapshot_index = id.index.0, "saved snapshot to disk");
                Ok(LogStep::RecordSnapshot)
            }
            Work::RecordReceived(Snapshot { id, conf_state, .. }) => {
                let conf_state = Some(conf_state);
                self.wal.save_snapshot(&SnapshotRecord { id, conf_state })?;
                self.wal.follow_snapshot(id);
                tracing::info!(snapshot_index = id.index.0, "saved a received snapshot to disk");
                Ok(LogStep::RecordSnapshot)
            }
            Work::Purge(index) => {
                self.wal.release_to(index);
                self.wal.purge(self.retention.segments_max)?;
                snap::purge(&*self.vfs, &self.snap_dir, self.retention.snapshots_max);
                out.push(Envelope::Consensus(ConsensusInput::SnapshotSaved(index)));
                out.push(Envelope::Apply(ApplyInput::SnapshotSaved));
                Ok(LogStep::Purge)
            }
        }
    }

    /// Reads a piece for the first queued read. An error does not stop the member: the member that
    /// is behind then gets a snapshot.
    fn read_piece(&mut self, out: &mut Vec<Envelope>) {
        let Some((read, mut entries)) = self.reads.pop_front() else { return };
        match self.wal.read_some(&mut entries) {
            Ok(false) => return self.reads.push_front((read, entries)),
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(%error, "failed to read the log for a member that is behind");
                entries = EntryRead::new(read.first, read.last, read.bytes_max);
            }
        }
        let part = entries.finish().map(|(prev, entries)| LogPart { prev, entries });
        out.push(Envelope::Consensus(ConsensusInput::LogRead(read, part)));
    }

    /// Drops the remaining steps of a snapshot that could not be saved. It is not needed: the log
    /// keeps its segments until the next snapshot.
    fn skip_snapshot(&mut self, error: &wal::Error, out: &mut Vec<Envelope>) {
        tracing::warn!(%error, "no space for a snapshot; the log is kept until the next one");
        let rest: Vec<Work> = self.work.drain(..2).collect();
        let is_of_it = matches!(rest[..], [Work::RecordSnapshot(_), Work::Purge(_)]);
        assert!(is_of_it, "the steps of a snapshot follow each other");
        out.push(Envelope::Apply(ApplyInput::SnapshotSaved));
    }

    /// Closes the WAL.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn close(self) -> Result<(), wal::Error> {
        self.wal.close()
    }
}
