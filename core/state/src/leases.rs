//! Applies entries about leases, and answers questions about them.
//!
//! Source: etcd v3.7 server/lease/lessor.go, server/etcdserver/v3_server.go (LeaseRenew,
//! LeaseTimeToLive, LeaseLeases), server/etcdserver/server.go `revokeExpiredLeases`.

use crate::effect::{Effect, Proposer, Reply};
use crate::failure::Failure;
use crate::guard::{ReadLease, ReadLeases, WriteLease};
use crate::input::{LeaseQuery, Question};
use crate::machine::State;
use auth::{Caller, Denied, KeyRange};
use backend::{Batch, Bucket};
use bytes::Bytes;
use cluster::Version;
use lease::{Checkpoint, LeaseError, LeaseWrite, Renewal};
use mvcc::DeleteRange;
use proto::LeaseId;
use proto::etcdserverpb::{
    AlarmType, InternalRaftRequest, LeaseCheckpointRequest, LeaseRevokeRequest, RequestHeader,
};

/// How many expired leases a leader proposes to revoke in one tick.
///
/// Source: etcd v3.7 server/lease/lessor.go `leaseRevokeRate` / 2.
const EXPIRED_MAX: usize = 500;
/// How many checkpoints one entry holds.
///
/// Source: etcd v3.7 server/lease/lessor.go `maxLeaseCheckpointBatchSize`.
const CHECKPOINTS_PER_ENTRY: usize = 1_000;
/// How many entries of checkpoints a leader proposes in one tick: etcd proposes up to
/// `leaseCheckpointRate` / 2 = 500 in each turn of 500 ms, which is 100 in 100 ms.
const CHECKPOINT_ENTRIES_PER_TICK: usize = 100;
/// The cluster version from which on all members store checkpoints.
///
/// Source: etcd v3.7 server/lease/lessor.go `shouldPersistCheckpoints`.
const CHECKPOINTS_STORED_FROM: Version = Version { major: 3, minor: 6, patch: 0 };

impl State {
    pub(crate) fn lease_grant(
        &mut self,
        now_ms: u64,
        id: LeaseId,
        ttl_s: i64,
        batch: &mut Batch,
    ) -> Result<i64, Failure> {
        let granted = self.lessor.grant(id, ttl_s, now_ms)?;
        put(batch, granted.write);
        Ok(granted.ttl_s)
    }

    /// Deletes the lease and its keys, all at one revision.
    pub(crate) fn lease_revoke(
        &mut self,
        caller: &Caller,
        id: LeaseId,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        let caller = self.auth.caller_of_lease(caller);
        let door = self.auth.door(&caller);
        door.permit(WriteLease(id, &self.lessor))?;
        let revoked = self.lessor.revoke(id)?;
        self.totals.expired_leases += u64::from(revoked.had_expired);
        let mut write = self.storage.store.write(batch);
        for key in revoked.keys {
            let delete = DeleteRange { keys: KeyRange::One(key), prev_kv: false };
            write.delete_range(door.permit(delete)?)?;
        }
        let changes = write.end();
        self.note(changes);
        put(batch, revoked.write);
        self.output.replies.extend(self.waiters.revoked(id));
        Ok(())
    }

    /// Proposes to revoke expired leases, regardless of the permissions for their keys.
    pub(crate) fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let Caller { user, auth_revision } = self.auth.server();
        let header = RequestHeader { id: 0, username: user, auth_revision };
        for id in self.lessor.expired(now_ms, EXPIRED_MAX) {
            let request = InternalRaftRequest {
                header: Some(header.clone()),
                lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
                ..Default::default()
            };
            effects.push(Effect::Propose(Box::new(request), Proposer::Leader));
        }
    }

    /// Proposes the checkpoints that are due.
    pub(crate) fn propose_checkpoints(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for _ in 0..CHECKPOINT_ENTRIES_PER_TICK {
            let due = self.lessor.due_checkpoints(now_ms, CHECKPOINTS_PER_ENTRY);
            if due.is_empty() {
                return;
            }
            effects.push(propose(due));
        }
    }

    /// Proposes to clear the checkpoints that keep-alives wait for.
    pub(crate) fn propose_clears(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let leases = self.waiters.clears_to_propose(now_ms);
        if !leases.is_empty() {
            let clear = |id| Checkpoint { id, remaining_ttl_s: 0 };
            effects.push(propose(leases.into_iter().map(clear).collect()));
        }
    }

    /// Applies checkpoints, stores them if all members do so, and answers the keep-alives that
    /// waited for a checkpoint to be cleared.
    pub(crate) fn lease_checkpoint(
        &mut self,
        now_ms: u64,
        request: LeaseCheckpointRequest,
        batch: &mut Batch,
    ) {
        let version = self.membership.cluster.version();
        let is_stored = self.settings.lease_checkpoints.persist
            || version.is_some_and(|version| version >= CHECKPOINTS_STORED_FROM);
        for proto::etcdserverpb::LeaseCheckpoint { id, remaining_ttl } in request.checkpoints {
            let checkpoint = Checkpoint { id: LeaseId(id), remaining_ttl_s: remaining_ttl };
            let write = self.lessor.checkpoint(checkpoint, now_ms);
            if let Some(write) = write.filter(|_| is_stored) {
                put(batch, write);
            }
            if remaining_ttl == 0 {
                for (id, question) in self.waiters.cleared(checkpoint.id) {
                    let reply = self.reply(now_ms, id, question);
                    self.output.replies.extend(reply.map(|reply| (id, reply)));
                }
            }
        }
    }

    /// Answers a question, or lets it wait until it can be answered.
    pub(crate) fn ask(
        &mut self,
        now_ms: u64,
        id: u64,
        question: Question,
        effects: &mut Vec<Effect>,
    ) {
        let needs_leader = !matches!(question.query, LeaseQuery::List);
        if needs_leader && self.leadership.is_pending() {
            self.waiters.await_promotion(id, question);
        } else if let Some(reply) = self.reply(now_ms, id, question) {
            effects.push(Effect::Reply(id, reply));
        }
        self.propose_clears(now_ms, effects);
    }

    /// The reply to a question; `None` if the question waits. Only a leader's leases have a clock.
    pub(crate) fn reply(&mut self, now_ms: u64, id: u64, question: Question) -> Option<Reply> {
        if let Err(denied) = self.permit_question(&question) {
            return Some(Reply::Denied(denied));
        }
        Some(match question.query {
            LeaseQuery::KeepAlive(lease) => match self.lessor.renew(lease, now_ms) {
                Ok(Renewal::Renewed { ttl_s }) => Reply::KeptAlive { ttl_s },
                Ok(Renewal::AwaitClear) => {
                    self.waiters.await_clear(lease, id, question);
                    return None;
                }
                Ok(Renewal::AwaitRevoke) if self.alarms.is_on(AlarmType::Corrupt) => Reply::Corrupt,
                Ok(Renewal::AwaitRevoke) => {
                    self.waiters.await_revocation(lease, id);
                    return None;
                }
                Err(error) => refusal(error),
            },
            LeaseQuery::TimeToLive { lease, keys } => {
                match self.lessor.time_to_live(lease, now_ms) {
                    Ok(found) => Reply::TimeToLive {
                        granted_ttl_s: found.granted_ttl_s,
                        remaining_s: found.remaining_s,
                        keys: self.keys_of(lease, keys),
                    },
                    Err(error) => refusal(error),
                }
            }
            LeaseQuery::List => Reply::Leases(self.lessor.list()),
        })
    }

    /// Source: etcd v3.7 server/etcdserver/v3_server.go `checkLeaseRenew`, `checkLeaseTimeToLive`,
    /// `checkLeaseLeases`.
    fn permit_question(&self, question: &Question) -> Result<(), Denied> {
        let Some(caller) = &question.caller else { return Ok(()) };
        self.auth.permit_user(caller)?;
        let caller = self.auth.caller_of_lease(caller);
        let door = self.auth.door(&caller);
        match question.query {
            LeaseQuery::KeepAlive(lease) => door.permit(WriteLease(lease, &self.lessor)).map(drop),
            LeaseQuery::TimeToLive { lease, keys: true } => {
                door.permit(ReadLease(lease, &self.lessor)).map(drop)
            }
            LeaseQuery::TimeToLive { keys: false, .. } => Ok(()),
            LeaseQuery::List => door.permit(ReadLeases(&self.lessor)).map(drop),
        }
    }

    fn keys_of(&self, lease: LeaseId, wanted: bool) -> Vec<Bytes> {
        if wanted { self.lessor.keys(lease).cloned().collect() } else { Vec::new() }
    }
}

fn propose(checkpoints: Vec<Checkpoint>) -> Effect {
    let checkpoints =
        checkpoints.into_iter().map(|checkpoint| proto::etcdserverpb::LeaseCheckpoint {
            id: checkpoint.id.0,
            remaining_ttl: checkpoint.remaining_ttl_s,
        });
    let request = LeaseCheckpointRequest { checkpoints: checkpoints.collect() };
    let request = InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() };
    Effect::Propose(Box::new(request), Proposer::Leader)
}

fn refusal(error: LeaseError) -> Reply {
    match error {
        LeaseError::NotPrimary => Reply::NotLeader,
        LeaseError::NotFound | LeaseError::Exists | LeaseError::TtlTooLarge => Reply::NoLease,
    }
}

fn put(batch: &mut Batch, write: LeaseWrite) {
    let key = Bytes::copy_from_slice(&write.key);
    match write.value {
        Some(value) => batch.put(Bucket::Lease, key, value),
        None => batch.delete(Bucket::Lease, key),
    }
}
