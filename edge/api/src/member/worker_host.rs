//! A worker's handle as the services see it.

use super::errors::{denied_status, status_of};
use auth::{AuthStore, Caller, Guarded, Permitted};
use mvcc::View;
use rpc::Status;
use server::Worker;
use state::{LeaseQuery, Question, Reply};
use std::sync::Arc;

/// A worker as the services' host.
#[derive(Clone, Debug)]
pub struct WorkerHost {
    pub(super) worker: Worker,
    /// The size that one message of a streamed range aims at, in bytes.
    pub(super) chunk_bytes: usize,
}

impl WorkerHost {
    /// The services' host for `worker`.
    #[must_use]
    pub fn new(worker: Worker) -> WorkerHost {
        let chunk_bytes = worker.limits().request_bytes_max;
        WorkerHost { worker, chunk_bytes }
    }

    /// Asks the replicated auth store whether the caller may do this. Callers have no user yet:
    /// tokens are not built.
    pub(super) fn permit<R: Guarded>(&self, request: R) -> Result<Permitted<R>, Status> {
        self.auth().permit(&Caller::default(), request).map_err(denied_status)
    }

    pub(super) fn auth(&self) -> Arc<AuthStore> {
        Arc::clone(&self.worker.moment().published.auth)
    }

    pub(super) async fn view(&self, serializable: bool) -> Result<View, Status> {
        if serializable {
            return Ok(self.worker.view());
        }
        self.worker.linearizable_view().await.map_err(status_of)
    }

    pub(super) async fn ask(&self, query: LeaseQuery) -> Result<Reply, Status> {
        let question = Question { caller: Caller::default(), query };
        self.worker.ask(question).await.map_err(status_of)
    }
}
