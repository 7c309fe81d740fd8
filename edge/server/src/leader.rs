//! Operations that involve the leader: finding it, checking whether this member still leads, and
//! requests that only the leader can answer.
//!
//! Source: etcd v3.7 server/etcdserver/v3_server.go (`waitLeader`, `waitAppliedIndex`, `LeaseRenew`,
//! `leaseTimeToLive`), server.go (`ensureLeadership`).

use crate::error::Error;
use crate::forwarding::ForwardingError;
use crate::worker::{LEADER_POLL, Worker};
use auth::Caller;
use cluster::Member;
use executor::ApplyInput;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use proto::{LeaseId, NodeId};
use state::{LeaseQuery, Question, Reject, Reply};
use std::time::Duration;
use tokio::time::Instant;

/// How long a leader may take to apply the committed entries before it answers a lease request.
const APPLY_TIME_MAX: Duration = Duration::from_secs(1);
/// The pause before a request to the leader is repeated. There may be another leader then.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The deadline of a request that may have to be forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn of(worker: &Worker) -> Patience {
        Patience(Instant::now() + worker.limits().request_time_max)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Waits a little before the next attempt.
    ///
    /// # Errors
    /// [`Error::Timeout`] when there is no time left.
    pub(crate) async fn pause(self) -> Result<(), Error> {
        if self.left().is_zero() {
            return Err(Error::Timeout);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        Ok(())
    }
}

/// `Some` if the leader answered that there is no such lease; `None` for any other error.
fn refused(error: &ForwardingError) -> Option<()> {
    if matches!(error, ForwardingError::Refused { status: 404, .. }) {
        return Some(());
    }
    tracing::debug!(%error, "the leader has not answered");
    None
}

/// The leader's answer about a lease; `None` if it does not lead any more.
fn told<T>(reply: Reply, found: impl FnOnce(Reply) -> Option<T>) -> Option<Result<T, Error>> {
    match reply {
        Reply::NotLeader => None,
        Reply::NoLease => Some(Err(Error::Rejected(Reject::LeaseNotFound))),
        Reply::Corrupt => Some(Err(Error::Rejected(Reject::Corrupt))),
        Reply::Denied(denied) => Some(Err(Error::Rejected(Reject::Denied(denied)))),
        reply @ (Reply::KeptAlive { .. } | Reply::TimeToLive { .. } | Reply::Leases(_)) => {
            let mismatch = || Error::Store("the reply does not belong to the question".to_owned());
            Some(found(reply).ok_or_else(mismatch))
        }
    }
}

impl Worker {
    /// True if this member leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.moment().leadership.leader == self.identity().member
    }

    /// The leader, which may be this member.
    ///
    /// # Errors
    /// [`Error::NoLeader`] if none is known before the deadline.
    pub(crate) async fn leader(&self, patience: Patience) -> Result<Member, Error> {
        loop {
            let moment = self.moment();
            let leader = moment.leadership.leader;
            if let Some(leader) = moment.published.cluster.member(leader) {
                return Ok(leader.clone());
            }
            if patience.left().is_zero() {
                return Err(Error::NoLeader);
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// The error of a proposal that was begun at this time and timed out.
    ///
    /// Source: etcd v3.7 server/etcdserver/server.go `parseProposeCtxErr`.
    pub(crate) fn timed_out(&self, begun: std::time::Instant) -> Error {
        if let Some(elected) = self.0.shared.elected()
            && begun < elected
            && begun + 2 * self.limits().election > elected
        {
            return Error::TimeoutLeaderFail;
        }
        let (moment, reach) = (self.moment(), self.reach());
        let leader = moment.leadership.leader;
        let is_connected = |id| reach.is_connected(id, begun.elapsed());
        let is_lost = if leader == NodeId::NONE {
            false
        } else if leader == reach.own {
            let members = || moment.published.cluster.members().map(|member| member.id);
            members().filter(|id| is_connected(*id)).count() < members().count() / 2 + 1
        } else {
            !is_connected(leader)
        };
        if is_lost { Error::TimeoutConnectionLost } else { Error::Timeout }
    }

    /// True if this member leads. If it was suspended, it asks the others first: they may have
    /// elected another leader meanwhile.
    async fn leads_still(&self) -> bool {
        self.0.shared.ticks.is_recent() || self.linearizable_view().await.is_ok() && self.leads()
    }

    /// Waits until this member has applied all committed entries.
    ///
    /// # Errors
    /// [`Error::NotApplied`] if that takes too long.
    pub(crate) async fn apply_committed(&self) -> Result<(), Error> {
        let commit = self.commit();
        if self.moment().published.applied.index >= commit {
            return Ok(());
        }
        let id = self.0.next_id();
        let applied = async {
            let mut waiting = self.0.wait_for(&self.0.waiting.applied, id, 0).await?;
            self.0.shared.ask(ApplyInput::Reads(commit, vec![id]))?;
            (&mut waiting.receiver).await.unwrap_or(Err(Error::Stopped))
        };
        let timed = tokio::time::timeout(APPLY_TIME_MAX, applied).await;
        timed.unwrap_or(Err(Error::NotApplied))
    }

    async fn ask_applied(&self, caller: Option<Caller>, query: LeaseQuery) -> Result<Reply, Error> {
        self.apply_committed().await?;
        self.ask(Question { caller, query }).await
    }

    /// Checks the client's permission at this member, since the leader does not check it for
    /// forwarded requests.
    async fn permit_here(&self, caller: &Caller, query: LeaseQuery) -> Result<(), Error> {
        if !self.moment().published.auth.is_enabled() {
            return Ok(());
        }
        match self.ask_applied(Some(caller.clone()), query).await? {
            Reply::Denied(denied) => Err(Error::Rejected(Reject::Denied(denied))),
            Reply::NotLeader
            | Reply::NoLease
            | Reply::Corrupt
            | Reply::KeptAlive { .. }
            | Reply::TimeToLive { .. }
            | Reply::Leases(_) => Ok(()),
        }
    }

    /// Renews a lease, if this member leads. Returns its TTL in seconds. Without a caller, the
    /// member that forwarded the request has already checked its client's permission.
    ///
    /// # Errors
    /// [`Error::NotPrimary`] if it does not lead; [`Error::NotApplied`]; a rejection if there is no
    /// such lease.
    pub async fn renew_lease_here(
        &self,
        caller: Option<Caller>,
        lease: LeaseId,
    ) -> Result<i64, Error> {
        let reply = self.ask_applied(caller, LeaseQuery::KeepAlive(lease)).await?;
        let told = told(reply, |reply| {
            let Reply::KeptAlive { ttl_s } = reply else { return None };
            Some(ttl_s)
        });
        told.unwrap_or(Err(Error::NotPrimary))
    }

    /// Renews a lease at the leader. Returns its TTL in seconds.
    ///
    /// # Errors
    /// As [`Worker::renew_lease_here`]; [`Error::NoLeader`]; [`Error::Timeout`].
    pub async fn renew_lease(&self, caller: Caller, lease: LeaseId) -> Result<i64, Error> {
        let patience = Patience::of(self);
        if self.leads() && !self.leads_still().await {
            return Err(Error::NotPrimary);
        }
        loop {
            let leader = self.leader(patience).await?;
            if leader.id == self.identity().member {
                match self.renew_lease_here(Some(caller.clone()), lease).await {
                    Err(Error::NotPrimary) => {}
                    told => return told,
                }
            } else {
                self.permit_here(&caller, LeaseQuery::KeepAlive(lease)).await?;
                for url in &leader.peer_urls {
                    let forwarding = &self.0.shared.forwarding;
                    match forwarding.renew_lease(url, lease, patience.left()).await {
                        Ok(ttl_s) => return Ok(ttl_s),
                        Err(error) => {
                            if let Some(()) = refused(&error) {
                                return Err(Error::Rejected(Reject::LeaseNotFound));
                            }
                        }
                    }
                }
            }
            patience.pause().await?;
        }
    }

    /// The remaining time of a lease, without a header, if this member leads.
    ///
    /// # Errors
    /// As [`Worker::renew_lease_here`].
    pub async fn lease_time_to_live_here(
        &self,
        caller: Option<Caller>,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let LeaseTimeToLiveRequest { id, keys } = request;
        let query = LeaseQuery::TimeToLive { lease: LeaseId(id), keys };
        let reply = self.ask_applied(caller, query).await?;
        let told = told(reply, |reply| {
            let Reply::TimeToLive { granted_ttl_s: granted_ttl, remaining_s: ttl, keys } = reply
            else {
                return None;
            };
            Some(LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl, keys })
        });
        told.unwrap_or(Err(Error::NotPrimary))
    }

    /// The remaining time of a lease, without a header, from the leader.
    ///
    /// # Errors
    /// As [`Worker::renew_lease`].
    pub async fn lease_time_to_live(
        &self,
        caller: Caller,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let patience = Patience::of(self);
        loop {
            let leader = self.leader(patience).await?;
            if leader.id == self.identity().member {
                match self.lease_time_to_live_here(Some(caller.clone()), request).await {
                    Err(Error::NotPrimary) => {}
                    told => return told,
                }
            } else {
                let LeaseTimeToLiveRequest { id, keys } = request;
                let query = LeaseQuery::TimeToLive { lease: LeaseId(id), keys };
                self.permit_here(&caller, query).await?;
                for url in &leader.peer_urls {
                    let forwarding = &self.0.shared.forwarding;
                    match forwarding.lease_time_to_live(url, request, patience.left()).await {
                        Ok(found) => return Ok(LeaseTimeToLiveResponse { header: None, ..found }),
                        Err(error) => {
                            if let Some(()) = refused(&error) {
                                return Err(Error::Rejected(Reject::LeaseNotFound));
                            }
                        }
                    }
                }
            }
            patience.pause().await?;
        }
    }

    /// Transfers the leadership to a voter, and waits until it leads.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::BadTransferee`] if there is no such voter;
    /// [`Error::TransferTimeout`].
    pub async fn move_leader(&self, to: NodeId) -> Result<(), Error> {
        let own = self.identity().member;
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        let is_voter = |member: &Member| !member.is_learner;
        if !self.moment().published.cluster.member(to).is_some_and(is_voter) {
            return Err(Error::BadTransferee);
        }
        let (local, target) = (format!("{own:x}"), format!("{to:x}"));
        tracing::info!(
            "local-member-id" = local,
            "current-leader-member-id" = local,
            "transferee-member-id" = target,
            "leadership transfer starting"
        );
        let begun = Instant::now();
        self.transfer_leadership(to).await.map_err(|error| {
            if error == Error::Timeout { Error::TransferTimeout } else { error }
        })?;
        tracing::info!(
            "local-member-id" = local,
            "old-leader-member-id" = local,
            "new-leader-member-id" = target,
            took = ?begun.elapsed(),
            "leadership transfer finished"
        );
        Ok(())
    }
}
