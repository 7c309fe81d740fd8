//! The lessor: all leases of a member, and the queues of expiry and checkpoints.
//!
//! Source: etcd v3.7 server/lease/lessor.go.

use crate::{
    CHECKPOINT_INTERVAL_S, CorruptLease, EXPIRED_RETRY_MS, LeaseError, LeaseWrite, StoredLease,
    TTL_S_MAX,
};
use bytes::Bytes;
use proto::LeaseId;
use std::collections::{BTreeMap, BTreeSet};

/// From this number of leases on, promotion spreads expiries that would happen together.
const SPREAD_FROM: usize = 1_000;
/// The maximum number of leases that expire in one second after a promotion.
const DUE_PER_SECOND: u64 = 750;

/// All leases of a member.
///
/// - All results are ordered: keys by bytes, leases by the time they are due and then by id.
/// - Only a primary (the leader) has a clock: on other members no lease expires.
/// - A key belongs to at most one lease, which exists.
#[derive(Clone, Debug)]
pub struct Lessor {
    ttl_s_min: i64,
    primary: bool,
    leases: BTreeMap<LeaseId, Lease>,
    /// The lease of each key that has one.
    items: BTreeMap<Bytes, LeaseId>,
    /// The queue of expiry. Invariant: `(lease.due_ms, id)` of each lease while primary, empty
    /// otherwise.
    due: BTreeSet<(u64, LeaseId)>,
    /// Whether leases are checkpointed while this member is primary.
    checkpoints: bool,
    /// The queue of checkpoints. Invariant: `(lease.checkpoint_ms, id)` of each lease that
    /// has one.
    checkpoint_due: BTreeSet<(u64, LeaseId)>,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl_s: i64,
    remaining_ttl_s: i64,
    /// When it expires; valid only while primary.
    expires_ms: u64,
    /// Its key in the queue: `expires_ms`, or later while its revocation is proposed.
    due_ms: u64,
    /// When its next checkpoint is due; `None` if too little time is left for one.
    checkpoint_ms: Option<u64>,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    fn new(ttl_s: i64, remaining_ttl_s: i64) -> Lease {
        let (expires_ms, due_ms, checkpoint_ms) = (0, 0, None);
        Lease { ttl_s, remaining_ttl_s, expires_ms, due_ms, checkpoint_ms, keys: BTreeSet::new() }
    }

    /// The remaining time at the last checkpoint, in milliseconds.
    fn left_ms(&self) -> u64 {
        let seconds = if self.remaining_ttl_s > 0 { self.remaining_ttl_s } else { self.ttl_s };
        u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
    }
}

/// The remaining time of a lease, as it is stored in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease.
    pub id: LeaseId,
    /// The time left, in seconds; 0 clears the checkpoint.
    pub remaining_ttl_s: i64,
}

/// The result of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The TTL in seconds. It may be longer than requested.
    pub ttl_s: i64,
    /// The change of the bucket.
    pub write: LeaseWrite,
}

/// The result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The keys to delete in the same write transaction, in byte order.
    pub keys: Vec<Bytes>,
    /// It had expired: [`Lessor::expired`] returned it on this member since its last renewal.
    pub had_expired: bool,
    /// The change of the bucket.
    pub write: LeaseWrite,
}

/// The answer to a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease was renewed.
    Renewed {
        /// Its TTL in seconds.
        ttl_s: i64,
    },
    /// A checkpoint of the lease is stored. Unless it is cleared, the next leader would let the
    /// lease expire early. To renew the lease, apply a checkpoint with a remaining time of 0 and
    /// try again.
    AwaitClear,
    /// The lease has expired and will be revoked. The result is `NotFound` once it is revoked, or
    /// `NotPrimary` if this member is demoted first.
    AwaitRevoke,
}

/// The remaining time of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// The granted TTL in seconds.
    pub granted_ttl_s: i64,
    /// The remaining time, in whole seconds, rounded towards 0; negative when the lease expired more
    /// than a second ago.
    pub remaining_s: i64,
}

impl Lessor {
    /// A lessor without leases, not primary. See [`crate::ttl_s_min`].
    #[must_use]
    pub fn new(ttl_s_min: i64) -> Lessor {
        Lessor {
            ttl_s_min,
            primary: false,
            leases: BTreeMap::new(),
            items: BTreeMap::new(),
            due: BTreeSet::new(),
            checkpoints: false,
            checkpoint_due: BTreeSet::new(),
        }
    }

    /// Turns checkpoints on or off, before the first promotion.
    pub fn set_checkpoints(&mut self, on: bool) {
        self.checkpoints = on;
    }

    /// Restores a lessor from the items of the bucket `lease`, not primary. The caller attaches the
    /// keys.
    ///
    /// # Errors
    /// When an item is not a lease.
    pub fn restore<K, V>(
        ttl_s_min: i64,
        items: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Lessor, CorruptLease>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut lessor = Lessor::new(ttl_s_min);
        for (key, value) in items {
            let stored = StoredLease::decode(key.as_ref(), value.as_ref())?;
            let lease = Lease::new(stored.ttl_s.max(ttl_s_min), stored.remaining_ttl_s);
            lessor.leases.insert(stored.id, lease);
        }
        Ok(lessor)
    }

    /// The number of leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True if there are no leases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Whether this member is primary, so that its leases have a clock.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// Whether the lease exists.
    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Grants a lease of `ttl_s` seconds, or of the minimum TTL if that is longer.
    ///
    /// # Errors
    /// `NotFound` for id 0 (as etcd says), `TtlTooLarge`, `Exists`.
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64, now_ms: u64) -> Result<Granted, LeaseError> {
        if id == LeaseId(0) {
            return Err(LeaseError::NotFound);
        }
        if ttl_s > TTL_S_MAX {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(LeaseError::Exists);
        }
        let ttl_s = ttl_s.max(self.ttl_s_min);
        let mut lease = Lease::new(ttl_s, 0);
        if self.primary {
            lease.expires_ms = now_ms.saturating_add(lease.left_ms());
            lease.due_ms = lease.expires_ms;
            self.due.insert((lease.due_ms, id));
        }
        self.leases.insert(id, lease);
        self.schedule_checkpoint(id, now_ms);
        let stored = StoredLease { id, ttl_s, remaining_ttl_s: 0 };
        let write = LeaseWrite { key: StoredLease::key(id), value: Some(stored.encode()) };
        Ok(Granted { ttl_s, write })
    }

    /// Removes a lease and detaches its keys, which the caller deletes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Revoked, LeaseError> {
        let lease = self.leases.remove(&id).ok_or(LeaseError::NotFound)?;
        self.due.remove(&(lease.due_ms, id));
        if let Some(checkpoint_ms) = lease.checkpoint_ms {
            self.checkpoint_due.remove(&(checkpoint_ms, id));
        }
        for key in &lease.keys {
            self.items.remove(key);
        }
        let write = LeaseWrite { key: StoredLease::key(id), value: None };
        let had_expired = lease.due_ms > lease.expires_ms;
        Ok(Revoked { keys: lease.keys.into_iter().collect(), had_expired, write })
    }

    /// Renews a lease for its full TTL.
    ///
    /// # Errors
    /// `NotPrimary`, `NotFound`.
    pub fn renew(&mut self, id: LeaseId, now_ms: u64) -> Result<Renewal, LeaseError> {
        if !self.primary {
            return Err(LeaseError::NotPrimary);
        }
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::NotFound)?;
        if lease.expires_ms <= now_ms {
            return Ok(Renewal::AwaitRevoke);
        }
        if lease.remaining_ttl_s > 0 {
            return Ok(Renewal::AwaitClear);
        }
        let (ttl_s, left_ms) = (lease.ttl_s, lease.left_ms());
        self.set_expiry(id, now_ms.saturating_add(left_ms));
        Ok(Renewal::Renewed { ttl_s })
    }

    /// Applies a checkpoint: sets the time that a lease will have left at the next promotion. It
    /// does not change the expiry here. An unknown lease is ignored. Returns the write that makes
    /// the checkpoint survive a restart.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint, now_ms: u64) -> Option<LeaseWrite> {
        let Checkpoint { id, remaining_ttl_s } = checkpoint;
        let lease = self.leases.get_mut(&id)?;
        lease.remaining_ttl_s = remaining_ttl_s;
        let stored = StoredLease { id, ttl_s: lease.ttl_s, remaining_ttl_s };
        self.schedule_checkpoint(id, now_ms);
        Some(LeaseWrite { key: StoredLease::key(id), value: Some(stored.encode()) })
    }

    /// Up to `limit` checkpoints that are due, to be proposed. Each is due again after
    /// [`CHECKPOINT_INTERVAL_S`], in case the proposal is lost.
    pub fn due_checkpoints(&mut self, now_ms: u64, limit: usize) -> Vec<Checkpoint> {
        let mut checkpoints = Vec::new();
        while checkpoints.len() < limit {
            let Some(&(due_ms, id)) = self.checkpoint_due.first() else { break };
            if due_ms > now_ms {
                break;
            }
            self.set_checkpoint(id, Some(now_ms.saturating_add(CHECKPOINT_INTERVAL_S * 1000)));
            let lease = self.leases.get(&id);
            let lease = lease.expect("a queued lease exists: revoke takes it from the queue");
            let left_s = lease.expires_ms.saturating_sub(now_ms).div_ceil(1000);
            let remaining_ttl_s = i64::try_from(left_s).unwrap_or(i64::MAX);
            // Needs no checkpoint if it has expired (it is being revoked) or was just renewed.
            if remaining_ttl_s > 0 && remaining_ttl_s < lease.ttl_s {
                checkpoints.push(Checkpoint { id, remaining_ttl_s });
            }
        }
        checkpoints
    }

    /// Schedules the next checkpoint of a lease if it has more time left than the interval.
    fn schedule_checkpoint(&mut self, id: LeaseId, now_ms: u64) {
        let interval_ms = CHECKPOINT_INTERVAL_S * 1000;
        let is_long = self.leases.get(&id).is_some_and(|lease| lease.left_ms() > interval_ms);
        let is_due = self.primary && self.checkpoints && is_long;
        self.set_checkpoint(id, is_due.then(|| now_ms.saturating_add(interval_ms)));
    }

    fn set_checkpoint(&mut self, id: LeaseId, checkpoint_ms: Option<u64>) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if let Some(before_ms) = std::mem::replace(&mut lease.checkpoint_ms, checkpoint_ms) {
            self.checkpoint_due.remove(&(before_ms, id));
        }
        if let Some(checkpoint_ms) = checkpoint_ms {
            self.checkpoint_due.insert((checkpoint_ms, id));
        }
    }

    /// Attaches a key to a lease and detaches it from its previous one. The bytes are copied, so that
    /// a key does not keep a larger buffer alive.
    ///
    /// # Errors
    /// `NotFound`; the key then keeps its lease.
    pub fn attach(&mut self, key: &[u8], id: LeaseId) -> Result<(), LeaseError> {
        if !self.leases.contains_key(&id) {
            return Err(LeaseError::NotFound);
        }
        if self.items.get(key) == Some(&id) {
            return Ok(());
        }
        self.detach(key);
        let key = Bytes::copy_from_slice(key);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
        self.items.insert(key, id);
        Ok(())
    }

    /// Detaches a key from its lease, if it has one.
    pub fn detach(&mut self, key: &[u8]) {
        if let Some(id) = self.items.remove(key)
            && let Some(lease) = self.leases.get_mut(&id)
        {
            lease.keys.remove(key);
        }
    }

    /// The keys of a lease in byte order; empty for a lease that does not exist.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.leases.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    /// The remaining time of a lease.
    ///
    /// # Errors
    /// `NotPrimary`, `NotFound`.
    pub fn time_to_live(&self, id: LeaseId, now_ms: u64) -> Result<TimeToLive, LeaseError> {
        if !self.primary {
            return Err(LeaseError::NotPrimary);
        }
        let lease = self.leases.get(&id).ok_or(LeaseError::NotFound)?;
        let ahead_s = i64::try_from(lease.expires_ms.saturating_sub(now_ms) / 1000);
        let behind_s = i64::try_from(now_ms.saturating_sub(lease.expires_ms) / 1000);
        let remaining_s = ahead_s.unwrap_or(i64::MAX) - behind_s.unwrap_or(i64::MAX);
        Ok(TimeToLive { granted_ttl_s: lease.ttl_s, remaining_s })
    }

    /// All leases, ordered by expiry if this member is primary, otherwise by id.
    #[must_use]
    pub fn list(&self) -> Vec<LeaseId> {
        let mut ids: Vec<(u64, LeaseId)> =
            self.leases.iter().map(|(id, lease)| (lease.expires_ms, *id)).collect();
        if self.primary {
            ids.sort_unstable();
        }
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Starts the clock: each lease gets its full TTL (or the time of its last checkpoint) plus
    /// `extend_ms` from now on. If many leases would expire together, some get more.
    pub fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.primary = true;
        let start_ms = now_ms.saturating_add(extend_ms);
        let mut queue: Vec<(u64, LeaseId)> = Vec::with_capacity(self.leases.len());
        for (id, lease) in &mut self.leases {
            lease.expires_ms = start_ms.saturating_add(lease.left_ms());
            lease.due_ms = lease.expires_ms;
            queue.push((lease.due_ms, *id));
        }
        queue.sort_unstable();
        if queue.len() >= SPREAD_FROM {
            self.spread(&mut queue, start_ms);
        }
        for (_, id) in &queue {
            self.schedule_checkpoint(*id, now_ms);
        }
        self.due = queue.into_iter().collect();
    }

    /// Delays leases so that at most [`DUE_PER_SECOND`] of `queue` are due in a second.
    fn spread(&mut self, queue: &mut [(u64, LeaseId)], start_ms: u64) {
        let Some((mut base_ms, _)) = queue.first().copied() else { return };
        let mut window_end_ms = base_ms.saturating_add(1000);
        let mut in_window: u64 = 0;
        for (due_ms, id) in queue {
            if *due_ms > window_end_ms {
                base_ms = *due_ms;
                window_end_ms = base_ms.saturating_add(1000);
                in_window = 1;
                continue;
            }
            in_window += 1;
            if in_window <= DUE_PER_SECOND {
                continue;
            }
            let delay_ms = (1000 * in_window / DUE_PER_SECOND).saturating_sub(*due_ms - base_ms);
            window_end_ms = base_ms.saturating_add(delay_ms);
            if let Some(lease) = self.leases.get_mut(id) {
                let left_ms = lease.left_ms();
                lease.expires_ms = start_ms.saturating_add(left_ms).saturating_add(delay_ms);
                lease.due_ms = lease.expires_ms;
                *due_ms = lease.due_ms;
            }
        }
    }

    /// Stops the clock.
    pub fn demote(&mut self) {
        self.primary = false;
        self.due.clear();
        self.checkpoint_due.clear();
        for lease in self.leases.values_mut() {
            lease.expires_ms = 0;
            lease.due_ms = 0;
            lease.checkpoint_ms = None;
        }
    }

    /// Up to `limit` expired leases, the longest expired first. Each is returned again after
    /// [`EXPIRED_RETRY_MS`] until it is revoked.
    pub fn expired(&mut self, now_ms: u64, limit: usize) -> Vec<LeaseId> {
        let mut ids = Vec::new();
        while ids.len() < limit {
            let Some(&(due_ms, id)) = self.due.first() else { break };
            if due_ms > now_ms {
                break;
            }
            self.due.pop_first();
            let lease = self.leases.get_mut(&id);
            let lease = lease.expect("a queued lease exists: revoke takes it from the queue");
            lease.due_ms = now_ms.saturating_add(EXPIRED_RETRY_MS);
            self.due.insert((lease.due_ms, id));
            ids.push(id);
        }
        ids
    }

    fn set_expiry(&mut self, id: LeaseId, expires_ms: u64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.due.remove(&(lease.due_ms, id));
            lease.expires_ms = expires_ms;
            lease.due_ms = expires_ms;
            self.due.insert((expires_ms, id));
        }
    }

    /// Asserts the invariants of the type; for tests and simulations.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        let queued = if self.primary { self.leases.len() } else { 0 };
        assert_eq!(self.due.len(), queued, "each lease of a primary is queued once, others never");
        for (due_ms, id) in &self.due {
            let lease = self.leases.get(id);
            let stands = lease.is_some_and(|lease| lease.due_ms == *due_ms);
            assert!(stands, "lease {id} is queued at its due time");
        }
        for (checkpoint_ms, id) in &self.checkpoint_due {
            let stands = self.leases.get(id).map(|lease| lease.checkpoint_ms);
            assert_eq!(stands, Some(Some(*checkpoint_ms)), "lease {id} is queued once");
        }
        let scheduled = self.leases.values().filter(|lease| lease.checkpoint_ms.is_some()).count();
        assert_eq!(scheduled, self.checkpoint_due.len(), "each scheduled checkpoint is queued");
        let keys: usize = self.leases.values().map(|lease| lease.keys.len()).sum();
        assert_eq!(keys, self.items.len(), "leases and items have the same keys");
        for (key, id) in &self.items {
            let lease = self.leases.get(id);
            let holds = lease.is_some_and(|lease| lease.keys.contains(key));
            assert!(holds, "lease {id} holds the key that points to it");
        }
    }
}

#[cfg(test)]
mod tests;
