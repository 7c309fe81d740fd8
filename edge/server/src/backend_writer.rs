//! The thread that owns the database file: it gathers batches for an interval and commits them
//! as one transaction, and gives space back while nothing else is to do.

use crate::core_loop::{CoreInput, Flush};
use crate::metrics::Metrics;
use backend::{Backend, Batch};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A commit is made as soon as so many bytes wait for it, half of what the overlay takes.
const COMMIT_BYTES: usize = backend::Overlay::LIMIT / 2;

/// What is to be done with the file.
#[derive(Debug)]
pub(crate) enum BackendWork {
    /// Bring a batch into the file.
    Batch(Arc<Batch>),
    /// Commit what waits at once, and send the file as it is then.
    Flush(Flush),
}

/// The owner of the file.
#[derive(Debug)]
pub(crate) struct BackendWriter {
    pub(crate) backend: Backend,
    /// How long batches are gathered.
    pub(crate) interval: Duration,
    /// How many batches are gathered at most.
    pub(crate) batches_max: usize,
    pub(crate) core: Sender<CoreInput>,
    pub(crate) metrics: Arc<Metrics>,
}

impl BackendWriter {
    /// Works until nobody sends any more or the disk fails.
    pub(crate) fn run(mut self, work: &Receiver<BackendWork>) {
        let mut waiting: Vec<Arc<Batch>> = Vec::new();
        let mut bytes = 0;
        let mut due = Instant::now();
        loop {
            let wait = match (waiting.is_empty(), self.has_space_to_give()) {
                (true, false) => Duration::from_secs(3600),
                (true, true) => self.interval,
                (false, _) => due.saturating_duration_since(Instant::now()),
            };
            let next = work.recv_timeout(wait);
            let mut flushes = Vec::new();
            let is_over = matches!(next, Err(RecvTimeoutError::Disconnected));
            if let Ok(next) = next {
                for work in std::iter::once(next).chain(work.try_iter()) {
                    match work {
                        BackendWork::Batch(batch) => {
                            if waiting.is_empty() {
                                due = Instant::now() + self.interval;
                            }
                            bytes += batch.bytes();
                            waiting.push(batch);
                        }
                        BackendWork::Flush(reply) => flushes.push(reply),
                    }
                    if bytes >= COMMIT_BYTES || waiting.len() >= self.batches_max {
                        break;
                    }
                }
            }
            let full = bytes >= COMMIT_BYTES || waiting.len() >= self.batches_max;
            if full || is_over || !flushes.is_empty() || Instant::now() >= due {
                bytes = 0;
                if !self.commit(std::mem::take(&mut waiting), flushes) || is_over {
                    return;
                }
            }
        }
    }

    /// False when the disk has failed.
    fn commit(&mut self, batches: Vec<Arc<Batch>>, flushes: Vec<Flush>) -> bool {
        if batches.is_empty() && flushes.is_empty() && !self.has_space_to_give() {
            return true;
        }
        let begun = Instant::now();
        let file = match self.backend.commit(&batches) {
            Ok(file) => file,
            Err(error) => {
                self.tell(CoreInput::Failed(format!("the database cannot be written: {error}")));
                return false;
            }
        };
        self.metrics.disk.backend.commit.observe(begun.elapsed().as_secs_f64());
        self.tell(CoreInput::BackendDurable { batches: batches.len(), file, flushes });
        true
    }

    /// More than a quarter of the file is free.
    fn has_space_to_give(&self) -> bool {
        let view = self.backend.view();
        let (size, in_use) = (view.size(), view.size_in_use());
        size > 1024 * 1024 && in_use < size / 4 * 3
    }

    fn tell(&self, input: CoreInput) {
        if self.core.send(input).is_err() {
            tracing::debug!("the core is gone");
        }
    }
}
