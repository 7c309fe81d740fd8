//! The thread that applies entries, publishes moments and does housekeeping.

use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::threads::route::Router;
use executor::{Applier, ApplyInput, Envelope};
use proto::Op;
use state::Executed;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Housekeeping takes at most one part in this many of the thread's time.
const SLICE_SHARE: u32 = 5;

/// The options of the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApplyOptions {
    /// The length of a tick.
    pub(crate) tick: Duration,
    /// The time between two slices of housekeeping.
    pub(crate) slice_interval: Duration,
    /// Applying a batch that takes longer is logged.
    pub(crate) slow_apply: Duration,
}

/// Housekeeping between rounds.
#[derive(Debug, Default)]
struct Slices {
    /// The earliest time of the next slice.
    next: Option<Instant>,
    /// When the first slice of the current compaction ran.
    compaction_begun: Option<Instant>,
    /// The number of counted compactions.
    compactions: u64,
}

/// The loop's parts.
struct Loop {
    applier: Applier,
    shared: Arc<Shared>,
    options: ApplyOptions,
    started: Instant,
    router: Router,
    out: Vec<Envelope>,
    slices: Slices,
}

/// Measures how long each request of a batch takes.
struct ApplyTimer<'a> {
    metrics: &'a Metrics,
    /// A request that takes longer is counted as slow.
    slow: Duration,
    /// When the request before ended.
    last: Instant,
}

impl ApplyTimer<'_> {
    fn ended(&mut self, executed: Executed) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.last, now);
        let Executed { op, succeeded } = executed;
        self.metrics.requests.apply.observe(op, succeeded, took.as_secs_f64());
        // A range through the log, of an older etcd, is timed as one from a view, too.
        if op == Op::Range {
            self.metrics.requests.range.observe(op, succeeded, took.as_secs_f64());
        }
        if took > self.slow {
            self.metrics.raft.apply.slow.inc();
        }
    }
}

/// Works until its queue is closed or the member cannot continue.
///
/// # Errors
/// When it cannot continue.
pub(crate) fn run(
    applier: Applier,
    shared: &Arc<Shared>,
    options: ApplyOptions,
) -> Result<(), String> {
    let (shared, started) = (Arc::clone(shared), Instant::now());
    let (router, out) = (Router::new(Arc::clone(&shared)), Vec::new());
    let slices = Slices::default();
    Loop { applier, shared, options, started, router, out, slices }.run()
}

impl Loop {
    fn run(mut self) -> Result<(), String> {
        let mut inputs = VecDeque::new();
        let mut next_tick = Instant::now();
        loop {
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + self.options.tick;
                self.take(ApplyInput::Tick)?;
            }
            let slice = self.slices.next.filter(|_| self.applier.has_housekeeping());
            let deadline = slice.map_or(next_tick, |slice| slice.min(next_tick));
            if !self.shared.queues.apply.drain(&mut inputs, Some(deadline)) {
                return Ok(());
            }
            for input in inputs.drain(..) {
                self.take(input)?;
                self.apply()?;
            }
            self.housekeep()?;
            self.router.send_mail();
        }
    }

    fn take(&mut self, input: ApplyInput) -> Result<(), String> {
        let now = self.started.elapsed();
        let restoring = &self.shared.metrics.raft.apply.snapshots_in_progress;
        let is_restored = matches!(input, ApplyInput::DatabaseReplaced(_));
        if let ApplyInput::Restore(_) = input {
            restoring.set(1);
        }
        let taken = self.applier.take(now, input, &mut self.out);
        if is_restored {
            restoring.set(0);
        }
        self.router.route(&mut self.out);
        taken.map_err(|fatal| fatal.to_string())
    }

    /// Applies committed entries, as far as there is room.
    fn apply(&mut self) -> Result<(), String> {
        while self.applier.can_apply() {
            let begun = Instant::now();
            let mut timer = ApplyTimer {
                metrics: &self.shared.metrics,
                slow: self.options.slow_apply,
                last: begun,
            };
            let applied = self.applier.apply_next_observed(
                self.started.elapsed(),
                &mut |executed| timer.ended(executed),
                &mut self.out,
            );
            self.router.route(&mut self.out);
            let Some(applied) = applied.map_err(|fatal| fatal.to_string())? else { return Ok(()) };
            let took = begun.elapsed();
            if took > self.options.slow_apply {
                let expected = self.options.slow_apply;
                tracing::warn!(
                    ?took,
                    "expected-duration" = ?expected,
                    entries = applied.entries,
                    "apply request took too long"
                );
            }
        }
        Ok(())
    }

    fn housekeep(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let is_due = self.slices.next.is_none_or(|next| begun >= next);
        if !is_due || !self.applier.has_housekeeping() {
            return Ok(());
        }
        let done = self.applier.housekeep(self.started.elapsed(), &mut self.out);
        self.router.route(&mut self.out);
        done.map_err(|fatal| fatal.to_string())?;
        let took = begun.elapsed();
        self.slices.next = Some(begun + self.options.slice_interval.max(took * SLICE_SHARE));
        self.count_slice(begun, took);
        Ok(())
    }

    /// Counts a slice of a compaction, and the compaction if it is done.
    fn count_slice(&mut self, slice_begun: Instant, took: Duration) {
        let metrics = &self.shared.metrics.store.compaction;
        metrics.pause_ms.observe(took.as_secs_f64() * 1e3);
        let begun = *self.slices.compaction_begun.get_or_insert(slice_begun);
        let totals = self.applier.moment().published.totals;
        Metrics::raise(&metrics.keys, totals.dropped);
        if totals.compactions > self.slices.compactions {
            self.slices.compactions = totals.compactions;
            self.slices.compaction_begun = None;
            metrics.total_ms.observe(begun.elapsed().as_secs_f64() * 1e3);
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Whole seconds, as etcd's.
            metrics.last.set(Duration::from_secs(unix.as_secs()).as_secs_f64());
        }
    }
}
