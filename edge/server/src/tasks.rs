//! Tasks that other threads give to a worker, because only a worker can propose and query.

use crate::error::Error;
use crate::worker::Worker;
use std::fmt;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};

/// How many tasks may wait for a worker. They come from the peer port, which serves as many
/// connections.
const TASKS_MAX: usize = 256;

type Task = Box<dyn FnOnce(Worker) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The sending end of a worker's queue of tasks.
#[derive(Clone)]
pub(crate) struct TaskSender(mpsc::Sender<Task>);

/// The receiving end of a worker's queue of tasks.
pub(crate) struct Tasks(mpsc::Receiver<Task>);

impl fmt::Debug for TaskSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskSender")
    }
}

/// The two ends of a worker's queue of tasks.
pub(crate) fn queue() -> (TaskSender, Tasks) {
    let (to, from) = mpsc::channel(TASKS_MAX);
    (TaskSender(to), Tasks(from))
}

impl TaskSender {
    /// Runs a task on the worker's thread, and returns its result. If this future is dropped, so is
    /// the task.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] if too many wait, [`Error::Stopped`] if the worker ends.
    pub(crate) async fn run<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Worker) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut to, result) = oneshot::channel();
        let task: Task = Box::new(move |worker| {
            Box::pin(async move {
                tokio::select! {
                    done = work(worker) => if to.send(done).is_err() {
                        tracing::debug!("a task ended after its caller");
                    },
                    () = to.closed() => {}
                }
            })
        });
        self.0.try_send(task).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        result.await.map_err(|_| Error::Stopped)
    }
}

impl Tasks {
    /// Starts one task after the other. Must run inside a `LocalSet`.
    pub(crate) async fn start_all(mut self, worker: Worker) {
        while let Some(task) = self.0.recv().await {
            tokio::task::spawn_local(task(worker.clone()));
        }
    }
}
