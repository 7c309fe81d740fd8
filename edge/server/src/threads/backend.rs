//! The thread of the database file.

use crate::shared::Shared;
use crate::threads::route::Router;
use executor::BackendWriter;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Works until its queue is closed or the disk fails. When it ends without an error, all applied
/// entries are in the file.
///
/// # Errors
/// When the disk fails.
pub(crate) fn run(mut writer: BackendWriter, shared: &Arc<Shared>) -> Result<(), String> {
    let mut router = Router::new(Arc::clone(shared));
    let started = Instant::now();
    let mut inputs = VecDeque::new();
    loop {
        let deadline = writer.next_commit(started.elapsed()).map(|due| started + due);
        let wake = writer.wake_for();
        let is_open = shared.queues.backend.drain_woken_by(wake, &mut inputs, deadline);
        while let Some(input) = inputs.pop_front() {
            writer.take(started.elapsed(), input);
            if writer.is_full() {
                commit(&mut writer, shared, &mut router, started)?;
            }
        }
        let due = writer.next_commit(started.elapsed());
        if due.is_some_and(|due| due <= started.elapsed()) || (!is_open && writer.has_batches()) {
            commit(&mut writer, shared, &mut router, started)?;
        }
        if !is_open {
            return Ok(());
        }
    }
}

fn commit(
    writer: &mut BackendWriter,
    shared: &Shared,
    router: &mut Router,
    started: Instant,
) -> Result<(), String> {
    let metrics = &shared.metrics.disk.backend;
    let (begun, mut out) = (Instant::now(), Vec::new());
    let mut writing = None;
    writer
        .commit_observed(started.elapsed(), &mut || writing = Some(Instant::now()), &mut out)
        .map_err(|error| format!("the database cannot be written: {error}"))?;
    metrics.commit.observe(begun.elapsed().as_secs_f64());
    if let Some(writing) = writing {
        metrics.spill.observe((writing - begun).as_secs_f64());
        metrics.write.observe(writing.elapsed().as_secs_f64());
    }
    metrics.open_views.set(i64::try_from(writer.backend().open_views()).unwrap_or(i64::MAX));
    router.route(&mut out);
    Ok(())
}
