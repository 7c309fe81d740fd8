//! Applies committed entries: decodes them, checks alarms, permission and quota, and dispatches
//! them. The order of the checks is etcd's: corrupt, capped, auth, quota. Every member must decide
//! alike.
//!
//! Source: etcd v3.7 server/etcdserver/apply/uber_applier.go, server/etcdserver/server.go
//! `applyEntryNormal`.

use crate::effect::Effect;
use crate::failure::{Failure, Fatal};
use crate::machine::State;
use crate::quota::{self, LEASE_COST};
use crate::reject::Reject;
use auth::Caller;
use backend::Batch;
use proto::answer::{Answer, GrantAnswer};
use proto::etcdserverpb::{AlarmType, InternalRaftRequest};
use proto::{Entry, EntryKind, LeaseId, Op};
use std::sync::Arc;
use v2store::EntryPayload;

/// A request of an entry that has been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its kind.
    pub op: Op,
    /// False if it was rejected. As in etcd, a compaction that was done before has succeeded.
    pub succeeded: bool,
}

impl State {
    /// Applies committed entries as [`Input::Apply`](crate::Input::Apply) does, and calls `observe`
    /// after each request, so that the caller can measure how long each took.
    ///
    /// # Errors
    /// When the member must stop.
    pub fn apply(
        &mut self,
        now_ms: u64,
        entries: Vec<Entry>,
        observe: &mut dyn FnMut(Executed),
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fatal> {
        let Some(last) = entries.last().map(Entry::id) else { return Ok(()) };
        let mut batch = Batch::new(last);
        self.put_first_writes(&mut batch);
        for entry in entries {
            let id = entry.id();
            assert!(
                id.index == self.applied.index.next(),
                "entries are applied in order: {} after {}",
                id.index,
                self.applied.index
            );
            self.snapshots.log_bytes += entry.data.len() as u64;
            if let Some(executed) = self.apply_entry(now_ms, entry, &mut batch, effects)? {
                observe(executed);
            }
            self.applied = id;
        }
        self.establish_if_due(now_ms);
        self.finish(batch, effects);
        self.propose_clears(now_ms, effects);
        self.snapshot_if_due(effects);
        Ok(())
    }

    fn apply_entry(
        &mut self,
        now_ms: u64,
        entry: Entry,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Executed>, Fatal> {
        let index = entry.index.0;
        let bad = |why: String| Fatal::Entry { index, why };
        match entry.kind {
            EntryKind::ConfChange => {
                let change = proto::ConfChange::decode(entry.data)
                    .map_err(|error| bad(error.to_string()))?;
                self.conf_change(change, batch, effects).map_err(bad)?;
                Ok(None)
            }
            EntryKind::ConfChangeV2 => Err(bad("etcd never writes a ConfChangeV2".into())),
            // A new leader's first entry has no data.
            EntryKind::Normal if entry.data.is_empty() => Ok(None),
            EntryKind::Normal => {
                match v2store::classify(&entry.data).map_err(|error| bad(error.to_string()))? {
                    EntryPayload::V2(request) => {
                        self.v2_request(&request, batch).map_err(bad)?;
                        Ok(None)
                    }
                    EntryPayload::Request(request) => {
                        self.request(now_ms, index, *request, batch).map(Some)
                    }
                }
            }
        }
    }

    fn request(
        &mut self,
        now_ms: u64,
        index: u64,
        request: InternalRaftRequest,
        batch: &mut Batch,
    ) -> Result<Executed, Fatal> {
        let op = Op::of(&request);
        let header_id = request.header.as_ref().map_or(0, |header| header.id);
        let id = if request.id == 0 { header_id } else { request.id };
        let physical = request.compaction.filter(|compaction| compaction.physical);
        let caller = match &request.header {
            None => Caller::default(),
            Some(header) => {
                Caller { user: header.username.clone(), auth_revision: header.auth_revision }
            }
        };
        let result = match self.dispatch(&Clock { now_ms, index }, &caller, request, batch) {
            Ok(answer) => Ok(answer),
            Err(Failure::Reject(reject)) => Err(reject),
            Err(Failure::Store(error)) => return Err(Fatal::Store(error)),
            Err(Failure::Entry(why)) => return Err(Fatal::Entry { index, why }),
        };
        let succeeded = matches!(result, Ok(_) | Err(Reject::Compacted));
        match (physical, &result) {
            // Answered when the compaction has finished.
            (Some(compaction), Ok(_)) => {
                self.waiters.await_compaction(compaction.revision, id);
            }
            (Some(_) | None, _) => self.output.answers.push((id, result)),
        }
        Ok(Executed { op, succeeded })
    }

    /// Executes the request in the one field that is set.
    fn dispatch(
        &mut self,
        clock: &Clock,
        caller: &Caller,
        request: InternalRaftRequest,
        batch: &mut Batch,
    ) -> Result<Answer, Failure> {
        if let Some(put) = request.put {
            let over = self.admit(quota::put_cost(&put))?;
            return over.answer(self.put(caller, &put, batch).map(Answer::Put));
        }
        if let Some(txn) = request.txn {
            let over = self.admit(quota::txn_cost(&txn))?;
            return over.answer(self.txn(caller, &txn, batch).map(Answer::Txn));
        }
        if let Some(delete) = request.delete_range {
            self.refuse_if_corrupt()?;
            return self.delete(caller, &delete, batch).map(Answer::Delete);
        }
        if let Some(range) = request.range {
            self.refuse_if_corrupt()?;
            return self.range(caller, &range, batch).map(Answer::Range);
        }
        if let Some(compaction) = request.compaction {
            self.refuse_if_corrupt()?;
            self.storage.store.compact(compaction.revision, batch)?;
            return Ok(Answer::Compact { revision: self.storage.store.revision() });
        }
        if let Some(grant) = request.lease_grant {
            let over = self.admit(LEASE_COST)?;
            let granted = self.lease_grant(clock.now_ms, LeaseId(grant.id), grant.ttl, batch);
            return over.answer(granted.map(|ttl_s| {
                Answer::LeaseGrant(GrantAnswer {
                    revision: self.storage.store.revision(),
                    id: grant.id,
                    ttl_s,
                })
            }));
        }
        if let Some(revoke) = request.lease_revoke {
            self.refuse_if_corrupt()?;
            self.lease_revoke(caller, LeaseId(revoke.id), batch)?;
            return Ok(Answer::LeaseRevoke { revision: self.storage.store.revision() });
        }
        self.dispatch_rare(clock, caller, request, batch)
    }

    fn dispatch_rare(
        &mut self,
        clock: &Clock,
        caller: &Caller,
        mut request: InternalRaftRequest,
        batch: &mut Batch,
    ) -> Result<Answer, Failure> {
        if let Some(alarm) = request.alarm {
            let alarms = self.alarms.apply(&alarm, batch);
            if self.alarms.is_on(AlarmType::Corrupt) {
                self.output.replies.extend(self.waiters.revocations_forbidden());
            }
            return Ok(Answer::Alarm { alarms });
        }
        if let Some(request) = request.lease_checkpoint {
            self.lease_checkpoint(clock.now_ms, request, batch);
            return Ok(Answer::Done);
        }
        if let Some(set) = request.cluster_version_set {
            self.set_cluster_version(&set.ver, batch).map_err(Failure::Entry)?;
            return Ok(Answer::Done);
        }
        if let Some(set) = request.cluster_member_attr_set {
            self.set_attributes(set, batch).map_err(Failure::Entry)?;
            return Ok(Answer::Done);
        }
        if let Some(set) = request.downgrade_info_set {
            self.set_downgrade(set, batch);
            return Ok(Answer::Done);
        }
        if request.downgrade_version_test.is_some() {
            return Ok(Answer::Done);
        }
        if let Some(request) = auth::Request::take(&mut request) {
            return self.auth_request(clock, caller, request, batch);
        }
        Err(Failure::Entry("a request for a part of the server that is not built yet".into()))
    }

    /// Executes a request about users and roles.
    fn auth_request(
        &mut self,
        clock: &Clock,
        caller: &Caller,
        request: auth::Request,
        batch: &mut Batch,
    ) -> Result<Answer, Failure> {
        let outcome = if request.is_read() {
            self.auth.read(caller, &request, clock.index)?
        } else {
            let settings = (clock.index, self.settings.bcrypt_cost);
            Arc::make_mut(&mut self.auth).change(caller, request, settings, batch)?
        };
        self.output.tokens.extend(outcome.tokens);
        Ok(Answer::Auth(outcome.answer))
    }

    /// Checks the alarms for a request that takes space, and whether it fits the quota.
    fn admit(&self, cost: u64) -> Result<Fit, Failure> {
        self.refuse_if_corrupt()?;
        if cost > 0 && self.alarms.is_on(AlarmType::Nospace) {
            return Err(Reject::NoSpace.into());
        }
        Ok(Fit(self.settings.quota.fits(self.storage.file_bytes, cost)))
    }

    fn refuse_if_corrupt(&self) -> Result<(), Failure> {
        if self.alarms.is_on(AlarmType::Corrupt) {
            return Err(Reject::Corrupt.into());
        }
        Ok(())
    }
}

/// The time and the index at which an entry is applied.
struct Clock {
    now_ms: u64,
    /// The index of the entry.
    index: u64,
}

/// Whether a request fits the quota. A request that does not fit is still applied, because other
/// members may have more space. Only its answer is an error.
struct Fit(bool);

impl Fit {
    fn answer(&self, answer: Result<Answer, Failure>) -> Result<Answer, Failure> {
        if self.0 { answer } else { answer.and(Err(Reject::NoSpace.into())) }
    }
}
