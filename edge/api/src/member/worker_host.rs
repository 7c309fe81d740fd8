//! A worker's handle as the services see it.

use super::credentials::{Authenticator, Credentials};
use super::errors::status_of;
use auth::AuthStore;
use mvcc::View;
use rpc::Status;
use server::Worker;
use state::{LeaseQuery, Question, Reply};
use std::sync::Arc;

/// A worker as the host of one client's calls.
#[derive(Clone, Debug)]
pub struct WorkerHost {
    pub(super) worker: Worker,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) credentials: Credentials,
    /// The size that one message of a streamed range aims at, in bytes.
    pub(super) chunk_bytes: usize,
}

impl WorkerHost {
    /// The services' host for `worker`, for clients without credentials.
    #[must_use]
    pub fn new(worker: Worker, authenticator: Arc<Authenticator>) -> WorkerHost {
        let chunk_bytes = worker.limits().request_bytes_max;
        let credentials = Credentials::default();
        WorkerHost { worker, authenticator, credentials, chunk_bytes }
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

    /// Counts a request that was refused because its user has too many `requests`, `bytes` of them, or
    /// `watches`.
    pub(super) fn count_over_limit(&self, what: &'static str) {
        self.worker.metrics().security.over_limit.with_label_values(&[what]).inc();
    }

    /// Queries leases with the permissions of the client.
    pub(super) async fn ask(&self, query: LeaseQuery) -> Result<Reply, Status> {
        let caller = Some(self.caller().await?);
        self.worker.ask(Question { caller, query }).await.map_err(status_of)
    }
}
