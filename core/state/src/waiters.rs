//! Requests and questions that cannot be answered at once, by the event that they wait for. Each
//! field lists the events that answer its waiters, so that none waits forever.

use crate::effect::Reply;
use crate::input::Question;
use proto::LeaseId;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Physical compactions: (revision, request id). Answered when a compaction at or above the
    /// revision has finished; compaction continues whoever leads.
    compactions: Vec<(i64, u64)>,
    /// Keep-alives of expired leases. Answered when the lease is revoked, when the CORRUPT alarm
    /// forbids the revocation, or when leadership ends.
    revocations: BTreeMap<LeaseId, Vec<u64>>,
    /// Keep-alives of leases with a checkpoint, which must be cleared first. Answered when the
    /// entry that clears it is applied, when the lease is revoked, or when leadership ends. Until
    /// then, the entry is proposed again and again.
    clears: BTreeMap<LeaseId, Clear>,
    /// Questions that only the leader answers, asked before the first entry of its term was
    /// applied. Answered when that entry is applied, or when leadership ends.
    promotion: Vec<(u64, Question)>,
}

#[derive(Debug, Default)]
struct Clear {
    /// When the entry was last proposed.
    proposed_ms: Option<u64>,
    keep_alives: Vec<(u64, Question)>,
}

/// The entry that clears a checkpoint is proposed again after this time, in milliseconds.
const CLEAR_RETRY_MS: u64 = 3_000;

impl Waiters {
    pub(crate) fn await_compaction(&mut self, revision: i64, id: u64) {
        self.compactions.push((revision, id));
    }

    pub(crate) fn await_revocation(&mut self, lease: LeaseId, id: u64) {
        self.revocations.entry(lease).or_default().push(id);
    }

    pub(crate) fn await_clear(&mut self, lease: LeaseId, id: u64, keep_alive: Question) {
        self.clears.entry(lease).or_default().keep_alives.push((id, keep_alive));
    }

    /// The leases for whose checkpoint a clearing entry must be proposed now.
    pub(crate) fn clears_to_propose(&mut self, now_ms: u64) -> Vec<LeaseId> {
        let mut leases = Vec::new();
        for (lease, clear) in &mut self.clears {
            let retry_ms = clear.proposed_ms.map(|proposed_ms| proposed_ms + CLEAR_RETRY_MS);
            if retry_ms.is_none_or(|retry_ms| retry_ms <= now_ms) {
                clear.proposed_ms = Some(now_ms);
                leases.push(*lease);
            }
        }
        leases
    }

    /// Removes the keep-alives that wait for the checkpoint of `lease` to be cleared.
    pub(crate) fn cleared(&mut self, lease: LeaseId) -> Vec<(u64, Question)> {
        self.clears.remove(&lease).unwrap_or_default().keep_alives
    }

    pub(crate) fn await_promotion(&mut self, id: u64, question: Question) {
        self.promotion.push((id, question));
    }

    /// Removes the requests whose compaction has finished. Returns their ids.
    pub(crate) fn compaction_finished(&mut self, revision: i64) -> Vec<u64> {
        let finished = |&(awaited, _): &(i64, u64)| awaited <= revision;
        let (finished, waiting) = self.compactions.drain(..).partition::<Vec<_>, _>(finished);
        self.compactions = waiting;
        finished.into_iter().map(|(_, id)| id).collect()
    }

    /// Removes the keep-alives of a lease that is revoked, with their reply.
    pub(crate) fn revoked(&mut self, lease: LeaseId) -> impl Iterator<Item = (u64, Reply)> {
        let mut ids = self.revocations.remove(&lease).unwrap_or_default();
        ids.extend(self.cleared(lease).into_iter().map(|(id, _)| id));
        ids.into_iter().map(|id| (id, Reply::NoLease))
    }

    /// Removes all keep-alives that wait for a revocation, which the CORRUPT alarm forbids.
    pub(crate) fn revocations_forbidden(&mut self) -> impl Iterator<Item = (u64, Reply)> {
        let ids = std::mem::take(&mut self.revocations).into_values().flatten();
        ids.map(|id| (id, Reply::Corrupt))
    }

    /// Removes the questions that wait for the first entry of the term.
    pub(crate) fn promoted(&mut self) -> Vec<(u64, Question)> {
        std::mem::take(&mut self.promotion)
    }

    /// Removes everything that only a leader can answer.
    pub(crate) fn leadership_ended(&mut self) -> impl Iterator<Item = (u64, Reply)> {
        let revocations = std::mem::take(&mut self.revocations).into_values().flatten();
        let questions = std::mem::take(&mut self.promotion).into_iter().map(|(id, _)| id);
        let clears = std::mem::take(&mut self.clears).into_values();
        let clears = clears.flat_map(|clear| clear.keep_alives).map(|(id, _)| id);
        revocations.chain(clears).chain(questions).map(|id| (id, Reply::NotLeader))
    }
}
