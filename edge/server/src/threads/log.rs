//! The thread of the log. It writes to the real disk and measures how long that takes.

use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::threads::route::Router;
use executor::{LogStep, LogWriter};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Works until its queue is closed or the disk fails.
///
/// # Errors
/// When the disk fails.
pub(crate) fn run(mut writer: LogWriter, shared: &Arc<Shared>) -> Result<(), String> {
    let failed = |error: wal::Error| format!("the log cannot be written: {error}");
    let mut router = Router::new(Arc::clone(shared));
    let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
    let mut encoding = Duration::ZERO;
    while shared.queues.log.drain(&mut inputs, None) {
        for input in inputs.drain(..) {
            writer.take(input);
        }
        while writer.has_work() {
            let begun = Instant::now();
            if let Some(step) = writer.step(&mut out).map_err(failed)? {
                let took = begun.elapsed();
                if step == LogStep::EncodeSnapshot {
                    encoding = took;
                }
                observe(&shared.metrics, &writer, step, (took, encoding));
            }
            router.route(&mut out);
        }
    }
    if let Err(error) = writer.close() {
        tracing::warn!(%error, "the log was not closed cleanly");
    }
    Ok(())
}

/// Records a step that `took` this long. `encoding` is the time of the last encoding of a snapshot.
fn observe(
    metrics: &Metrics,
    writer: &LogWriter,
    step: LogStep,
    (took, encoding): (Duration, Duration),
) {
    let metrics = &metrics.disk.log;
    match step {
        LogStep::Write => {
            metrics.write.observe(took.as_secs_f64());
            let written = i64::try_from(writer.wal().written_bytes()).unwrap_or(i64::MAX);
            metrics.written_bytes.set(written);
        }
        LogStep::Sync => metrics.fsync.observe(took.as_secs_f64()),
        LogStep::EncodeSnapshot => metrics.snap_marshal.observe(took.as_secs_f64()),
        LogStep::SaveSnapshot => {
            metrics.snap_fsync.observe(took.as_secs_f64());
            metrics.snap_save.observe((encoding + took).as_secs_f64());
        }
        LogStep::Read => metrics.reads.inc(),
        LogStep::Tend | LogStep::SkipSnapshot | LogStep::RecordSnapshot | LogStep::Purge => {}
    }
}
