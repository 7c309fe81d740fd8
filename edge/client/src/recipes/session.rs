//! A session: a lease that is kept alive as long as its owner lives.
//!
//! Source: etcd v3.7.1 client/v3/concurrency/session.go.

use crate::call::Client;
use crate::error::Error;
use proto::etcdserverpb as pb;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The default TTL of a session's lease in seconds.
const TTL_S: i64 = 60;

/// A lease that is kept alive until the session is closed or dropped. The lease of a dropped
/// session expires, which deletes its keys.
#[derive(Debug)]
pub struct Session {
    client: Client,
    lease: i64,
    /// Keeps the lease alive.
    task: JoinHandle<()>,
    /// Its sender lives in the task.
    alive: watch::Receiver<()>,
}

impl Session {
    /// A session with a new lease, which expires 60 s after the session is dropped.
    ///
    /// # Errors
    /// When the lease is not granted.
    pub async fn new(client: &Client) -> Result<Session, Error> {
        Session::with_ttl(client, TTL_S).await
    }

    /// A session with a new lease of this TTL in seconds.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn with_ttl(client: &Client, ttl_s: i64) -> Result<Session, Error> {
        let granted = client.lease_grant(pb::LeaseGrantRequest { ttl: ttl_s, id: 0 }).await?;
        Ok(Session::with_lease(client, granted.id))
    }

    /// A session with an existing lease.
    #[must_use]
    pub fn with_lease(client: &Client, lease: i64) -> Session {
        let mut confirmations = client.keep_alive(lease);
        let (sender, alive) = watch::channel(());
        let task = tokio::spawn(async move {
            while let Ok(Some(_)) = confirmations.next().await {}
            drop(sender);
        });
        Session { client: client.clone(), lease, task, alive }
    }

    /// The client of the session.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The id of the lease.
    #[must_use]
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Waits until the lease is no longer kept alive: it has expired or was revoked, or no server
    /// could be reached for its TTL.
    pub async fn done(&self) {
        // Nothing is ever sent. The error means that the task has ended.
        _ = self.alive.clone().changed().await;
    }

    /// Ends the session and revokes its lease, which deletes the attached keys.
    ///
    /// # Errors
    /// When the lease cannot be revoked. It then expires.
    pub async fn close(self) -> Result<(), Error> {
        self.task.abort();
        self.client.lease_revoke(pb::LeaseRevokeRequest { id: self.lease }).await.map(|_| ())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}
