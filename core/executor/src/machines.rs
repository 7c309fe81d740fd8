//! Creates the four machines of a booted member.

use crate::applier::Applier;
use crate::auto_compaction::AutoCompaction;
use crate::backend_writer::{BackendWriter, CommitPace};
use crate::boot::Booted;
use crate::consensus::Consensus;
use crate::ids::RequestIds;
use crate::log_writer::{LogWriter, Retention};
use crate::received::DatabasePlace;
use std::sync::Arc;
use std::time::Duration;
use vfs::Vfs;

/// The options of the machines.
#[derive(Clone, Copy, Debug)]
pub struct MachineOptions {
    /// The automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// How long applied batches are gathered before they are committed to the database.
    pub batch_interval: Duration,
    /// The maximum number of gathered batches.
    pub batch_limit: usize,
    /// How many entries before a snapshot stay in memory.
    pub catch_up_entries: u64,
    /// How many `.snap` files are kept; 0 keeps all.
    pub snapshots_max: usize,
    /// How many segments of the WAL are kept; 0 keeps all.
    pub segments_max: usize,
    /// The request ids of this process.
    pub ids: RequestIds,
    /// The lane of the ids for the applier's own proposals.
    pub own_lane: usize,
    /// The lane of the ids for the contexts of read-index requests.
    pub contexts_lane: usize,
}

/// The four machines of a member.
#[derive(Debug)]
pub struct Machines {
    /// Drives `member`.
    pub consensus: Consensus,
    /// Drives `state`.
    pub applier: Applier,
    /// Owns the log on disk.
    pub log_writer: LogWriter,
    /// Owns the database file.
    pub backend_writer: BackendWriter,
}

impl Machines {
    /// The machines of a booted member.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>, booted: Booted, options: &MachineOptions) -> Machines {
        let Booted { member, state, wal, backend, metadata, snap_dir, cache_bytes, .. } = booted;
        let place = DatabasePlace { vfs: Arc::clone(&vfs), dir: snap_dir.clone(), cache_bytes };
        let MachineOptions { batch_interval, batch_limit, ids, own_lane, .. } = *options;
        let pace = CommitPace { interval: batch_interval, batches_max: batch_limit };
        let retention =
            Retention { snapshots_max: options.snapshots_max, segments_max: options.segments_max };
        let own_ids = ids.lane(own_lane);
        Machines {
            consensus: Consensus::new(
                member,
                options.catch_up_entries,
                ids,
                own_lane,
                ids.lane(options.contexts_lane),
            ),
            applier: Applier::new(state, metadata.node, options.auto_compaction, own_ids),
            log_writer: LogWriter::new(vfs, wal, snap_dir, retention),
            backend_writer: BackendWriter::new(backend, place, pace),
        }
    }
}
