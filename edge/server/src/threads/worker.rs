//! The thread of a worker: a runtime of its own, fed by the machines and the acceptors.

use crate::connection::TakeOver;
use crate::mailbox::Taken;
use crate::shared::Shared;
use crate::tasks::Tasks;
use crate::worker::{Limits, Worker};
use std::sync::Arc;
use std::time::Duration;

/// A worker's runtime always has a timer that is due within this time. Without it, nearly each request
/// of a single client would set the timer that is due first, and tokio wakes the thread for that: a
/// system call and a turn of the loop.
const TIMER_WITHIN: Duration = Duration::from_secs(1);

/// Serves the connections of a worker. Called once on each worker's thread, inside its runtime.
pub trait Connections: Send + Sync + 'static {
    /// Returns a function that takes over a connection. That function must return at once.
    fn open(&self, worker: Worker) -> TakeOver;
}

/// Works until it is told to stop.
///
/// # Errors
/// When the runtime cannot be created.
pub(crate) fn run(
    index: usize,
    shared: &Arc<Shared>,
    limits: Limits,
    (connections, tasks): (&dyn Connections, Tasks),
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a worker's runtime: {error}"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let worker = Worker::new(index, Arc::clone(shared), limits);
        let open = connections.open(worker.clone());
        tokio::task::spawn_local(tasks.start_all(worker.clone()));
        tokio::task::spawn_local(async {
            loop {
                tokio::time::sleep(TIMER_WITHIN).await;
            }
        });
        loop {
            let Taken { mut mail, connections, stopped } =
                shared.workers[index].mailbox.take().await;
            worker.deliver(&mut mail);
            if !mail.events.is_empty() {
                worker.on_events(mail.events.into_batches().as_deref());
            }
            for connection in connections {
                open(connection);
            }
            if stopped {
                return Ok(());
            }
        }
    })
}
