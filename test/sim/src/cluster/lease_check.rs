//! What a client is promised of a lease: it does not expire before its time to live has passed since
//! it was granted or renewed, whoever leads. How late it expires depends on when there is a leader,
//! so that lateness is checked at the end, when all faults have ended.

use super::clock::SECOND;
use std::collections::BTreeMap;

/// Clocks run at most so much faster than time, in parts of a million: the bound under which leases
/// are promised anything.
pub(crate) const DRIFT_MAX: u64 = 50_000;

#[derive(Clone, Copy, Debug)]
struct KnownLease {
    ttl: u64,
    /// When the client asked for the grant, or for the last renewal that was answered. A client has
    /// one call under way.
    renewed: u64,
    /// How far clocks had jumped in all by then.
    jumped: u64,
    /// A client has asked to revoke it.
    given_up: bool,
}

/// The leases of all clients.
#[derive(Debug, Default)]
pub(crate) struct CheckedLeases {
    leases: BTreeMap<i64, KnownLease>,
    /// How far clocks have jumped forward in all.
    pub(crate) jumped: u64,
    /// Leases that expired.
    pub(crate) expired: u64,
}

impl CheckedLeases {
    /// A grant was answered, which the client asked for at this time, when clocks had jumped so far.
    pub(crate) fn granted(&mut self, id: i64, ttl_s: i64, (asked, jumped): (u64, u64)) {
        let ttl = u64::try_from(ttl_s).unwrap_or(0) * SECOND;
        let lease = KnownLease { ttl, renewed: asked, jumped, given_up: false };
        self.leases.insert(id, lease);
    }

    /// A renewal was answered, which the client asked for at this time, when clocks had jumped so
    /// far.
    pub(crate) fn renewed(&mut self, id: i64, (asked, jumped): (u64, u64)) {
        if let Some(lease) = self.leases.get_mut(&id) {
            (lease.renewed, lease.jumped) = (asked, jumped);
        }
    }

    /// A client asks to revoke a lease.
    pub(crate) fn give_up(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.given_up = true;
        }
    }

    /// A lease was revoked.
    ///
    /// # Errors
    /// When it was too early.
    pub(crate) fn revoked(&mut self, id: i64, now: u64) -> Result<(), String> {
        let Some(lease) = self.leases.remove(&id) else { return Ok(()) };
        if lease.given_up {
            return Ok(());
        }
        self.expired += 1;
        let least = lease.ttl * 1_000_000 / (1_000_000 + DRIFT_MAX);
        let jumps = self.jumped - lease.jumped;
        let lived = now - lease.renewed + jumps;
        if lived < least {
            return Err(format!(
                "lease {id:x} of {} s was revoked {} ms after its last renewal",
                lease.ttl / SECOND,
                (now - lease.renewed) / 1_000
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_may_expire_after_its_time_and_not_before() {
        let mut leases = CheckedLeases::default();
        leases.granted(1, 10, (0, 0));
        leases.renewed(1, (5 * SECOND, 0));
        assert!(leases.clone_for_test().revoked(1, 14 * SECOND).is_err());
        assert_eq!(leases.clone_for_test().revoked(1, 15 * SECOND), Ok(()));
        leases.jumped += 2 * SECOND;
        assert_eq!(leases.clone_for_test().revoked(1, 13 * SECOND), Ok(()), "a clock has jumped");
        leases.give_up(1);
        assert_eq!(leases.revoked(1, 6 * SECOND), Ok(()), "a client wanted it");
    }

    impl CheckedLeases {
        fn clone_for_test(&self) -> CheckedLeases {
            CheckedLeases { leases: self.leases.clone(), ..*self }
        }
    }
}
