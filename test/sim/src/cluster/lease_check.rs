//! Checks the guarantee for leases: a lease does not expire before its TTL has passed since it was
//! granted or renewed, even if the leader changes. A late expiry is allowed while there is no
//! leader, so lateness is checked at the end, when all faults have ended.

use super::clock::SECOND;
use std::collections::BTreeMap;

/// The guarantee holds if clocks run at most this much faster than the world, in parts per million.
pub(crate) const DRIFT_MAX: u64 = 50_000;

#[derive(Clone, Copy, Debug)]
struct KnownLease {
    ttl: u64,
    /// When the client sent the request for the grant, or for the last answered renewal. A client
    /// has only one call in flight.
    renewed: u64,
    /// The sum of all clock jumps up to then.
    jumped: u64,
    /// A client has sent a request to revoke it.
    given_up: bool,
}

/// The leases of all clients.
#[derive(Debug, Default)]
pub(crate) struct CheckedLeases {
    leases: BTreeMap<i64, KnownLease>,
    /// The sum of all clock jumps.
    pub(crate) jumped: u64,
    /// Leases that expired.
    pub(crate) expired: u64,
}

impl CheckedLeases {
    /// Called when a grant is answered: with the time of its request, and the sum of clock jumps
    /// then.
    pub(crate) fn granted(&mut self, id: i64, ttl_s: i64, (asked, jumped): (u64, u64)) {
        let ttl = u64::try_from(ttl_s).unwrap_or(0) * SECOND;
        let lease = KnownLease { ttl, renewed: asked, jumped, given_up: false };
        self.leases.insert(id, lease);
    }

    /// Called when a renewal is answered: with the time of its request, and the sum of clock jumps
    /// then.
    pub(crate) fn renewed(&mut self, id: i64, (asked, jumped): (u64, u64)) {
        if let Some(lease) = self.leases.get_mut(&id) {
            (lease.renewed, lease.jumped) = (asked, jumped);
        }
    }

    /// Called when a client sends a request to revoke a lease.
    pub(crate) fn give_up(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.given_up = true;
        }
    }

    /// Called when a lease is revoked.
    ///
    /// # Errors
    /// When this is too early.
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
