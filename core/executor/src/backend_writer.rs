//! The machine around the database file: it gathers batches for an interval, commits them as one
//! transaction, and gives free space back while there is nothing else to commit.

use crate::message::{ApplyInput, BackendInput, Envelope, WakeFor};
use crate::received::{self, DatabasePlace};
use backend::{Backend, Batch};
use proto::Index;
use std::sync::Arc;
use std::time::Duration;

/// A commit begins at once when this many bytes are queued: half of the overlay's limit, so that
/// the other half can fill meanwhile.
const COMMIT_BYTES: usize = backend::Overlay::LIMIT / 2;
/// While this many [`ApplyInput::BackendDurable`] are in flight, commits that only return free
/// space are postponed. Commits of batches are bounded by the batches themselves.
pub const BACKEND_REPORTS_MAX: usize = 2;
/// A file up to this size is not shrunk.
const SHRINK_BYTES_MIN: u64 = 1024 * 1024;

/// When batches are committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPace {
    /// How long batches are gathered.
    pub(crate) interval: Duration,
    /// How many batches are gathered at most.
    pub(crate) batches_max: usize,
}

/// Owns the database file. See the crate's description. Times are since the start of the process
/// and never decrease.
#[derive(Debug)]
pub struct BackendWriter {
    backend: Backend,
    place: DatabasePlace,
    pace: CommitPace,
    /// The index of the snapshot whose file replaces the database.
    replacing: Option<Index>,
    queued: Vec<Arc<Batch>>,
    queued_bytes: usize,
    /// When the next commit is due at the latest, if anything is to be committed.
    due: Duration,
    /// Flushes that no report has counted yet.
    flushes: usize,
    /// Reports that the applier has not taken yet.
    reports: usize,
    failed: bool,
}

impl BackendWriter {
    pub(crate) fn new(backend: Backend, place: DatabasePlace, pace: CommitPace) -> BackendWriter {
        BackendWriter {
            backend,
            place,
            pace,
            replacing: None,
            queued: Vec::new(),
            queued_bytes: 0,
            due: Duration::ZERO,
            flushes: 0,
            reports: 0,
            failed: false,
        }
    }

    /// The database.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Takes one input.
    pub fn take(&mut self, now: Duration, input: BackendInput) {
        match input {
            BackendInput::Batch(batch) => {
                if self.queued.is_empty() {
                    self.due = now + self.pace.interval;
                }
                self.queued_bytes += batch.bytes();
                self.queued.push(batch);
            }
            BackendInput::CommitNow => self.flushes += 1,
            BackendInput::Replace(index) => {
                self.queued.clear();
                self.queued_bytes = 0;
                self.flushes = 0;
                self.replacing = Some(index);
            }
            BackendInput::ReportTaken => self.reports -= 1,
        }
    }

    /// True if enough is queued for a commit at once, so that no more input should be taken first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queued_bytes >= COMMIT_BYTES || self.queued.len() >= self.pace.batches_max
    }

    /// The inputs that have an effect before the next commit is due. After the first batch of a
    /// commit, these are the batches that make the writer full.
    #[must_use]
    pub fn wake_for(&self) -> WakeFor {
        if self.queued.is_empty() {
            return WakeFor::ALL;
        }
        WakeFor {
            batches: self.pace.batches_max.saturating_sub(self.queued.len()),
            batch_bytes: COMMIT_BYTES.saturating_sub(self.queued_bytes),
            ..WakeFor::ALL
        }
    }

    /// True if batches are queued, and may be committed.
    #[must_use]
    pub fn has_batches(&self) -> bool {
        !self.failed && (!self.queued.is_empty() || self.replacing.is_some())
    }

    /// How many batches are queued.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.queued.len()
    }

    /// The time of the next commit; `None` if there is nothing to commit.
    #[must_use]
    pub fn next_commit(&self, now: Duration) -> Option<Duration> {
        if self.failed {
            None
        } else if self.replacing.is_some() || self.flushes > 0 || self.is_full() {
            Some(now)
        } else if self.has_batches() || self.may_shrink() {
            Some(self.due)
        } else {
            None
        }
    }

    /// Commits everything that is queued.
    ///
    /// # Errors
    /// When the disk fails. The commit is not repeated: the member must stop.
    pub fn commit(&mut self, now: Duration, out: &mut Vec<Envelope>) -> Result<(), backend::Error> {
        self.commit_observed(now, &mut || {}, out)
    }

    /// As [`BackendWriter::commit`]. Calls `writing` when the new pages are built and are written, so
    /// that the caller can measure both parts.
    ///
    /// # Errors
    /// As [`BackendWriter::commit`].
    pub fn commit_observed(
        &mut self,
        now: Duration,
        writing: &mut dyn FnMut(),
        out: &mut Vec<Envelope>,
    ) -> Result<(), backend::Error> {
        self.commit_first(now, self.queued.len(), writing, out)
    }

    /// Commits the oldest `count` of the queued batches.
    ///
    /// # Errors
    /// As [`BackendWriter::commit`].
    ///
    /// # Panics
    /// When fewer are queued.
    pub fn commit_some(
        &mut self,
        now: Duration,
        count: usize,
        out: &mut Vec<Envelope>,
    ) -> Result<(), backend::Error> {
        self.commit_first(now, count, &mut || {}, out)
    }

    fn commit_first(
        &mut self,
        now: Duration,
        count: usize,
        writing: &mut dyn FnMut(),
        out: &mut Vec<Envelope>,
    ) -> Result<(), backend::Error> {
        if self.failed {
            return Ok(());
        }
        if let Some(index) = self.replacing.take() {
            return self.replace(index, out);
        }
        let batches: Vec<_> = self.queued.drain(..count).collect();
        // Cleared only by success, so that nothing is committed after an error.
        self.failed = true;
        let file = self.backend.commit_observed(&batches, writing)?;
        self.failed = false;
        self.queued_bytes = self.queued.iter().map(|batch| batch.bytes()).sum();
        self.due = now + self.pace.interval;
        self.reports += 1;
        // A flush covers every batch that was queued before it.
        let flushes = if !self.queued.is_empty() { 0 } else { std::mem::take(&mut self.flushes) };
        let batches = batches.len();
        out.push(Envelope::Apply(ApplyInput::BackendDurable { batches, flushes, file }));
        Ok(())
    }

    /// Replaces the database by the received file. Views of the old one stay valid.
    fn replace(&mut self, index: Index, out: &mut Vec<Envelope>) -> Result<(), backend::Error> {
        self.failed = true;
        self.backend = received::install(&self.place, index)?;
        self.failed = false;
        let file = self.backend.view();
        out.push(Envelope::Apply(ApplyInput::DatabaseReplaced(file)));
        Ok(())
    }

    /// True if more than a quarter of the file is free, so that a commit may return some of it.
    fn may_shrink(&self) -> bool {
        let view = self.backend.view();
        let (size, in_use) = (view.size(), view.size_in_use());
        self.reports < BACKEND_REPORTS_MAX && size > SHRINK_BYTES_MIN && in_use < size / 4 * 3
    }
}
