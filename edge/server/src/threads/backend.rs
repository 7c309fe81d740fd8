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
        let is_open = shared.queues.backend.drain(&mut inputs, deadline);
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
    let (begun, mut out) = (Instant::now(), Vec::new());
    writer
        .commit(started.elapsed(), &mut out)
        .map_err(|error| format!("the database cannot be written: {error}"))?;
    shared.metrics.disk.backend.commit.observe(begun.elapsed().as_secs_f64());
    router.route(&mut out);
    Ok(())
}
