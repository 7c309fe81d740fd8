//! A lock that at most one session has.
//!
//! Source: etcd v3.7.1 client/v3/concurrency/mutex.go.

use super::place::{Place, by_creation, found, one, revision};
use super::session::Session;
use crate::error::{Contention, Error};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::SortOrder;
use proto::etcdserverpb::request_op::Request;

/// A lock by its name. Sessions get it in the order in which they asked for it.
///
/// A lock protects only as long as the lease of its session lives. A write that must not happen
/// without the lock belongs into a transaction with [`Mutex::is_held`] among its comparisons.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::{Mutex, Session};
///
/// let session = Session::with_ttl(&client, 10).await?;
/// let mut mutex = Mutex::new(&session, "jobs/nightly");
/// mutex.lock().await?;
/// // One at a time.
/// mutex.unlock().await?;
/// session.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Mutex<'a> {
    session: &'a Session,
    prefix: Vec<u8>,
    /// The session's key in the queue, once it has entered.
    place: Option<Place>,
    /// The revision at which the lock was acquired.
    acquired: i64,
}

impl<'a> Mutex<'a> {
    /// The lock of this name.
    pub fn new(session: &'a Session, name: impl AsRef<[u8]>) -> Mutex<'a> {
        let prefix = [name.as_ref(), b"/"].concat();
        Mutex { session, prefix, place: None, acquired: 0 }
    }

    /// Waits for the lock. If the future is dropped before it is done, the session keeps its place
    /// in the queue until [`Mutex::unlock`].
    ///
    /// # Errors
    /// When a request fails, or the lease of the session has expired meanwhile.
    pub async fn lock(&mut self) -> Result<(), Error> {
        let Some(created) = self.enter().await? else { return Ok(()) };
        let place = Place { key: Place::key(self.session, &self.prefix), created };
        match self.wait(&place).await {
            Ok(revision) => {
                self.acquired = revision;
                Ok(())
            }
            Err(error) => {
                // Reports the error of the wait. If this request fails too, the key is deleted
                // with its lease.
                _ = self.unlock().await;
                Err(error)
            }
        }
    }

    async fn wait(&self, place: &Place) -> Result<i64, Error> {
        let client = self.session.client();
        place.is_first(client, &self.prefix).await?;
        let own = client.range(one(&place.key)).await?;
        if own.kvs.is_empty() {
            Err(Contention::SessionExpired.into())
        } else {
            Ok(revision(own.header.as_ref()))
        }
    }

    /// Takes the lock if no other session has it.
    ///
    /// # Errors
    /// [`Contention::Locked`] if another session has it, and when a request fails.
    pub async fn try_lock(&mut self) -> Result<(), Error> {
        if self.enter().await?.is_none() {
            return Ok(());
        }
        self.unlock().await?;
        Err(Contention::Locked.into())
    }

    /// Enters the queue. Returns `None` if the session is first, so that it has the lock; otherwise
    /// the revision at which its key was created.
    async fn enter(&mut self) -> Result<Option<i64>, Error> {
        let owner = Request::RequestRange(by_creation(&self.prefix, SortOrder::Ascend));
        let (place, response) = Place::enter(self.session, &self.prefix, b"", &[owner]).await?;
        let created = place.created;
        self.place = Some(place);
        if found(&response, 1).is_none_or(|owner| owner.create_revision == created) {
            self.acquired = revision(response.header.as_ref());
            return Ok(None);
        }
        Ok(Some(created))
    }

    /// Releases the lock to the next session in the queue, or leaves the queue.
    ///
    /// # Errors
    /// When the mutex is not locked, or the request fails.
    pub async fn unlock(&mut self) -> Result<(), Error> {
        let Some(place) = &self.place else { return Err(Contention::NotLocked.into()) };
        let key = place.key.clone().into();
        let request = pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() };
        self.session.client().delete_range(request).await?;
        self.place = None;
        Ok(())
    }

    /// A comparison for transactions: true if the key of the session still exists. `None` before
    /// [`Mutex::lock`].
    #[must_use]
    pub fn is_held(&self) -> Option<pb::Compare> {
        self.place.as_ref().map(Place::is_held)
    }

    /// The key of the session; empty before [`Mutex::lock`].
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.place.as_ref().map_or(&[], |place| place.key.as_slice())
    }

    /// The revision at which the lock was acquired.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.acquired
    }
}
