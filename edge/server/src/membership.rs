//! Membership changes. Any member proposes them, after it has checked that they are safe.
//!
//! Source: etcd v3.7 server/etcdserver/server.go (`AddMember`, `RemoveMember`, `PromoteMember`,
//! `UpdateMember`, `configure`).

use crate::error::Error;
use crate::forwarding::ForwardingError;
use crate::leader::Patience;
use crate::worker::Worker;
use bytes::Bytes;
use cluster::{ChangeContext, InvalidChange, Member, Reach, UnsafeChange, check_in_sync};
use executor::ConsensusInput;
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, Index, NodeId};
use state::Reject;
use std::collections::BTreeMap;
use std::time::Instant;

/// The status of a leader that refuses to promote a learner.
const PRECONDITION_FAILED: u16 = 412;
/// The status of a leader that does not know the member.
const NOT_FOUND: u16 = 404;

impl Worker {
    /// Adds a member, of which the id, the peer URLs and whether it is a learner are set. Returns
    /// the new list of members.
    ///
    /// # Errors
    /// [`Error::Unsafe`], unless that is not checked; a rejection; [`Error::Timeout`].
    pub async fn add_member(&self, member: Member) -> Result<Vec<Member>, Error> {
        let check =
            |reach: &Reach| self.moment().published.cluster.check_add(member.is_learner, reach);
        self.check(check).inspect_err(|error| self.warn("add", member.id, error))?;
        let kind = if member.is_learner {
            ConfChangeType::ConfChangeAddLearnerNode
        } else {
            ConfChangeType::ConfChangeAddNode
        };
        self.change(kind, ChangeContext { member, is_promote: false }).await
    }

    /// Removes a member. Returns the new list of members.
    ///
    /// # Errors
    /// As [`Worker::add_member`].
    pub async fn remove_member(&self, id: NodeId) -> Result<Vec<Member>, Error> {
        let check = |reach: &Reach| self.moment().published.cluster.check_remove(id, reach);
        self.check(check).inspect_err(|error| self.warn("remove", id, error))?;
        let kind = ConfChangeType::ConfChangeRemoveNode;
        self.configure(ConfChange { id: 0, kind, node: id, context: Bytes::new() }).await
    }

    /// Changes the peer URLs of a member. Returns the new list of members.
    ///
    /// # Errors
    /// A rejection; [`Error::Timeout`].
    pub async fn update_member(
        &self,
        id: NodeId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, Error> {
        let member = Member { id, peer_urls, ..Member::default() };
        let kind = ConfChangeType::ConfChangeUpdateNode;
        self.change(kind, ChangeContext { member, is_promote: false }).await
    }

    /// Makes a learner a voter. Returns the new list of members. Only the leader knows the position
    /// of the learner's log, so other members forward the request, with the token of the client.
    ///
    /// # Errors
    /// [`Error::Unsafe`]; a rejection; [`Error::NoLeader`]; [`Error::Timeout`].
    pub async fn promote_member(
        &self,
        id: NodeId,
        token: Option<String>,
    ) -> Result<Vec<Member>, Error> {
        let patience = Patience::of(self);
        let promoted = match self.promote_here(id).await {
            Err(Error::NotLeader) => return self.promote_at_leader(id, token, patience).await,
            promoted => promoted,
        };
        let metrics = &self.metrics().identity;
        match &promoted {
            Ok(_) => metrics.learner_promotions.inc(),
            Err(error) => {
                let reason = etcds_words(error);
                metrics.learner_promotion_failures.with_label_values(&[&reason]).inc();
            }
        }
        promoted
    }

    async fn promote_at_leader(
        &self,
        id: NodeId,
        token: Option<String>,
        patience: Patience,
    ) -> Result<Vec<Member>, Error> {
        loop {
            let leader = self.leader(patience).await?;
            if leader.id == self.identity().member {
                match self.promote_here(id).await {
                    Err(Error::NotLeader) => {}
                    promoted => return promoted,
                }
            } else {
                for url in &leader.peer_urls {
                    let forwarding = &self.0.shared.forwarding;
                    match forwarding.promote(url, id, token.clone(), patience.left()).await {
                        Ok(members) => return Ok(members),
                        Err(error) => {
                            if let Some(error) = refused(&error) {
                                return Err(error);
                            }
                        }
                    }
                }
            }
            patience.pause().await?;
        }
    }

    /// Promotes a learner, if this member leads.
    async fn promote_here(&self, id: NodeId) -> Result<Vec<Member>, Error> {
        self.apply_committed().await?;
        let matched = self.matched().await?.ok_or(Error::NotLeader)?;
        let learner = matched.get(&id).ok_or(Error::Rejected(Reject::MemberNotFound))?;
        let leader = matched.get(&self.identity().member).copied().unwrap_or_default();
        check_in_sync(*learner, leader)
            .inspect_err(|error| self.warn("promote", id, error))
            .map_err(Error::Unsafe)?;
        self.check(|_| self.moment().published.cluster.check_promote())
            .inspect_err(|error| self.warn("promote", id, error))?;
        let member = Member { id, ..Member::default() };
        let kind = ConfChangeType::ConfChangeAddNode;
        self.change(kind, ChangeContext { member, is_promote: true }).await
    }

    /// If this member leads, promotes all learners that are in sync and can be promoted safely.
    ///
    /// # Errors
    /// As [`Worker::promote_member`], for the first learner that could not be promoted.
    pub async fn promote_learners(&self) -> Result<(), Error> {
        let Some(matched) = self.matched().await? else { return Ok(()) };
        let own = matched.get(&self.identity().member).copied().unwrap_or_default();
        let moment = self.moment();
        let cluster = &moment.published.cluster;
        if self.check(|_| cluster.check_promote()).is_err() {
            return Ok(());
        }
        for learner in cluster.members().filter(|member| member.is_learner) {
            let at = matched.get(&learner.id).copied().unwrap_or_default();
            if check_in_sync(at, own).is_ok() {
                let id = format!("{:x}", learner.id);
                tracing::info!("member-id" = id, "promoting a learner that is in sync");
                self.promote_member(learner.id, None).await?;
            }
        }
        Ok(())
    }

    /// The index up to which each member's log is durable; `None` unless this member leads.
    async fn matched(&self) -> Result<Option<BTreeMap<NodeId, Index>>, Error> {
        let progress = self.raft_status().await?.progress;
        Ok(progress.map(|all| all.into_iter().map(|(id, at)| (id, at.matched)).collect()))
    }

    /// The state of raft.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Stopped`].
    pub async fn raft_status(&self) -> Result<Box<raft::Status>, Error> {
        let id = self.0.next_id();
        let status = async {
            let mut waiting = self.0.wait_for(&self.0.waiting.raft, id, 0).await?;
            self.0.shared.propose(ConsensusInput::Status(id))?;
            (&mut waiting.receiver).await.map_err(|_| Error::Stopped)
        };
        let timed = tokio::time::timeout(self.limits().request_time_max, status).await;
        timed.unwrap_or(Err(Error::Timeout))
    }

    fn check(
        &self,
        check: impl FnOnce(&Reach) -> Result<(), UnsafeChange>,
    ) -> Result<(), UnsafeChange> {
        if self.limits().strict_reconfiguration { check(&self.reach()) } else { Ok(()) }
    }

    /// The members that this member reaches now.
    pub(crate) fn reach(&self) -> Reach {
        let (moment, now) = (self.moment(), Instant::now());
        let since = |member: &Member| self.0.shared.peers.active_since(member.id);
        let members = moment.published.cluster.members();
        let others = members
            .filter_map(|member| Some((member.id, now.saturating_duration_since(since(member)?))));
        Reach { own: self.identity().member, others: others.collect() }
    }

    fn warn(&self, what: &str, id: NodeId, error: &UnsafeChange) {
        let reason = match error {
            UnsafeChange::NotEnoughStarted => "not enough healthy members",
            UnsafeChange::Unhealthy => {
                "local member has not been connected to majority peers, reconfigure breaks active quorum"
            }
            UnsafeChange::LearnerNotReady => "learner is not ready",
        };
        tracing::warn!(
            "local-member-id" = format!("{:x}", self.identity().member),
            "requested-member-id" = format!("{id:x}"),
            %error,
            "rejecting member {what} request; {reason}"
        );
    }

    async fn change(
        &self,
        kind: ConfChangeType,
        context: ChangeContext,
    ) -> Result<Vec<Member>, Error> {
        let (node, context) = (context.member.id, context.to_json().into());
        self.configure(ConfChange { id: 0, kind, node, context }).await
    }

    async fn configure(&self, change: ConfChange) -> Result<Vec<Member>, Error> {
        let (kind, node) = (change.kind, change.node);
        self.propose_change(change).await?;
        tracing::info!(
            "local-member-id" = format!("{:x}", self.identity().member),
            "raft-conf-change" = kind.as_str_name(),
            "raft-conf-change-node-id" = format!("{node:x}"),
            "applied a configuration change through raft"
        );
        Ok(self.moment().published.cluster.members().cloned().collect())
    }
}

/// The error of a promotion in etcd's words, as the metric has it.
fn etcds_words(error: &Error) -> String {
    let Some(invalid) = invalid_change(error) else {
        let prefix = if let Error::Unsafe(_) = error { "" } else { "etcdserver: " };
        return format!("{prefix}{error}");
    };
    invalid.to_string()
}

/// Why the change of the members was rejected when it was applied.
fn invalid_change(error: &Error) -> Option<InvalidChange> {
    let rejects = [
        (Reject::MemberRemoved, InvalidChange::IdRemoved),
        (Reject::MemberExists, InvalidChange::IdExists),
        (Reject::MemberNotFound, InvalidChange::IdNotFound),
        (Reject::PeerUrlExists, InvalidChange::PeerUrlExists),
        (Reject::NotLearner, InvalidChange::NotLearner),
        (Reject::TooManyLearners, InvalidChange::TooManyLearners),
    ];
    let Error::Rejected(reject) = error else { return None };
    rejects.into_iter().find(|(known, _)| known == reject).map(|(_, invalid)| invalid)
}

/// The final error of the leader; `None` if the request should be repeated.
fn refused(error: &ForwardingError) -> Option<Error> {
    let not_learner = InvalidChange::NotLearner.to_string();
    match error {
        ForwardingError::Refused { status: NOT_FOUND, .. } => {
            Some(Error::Rejected(Reject::MemberNotFound))
        }
        ForwardingError::Refused { status: PRECONDITION_FAILED, text } => {
            if text.contains(&UnsafeChange::LearnerNotReady.to_string()) {
                return Some(Error::Unsafe(UnsafeChange::LearnerNotReady));
            }
            text.contains(&not_learner).then_some(Error::Rejected(Reject::NotLearner))
        }
        ForwardingError::Refused { .. } | ForwardingError::Unreachable(_) => {
            tracing::debug!(%error, "the leader has not promoted the member");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_promotion_is_counted_in_etcds_words() {
        for (error, words) in [
            (Error::Rejected(Reject::MemberNotFound), "membership: ID not found"),
            (Error::Rejected(Reject::NotLearner), "membership: can only promote a learner member"),
            (
                Error::Unsafe(UnsafeChange::LearnerNotReady),
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (Error::Timeout, "etcdserver: request timed out"),
        ] {
            assert_eq!(etcds_words(&error), words);
        }
    }
}
