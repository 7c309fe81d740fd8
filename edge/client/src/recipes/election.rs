//! An election: at most one session is the leader.
//!
//! Source: etcd v3.7.1 client/v3/concurrency/election.go.

use super::place::{Place, by_creation, found, one, revision};
use super::session::Session;
use crate::call::Client;
use crate::error::{Contention, Error};
use crate::range::prefix_end;
use crate::watch::{WatchUpdate, Watcher};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::SortOrder;
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use std::collections::VecDeque;

/// An election by its name. Sessions lead in the order in which they campaigned.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::{Election, Session};
///
/// let session = Session::new(&client).await?;
/// let mut election = Election::new(&session, "scheduler");
/// election.campaign("10.0.0.7").await?;
/// // This session leads until its lease ends.
/// election.proclaim("10.0.0.8").await?;
/// election.resign().await
/// # }
/// ```
#[derive(Debug)]
pub struct Election<'a> {
    session: &'a Session,
    prefix: Vec<u8>,
    /// The session's key, once it has entered.
    place: Option<Place>,
}

impl<'a> Election<'a> {
    /// The election of this name.
    pub fn new(session: &'a Session, name: impl AsRef<[u8]>) -> Election<'a> {
        Election { session, prefix: [name.as_ref(), b"/"].concat(), place: None }
    }

    /// Enters with a value and waits until the session leads. If the future is dropped before it is
    /// done, the session keeps its place until [`Election::resign`].
    ///
    /// # Errors
    /// When a request fails.
    pub async fn campaign(&mut self, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let value = value.as_ref();
        let (place, response) = Place::enter(self.session, &self.prefix, value, &[]).await?;
        self.place = Some(place.clone());
        // The session campaigned before, with another value.
        if found(&response, 0).is_some_and(|own| own.value != value)
            && let Err(error) = self.proclaim(value).await
        {
            // Reports the first error. If this request fails too, the key is deleted with its
            // lease.
            _ = self.resign().await;
            return Err(error);
        }
        place.is_first(self.session.client(), &self.prefix).await
    }

    /// Changes the leader's value.
    ///
    /// # Errors
    /// [`Contention::NotLeader`] if the key is gone or belongs to another lease, and when the
    /// request fails.
    pub async fn proclaim(&mut self, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let Some(place) = &self.place else { return Err(Contention::NotLeader.into()) };
        let put = pb::PutRequest {
            key: place.key.clone().into(),
            value: value.as_ref().to_vec().into(),
            lease: self.session.lease(),
            ..pb::PutRequest::default()
        };
        if self.if_held(place, Request::RequestPut(put)).await? {
            return Ok(());
        }
        self.place = None;
        Err(Contention::NotLeader.into())
    }

    /// Leaves the election: the next session leads. Does nothing before [`Election::campaign`].
    ///
    /// # Errors
    /// When the request fails.
    pub async fn resign(&mut self) -> Result<(), Error> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let key = place.key.clone().into();
        let delete = pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() };
        self.if_held(&place, Request::RequestDeleteRange(delete)).await.map(|_| ())
    }

    /// Executes a request if the session's key has not been deleted. Returns whether it was
    /// executed.
    async fn if_held(&self, place: &Place, request: Request) -> Result<bool, Error> {
        let request = pb::TxnRequest {
            compare: vec![place.is_held()],
            success: vec![pb::RequestOp { request: Some(request) }],
            failure: Vec::new(),
        };
        Ok(self.session.client().txn(request).await?.succeeded)
    }

    /// The key of the leader and its value.
    ///
    /// # Errors
    /// [`Contention::NoLeader`] if there is none, and when the request fails.
    pub async fn leader(&self) -> Result<pb::RangeResponse, Error> {
        let first = by_creation(&self.prefix, SortOrder::Ascend);
        let response = self.session.client().range(first).await?;
        if response.kvs.is_empty() { Err(Contention::NoLeader.into()) } else { Ok(response) }
    }

    /// Follows the leaders.
    #[must_use]
    pub fn observe(&self) -> Observer {
        Observer {
            client: self.session.client().clone(),
            prefix: self.prefix.clone(),
            followed: None,
            pending: VecDeque::new(),
        }
    }

    /// The key of the session; empty before [`Election::campaign`].
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.place.as_ref().map_or(&[], |place| place.key.as_slice())
    }

    /// The key and its value, as they are stored.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn stored(&self) -> Result<pb::RangeResponse, Error> {
        self.session.client().range(one(self.key())).await
    }
}

/// The values of the leaders, one after the other. A value that is soon replaced may be left out,
/// but never the last one.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    prefix: Vec<u8>,
    /// The changes of the leader's key; `None` while there is no leader.
    followed: Option<Watcher>,
    /// Values that were received and not returned yet.
    pending: VecDeque<pb::RangeResponse>,
}

impl Observer {
    /// Waits for the next value: the key of the leader and its header.
    ///
    /// # Errors
    /// When a request fails or the watch is cancelled. A later call begins with the current leader.
    pub async fn next(&mut self) -> Result<pb::RangeResponse, Error> {
        loop {
            if let Some(value) = self.pending.pop_front() {
                return Ok(value);
            }
            let Some(followed) = &mut self.followed else {
                self.find_leader().await?;
                continue;
            };
            let update = followed.next().await;
            let Some(WatchUpdate { response, error: None }) = update else {
                self.followed = None;
                match update.and_then(|update| update.error) {
                    Some(error) if error.message() != COMPACTED => return Err(error),
                    _ => continue,
                }
            };
            for event in response.events {
                if event.r#type() == EventType::Delete {
                    self.followed = None;
                    break;
                }
                self.pending.extend(event.kv.map(|kv| answer(response.header, kv)));
            }
        }
    }

    /// Waits until there is a leader, and begins to follow it.
    async fn find_leader(&mut self) -> Result<(), Error> {
        let found = self.client.range(by_creation(&self.prefix, SortOrder::Ascend)).await?;
        let at = revision(found.header.as_ref());
        let value = match found.kvs.into_iter().next() {
            Some(kv) => answer(found.header, kv),
            None => match self.first_put(at + 1).await? {
                Some(value) => value,
                None => return Ok(()),
            },
        };
        let request = pb::WatchCreateRequest {
            key: value.kvs[0].key.clone(),
            start_revision: revision(value.header.as_ref()) + 1,
            ..pb::WatchCreateRequest::default()
        };
        self.followed = Some(self.client.watch(request).await);
        self.pending.push_back(value);
        Ok(())
    }

    /// The first put of any contender since a revision; `None` if the history is compacted.
    async fn first_put(&self, start_revision: i64) -> Result<Option<pb::RangeResponse>, Error> {
        let request = pb::WatchCreateRequest {
            key: self.prefix.clone().into(),
            range_end: prefix_end(&self.prefix).into(),
            start_revision,
            ..pb::WatchCreateRequest::default()
        };
        let mut changes = self.client.watch(request).await;
        while let Some(WatchUpdate { response, error }) = changes.next().await {
            match error {
                Some(error) if error.message() == COMPACTED => break,
                Some(error) => return Err(error),
                None => {}
            }
            let mut events = response.events.into_iter();
            let put = events.find(|event| event.r#type() == EventType::Put);
            if let Some(kv) = put.and_then(|put| put.kv) {
                let mut value = answer(response.header, kv);
                // The response may contain later revisions.
                if let Some(header) = &mut value.header {
                    header.revision = value.kvs[0].mod_revision;
                }
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

fn answer(header: Option<pb::ResponseHeader>, kv: KeyValue) -> pb::RangeResponse {
    pb::RangeResponse { header, kvs: vec![kv], ..pb::RangeResponse::default() }
}
