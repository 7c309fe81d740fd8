//! The thread that owns the log on disk: it appends and syncs one batch after the other, writes
//! .snap files, and lets go of what they replace.

use crate::core_loop::CoreInput;
use crate::metrics::Metrics;
use member::Append;
use proto::HardState;
use state::Snapshot;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;
use vfs::Vfs;
use wal::snap::{self, SnapFile};
use wal::{SnapshotRecord, Wal};

/// What is to be written.
#[derive(Debug)]
pub(crate) enum LogWork {
    /// Append and sync.
    Append(Append),
    /// Write the .snap file; the hard state is committed as far.
    Snapshot(Snapshot, HardState),
}

/// The owner of the log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) wal: Wal,
    pub(crate) snap_dir: PathBuf,
    /// How many .snap files and how many segments are kept; 0 for all.
    pub(crate) keep: (usize, usize),
    pub(crate) core: Sender<CoreInput>,
    pub(crate) metrics: Arc<Metrics>,
}

impl LogWriter {
    /// Works until nobody sends any more or the disk fails.
    pub(crate) fn run(mut self, work: &Receiver<LogWork>) {
        while let Ok(work) = work.recv() {
            let done = match work {
                LogWork::Append(append) => self.append(append),
                LogWork::Snapshot(snapshot, hard_state) => self.snapshot(&snapshot, hard_state),
            };
            if let Err(error) = done {
                // Never tried again: what a failed sync left is not known.
                self.tell(CoreInput::Failed(format!("the log cannot be written: {error}")));
                return;
            }
        }
        if let Err(error) = self.wal.close() {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    }

    fn append(&mut self, append: Append) -> Result<(), wal::Error> {
        let metrics = &self.metrics.disk.log;
        let begun = Instant::now();
        self.wal.append(&append.entries, append.hard_state)?;
        let written = Instant::now();
        metrics.write.observe((written - begun).as_secs_f64());
        metrics.written_bytes.set(i64::try_from(self.wal.written_bytes()).unwrap_or(i64::MAX));
        self.wal.sync()?;
        metrics.fsync.observe(written.elapsed().as_secs_f64());
        self.tell(CoreInput::Durable(append.receipt));
        self.wal.tend()
    }

    fn snapshot(&mut self, snapshot: &Snapshot, hard_state: HardState) -> Result<(), wal::Error> {
        let file = SnapFile {
            id: snapshot.id,
            conf_state: snapshot.conf_state.clone(),
            data: snapshot.data.clone(),
        };
        let begun = Instant::now();
        snap::save(&*self.vfs, &self.snap_dir, &file)?;
        self.metrics.disk.log.snap_save.observe(begun.elapsed().as_secs_f64());
        // A log vouches for a snapshot only as far as it is committed.
        assert!(hard_state.commit >= snapshot.id.index, "what is applied is committed");
        let conf_state = Some(snapshot.conf_state.clone());
        self.wal.save_snapshot(&SnapshotRecord { id: snapshot.id, conf_state })?;
        let index = snapshot.id.index;
        tracing::info!(snapshot_index = index.0, "saved snapshot to disk");
        self.wal.release_to(index);
        self.wal.purge(self.keep.1)?;
        snap::purge(&*self.vfs, &self.snap_dir, self.keep.0);
        self.tell(CoreInput::Snapshotted(index));
        Ok(())
    }

    fn tell(&self, input: CoreInput) {
        if self.core.send(input).is_err() {
            tracing::debug!("the core is gone");
        }
    }
}
