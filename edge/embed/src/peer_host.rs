//! Answers the requests of other members at the peer port, besides raft: leases and promotions,
//! which only the leader can answer, hashes, and whether a downgrade is under way.
//!
//! A worker does the work, as it does for clients.
//!
//! Source: etcd v3.7 server/etcdserver/api/etcdhttp/peer.go, server/lease/leasehttp/http.go,
//! server/etcdserver/{corrupt,server}.go.

use crate::status::PeerPort;
use cluster::{InvalidChange, UnsafeChange, members_json};
use peer::{HostRefusal, PeerHost};
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use proto::{LeaseId, NodeId};
use server::{Error, Worker};
use state::Reject;
use std::sync::Arc;
use wire::HashKvAnswer;

/// The leader has not applied the committed entries in time to answer a request about a lease.
const NOT_APPLIED: &str = "waiting for node to catch up its applied index has timed out";

fn refusal(status: u16, text: impl ToString) -> HostRefusal {
    HostRefusal { status, text: text.to_string() }
}

/// The refusal of a promotion.
fn promotion_refusal(error: &Error) -> HostRefusal {
    if let Error::Rejected(Reject::MemberNotFound) = error {
        refusal(404, InvalidChange::IdNotFound)
    } else if let Error::Rejected(Reject::NotLearner) = error {
        refusal(412, InvalidChange::NotLearner)
    } else if let Error::Unsafe(error @ UnsafeChange::LearnerNotReady) = error {
        refusal(412, error)
    } else {
        refusal(500, error)
    }
}

/// The refusal of a question about a lease; `not_primary` is the status if this member does not lead.
fn lease_refusal(error: &Error, not_primary: u16) -> HostRefusal {
    if let Error::Rejected(Reject::LeaseNotFound) = error {
        refusal(404, "lease not found")
    } else if let Error::NotApplied = error {
        refusal(408, NOT_APPLIED)
    } else {
        refusal(if *error == Error::NotPrimary { not_primary } else { 400 }, error)
    }
}

impl PeerPort {
    /// Has a worker do some work.
    pub(crate) async fn on_worker<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Worker) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let handle = self.status.handle().ok_or(Error::NoLeader)?;
        handle.on_worker(work).await?
    }
}

impl PeerHost for PeerPort {
    async fn promote(&self, id: NodeId, token: Option<String>) -> Result<String, HostRefusal> {
        let authenticator = Arc::clone(&self.authenticator);
        let promoted = self.on_worker(move |worker| async move {
            let permitted = api::permit_admin(&worker, authenticator, token.as_deref()).await;
            if let Err(status) = permitted {
                return Ok(Err(refusal(500, status.message)));
            }
            let promoted = worker.promote_member(id, token).await;
            Ok(promoted.map_err(|error| promotion_refusal(&error)))
        });
        let promoted = promoted.await.unwrap_or_else(|error| Err(promotion_refusal(&error)));
        let members = promoted.inspect_err(|refused| {
            let error = &refused.text;
            tracing::warn!("member-id" = format!("{id:x}"), error, "failed to promote a member");
        })?;
        Ok(members_json(members.iter()))
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvAnswer, HostRefusal> {
        let hash = self.on_worker(move |worker| async move {
            let hash = api::hash_kv(&worker, revision).await;
            hash.map_err(|status| Error::Store(status.message.into_owned()))
        });
        let hash = hash.await.map_err(|error| {
            let text = error.to_string();
            tracing::warn!("requested-revision" = revision, error = text, "failed to get hashKV");
            refusal(400, text.strip_prefix("etcdserver: ").unwrap_or(&text))
        })?;
        let current = hash.header.map_or(0, |header| header.revision);
        Ok(HashKvAnswer::new(current, hash.hash, hash.compact_revision, hash.hash_revision))
    }

    async fn renew_lease(&self, lease: LeaseId) -> Result<i64, HostRefusal> {
        let renewed =
            self.on_worker(move |worker| async move { worker.renew_lease_here(None, lease).await });
        renewed.await.map_err(|error| lease_refusal(&error, 400))
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, HostRefusal> {
        let found = self.on_worker(move |worker| async move {
            worker.lease_time_to_live_here(None, request).await
        });
        let found = found.await.map_err(|error| lease_refusal(&error, 500))?;
        // etcd sends an empty header.
        Ok(LeaseTimeToLiveResponse { header: Some(Default::default()), ..found })
    }

    async fn downgrade_enabled(&self) -> Result<bool, HostRefusal> {
        let enabled = self.on_worker(|worker| async move {
            worker.linearizable_view().await?;
            Ok(worker.moment().published.cluster.downgrade().enabled)
        });
        enabled.await.map_err(|error| {
            let status = api::status_of(error);
            refusal(500, format_args!("failed linearized read: {}", status.message))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_status_and_text_of_etcd() {
        let promotion = |error| promotion_refusal(&error);
        for (found, status, text) in [
            (promotion(Error::Rejected(Reject::MemberNotFound)), 404, "membership: ID not found"),
            (
                promotion(Error::Rejected(Reject::NotLearner)),
                412,
                "membership: can only promote a learner member",
            ),
            (
                promotion(Error::Unsafe(UnsafeChange::LearnerNotReady)),
                412,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (
                promotion(Error::Unsafe(UnsafeChange::NotEnoughStarted)),
                500,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            (lease_refusal(&Error::Rejected(Reject::LeaseNotFound), 400), 404, "lease not found"),
            (lease_refusal(&Error::NotApplied, 400), 408, NOT_APPLIED),
            (lease_refusal(&Error::NotPrimary, 400), 400, "not a primary lessor"),
            (lease_refusal(&Error::NotPrimary, 500), 500, "not a primary lessor"),
        ] {
            assert_eq!(found, refusal(status, text));
        }
    }
}
