//! Seeded sequences of operations, compared with a model that keeps a plain list of leases.

use lease::{LeaseError, Lessor, Renewal};
use proto::LeaseId;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;

const TTL_S_MIN: i64 = 2;

#[derive(Default)]
struct Twin {
    primary: bool,
    /// Id, TTL, when it expires, and when it is next returned as expired.
    leases: Vec<(LeaseId, i64, u64, u64)>,
    keys: BTreeMap<Vec<u8>, LeaseId>,
}

impl Twin {
    fn position(&self, id: LeaseId) -> Option<usize> {
        self.leases.iter().position(|lease| lease.0 == id)
    }

    fn grant(&mut self, id: LeaseId, ttl_s: i64, now_ms: u64) -> Result<i64, LeaseError> {
        if self.position(id).is_some() {
            return Err(LeaseError::Exists);
        }
        let ttl_s = ttl_s.max(TTL_S_MIN);
        let due_ms = now_ms + ttl_s.unsigned_abs() * 1000;
        self.leases.push((id, ttl_s, due_ms, due_ms));
        Ok(ttl_s)
    }

    fn revoke(&mut self, id: LeaseId) -> Result<Vec<Vec<u8>>, LeaseError> {
        let at = self.position(id).ok_or(LeaseError::NotFound)?;
        self.leases.remove(at);
        let keys: Vec<Vec<u8>> =
            self.keys.iter().filter(|(_, of)| **of == id).map(|(key, _)| key.clone()).collect();
        self.keys.retain(|_, of| *of != id);
        Ok(keys)
    }

    fn renew(&mut self, id: LeaseId, now_ms: u64) -> Result<Renewal, LeaseError> {
        if !self.primary {
            return Err(LeaseError::NotPrimary);
        }
        let at = self.position(id).ok_or(LeaseError::NotFound)?;
        let lease = &mut self.leases[at];
        if lease.2 <= now_ms {
            return Ok(Renewal::AwaitRevoke);
        }
        lease.2 = now_ms + lease.1.unsigned_abs() * 1000;
        lease.3 = lease.2;
        Ok(Renewal::Renewed { ttl_s: lease.1 })
    }

    fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.primary = true;
        for lease in &mut self.leases {
            lease.2 = now_ms + extend_ms + lease.1.unsigned_abs() * 1000;
            lease.3 = lease.2;
        }
    }

    fn expired(&mut self, now_ms: u64, limit: usize) -> Vec<LeaseId> {
        if !self.primary {
            return Vec::new();
        }
        let mut due: Vec<_> = self.leases.iter_mut().filter(|lease| lease.3 <= now_ms).collect();
        due.sort_by_key(|lease| (lease.3, lease.0));
        due.truncate(limit);
        due.iter_mut().for_each(|lease| lease.3 = now_ms + lease::EXPIRED_RETRY_MS);
        due.into_iter().map(|lease| lease.0).collect()
    }
}

fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut lessor = Lessor::new(TTL_S_MIN);
    let mut twin = Twin::default();
    let mut now_ms = 0;
    for step in 0..3000 {
        now_ms += rng.random_range(0..400);
        let id = LeaseId([1, 2, 3, 4, 5, -1, i64::MIN, i64::MAX][rng.random_range(0..8)]);
        let key = vec![b'a' + rng.random_range(0..20); rng.random_range(1..3)];
        let context = format!("seed {seed}, step {step}, lease {id}");
        match rng.random_range(0..20) {
            0..5 => {
                let ttl_s = rng.random_range(-2..20);
                let granted = lessor.grant(id, ttl_s, now_ms).map(|granted| granted.ttl_s);
                assert_eq!(granted, twin.grant(id, ttl_s, now_ms), "{context}");
            }
            5..8 => {
                let revoked = lessor
                    .revoke(id)
                    .map(|revoked| revoked.keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
                assert_eq!(revoked, twin.revoke(id), "{context}");
            }
            8..11 => assert_eq!(lessor.renew(id, now_ms), twin.renew(id, now_ms), "{context}"),
            11..15 => {
                let attached = lessor.attach(&key, id);
                assert_eq!(attached.is_ok(), twin.position(id).is_some(), "{context}");
                if attached.is_ok() {
                    twin.keys.insert(key, id);
                }
            }
            15 => {
                lessor.detach(&key);
                twin.keys.remove(&key);
            }
            16..18 => {
                let limit = rng.random_range(0..4);
                assert_eq!(lessor.expired(now_ms, limit), twin.expired(now_ms, limit), "{context}");
            }
            18 => {
                let extend_ms = rng.random_range(0..2000);
                lessor.promote(now_ms, extend_ms);
                twin.promote(now_ms, extend_ms);
            }
            _ => {
                lessor.demote();
                twin.primary = false;
            }
        }
        lessor.check();
        assert_eq!(lessor.len(), twin.leases.len(), "{context}");
    }
}

#[test]
fn the_lessor_agrees_with_a_list_of_leases() {
    for seed in 0..20 {
        run(seed);
    }
}
