//! Tests of single operations. Tests of sequences are in tests/model.rs.

use super::*;
use crate::ttl_s_min;

fn primary(ttl_s_min: i64) -> Lessor {
    let mut lessor = Lessor::new(ttl_s_min);
    lessor.promote(0, 0);
    lessor
}

#[test]
fn the_shortest_time_to_live_is_one_and_a_half_election_timeouts() {
    assert_eq!(ttl_s_min(10, 100), 2);
    assert_eq!(ttl_s_min(10, 200), 3);
    assert_eq!(ttl_s_min(3, 100), 1, "3 * 3 / 2 is 4 ticks");
    assert_eq!(ttl_s_min(u64::MAX, u64::MAX), 18_446_744_073_709_552);
}

#[test]
fn a_short_or_negative_time_to_live_is_raised() {
    for ttl_s in [i64::MIN, -1, 0, 1, 2] {
        assert_eq!(primary(2).grant(LeaseId(1), ttl_s, 0).map(|granted| granted.ttl_s), Ok(2));
    }
}

#[test]
fn a_grant_is_refused_as_etcd_refuses_it() {
    let mut lessor = primary(2);
    assert_eq!(lessor.grant(LeaseId(0), 10, 0), Err(LeaseError::NotFound));
    assert_eq!(lessor.grant(LeaseId(1), TTL_S_MAX + 1, 0), Err(LeaseError::TtlTooLarge));
    assert!(lessor.grant(LeaseId(1), TTL_S_MAX, 0).is_ok());
    assert_eq!(lessor.grant(LeaseId(1), 10, 0), Err(LeaseError::Exists));
}

#[test]
fn a_negative_id_is_a_lease_like_any_other() {
    let mut lessor = primary(2);
    for id in [-1, i64::MIN, i64::MAX] {
        let granted = lessor.grant(LeaseId(id), 10, 0).unwrap();
        let again = Lessor::restore(2, [(granted.write.key, granted.write.value.unwrap())]);
        assert!(again.unwrap().contains(LeaseId(id)));
        lessor.attach(b"k", LeaseId(id)).unwrap();
        assert_eq!(lessor.revoke(LeaseId(id)).unwrap().keys, [Bytes::from_static(b"k")]);
    }
    lessor.check();
}

#[test]
fn revoked_keys_come_in_byte_order() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    for key in [&b"b"[..], b"a\xff", b"a", b"\xff", b""] {
        lessor.attach(key, LeaseId(1)).unwrap();
    }
    let revoked = lessor.revoke(LeaseId(1)).unwrap();
    assert_eq!(revoked.keys, [&b""[..], b"a", b"a\xff", b"b", b"\xff"]);
    assert_eq!(revoked.write.value, None);
    assert_eq!(lessor.revoke(LeaseId(1)), Err(LeaseError::NotFound));
}

#[test]
fn a_key_moves_to_its_new_lease() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    lessor.grant(LeaseId(2), 10, 0).unwrap();
    lessor.attach(b"k", LeaseId(1)).unwrap();
    lessor.attach(b"k", LeaseId(2)).unwrap();
    assert_eq!(lessor.keys(LeaseId(1)).count(), 0);
    assert_eq!(lessor.attach(b"k", LeaseId(3)), Err(LeaseError::NotFound));
    lessor.detach(b"k");
    lessor.detach(b"never attached");
    assert_eq!(lessor.revoke(LeaseId(2)).unwrap().keys, [] as [Bytes; 0]);
}

#[test]
fn an_expired_lease_is_not_renewed() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 1000).unwrap();
    let renewed = Renewal::Renewed { ttl_s: 10 };
    assert_eq!(lessor.renew(LeaseId(1), 10_999), Ok(renewed));
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Ok(Renewal::AwaitRevoke));
    lessor.revoke(LeaseId(1)).unwrap();
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Err(LeaseError::NotFound));
    lessor.demote();
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Err(LeaseError::NotPrimary));
}

#[test]
fn an_expired_lease_is_returned_again_after_the_retry_time() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    assert_eq!(lessor.expired(9_999, 10), []);
    assert_eq!(lessor.expired(10_000, 10), [LeaseId(1)]);
    assert_eq!(lessor.expired(12_999, 10), []);
    assert_eq!(lessor.expired(13_000, 10), [LeaseId(1)]);
    lessor.check();
}

#[test]
fn the_remaining_time_is_in_whole_seconds() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    let left = |now_ms| lessor.time_to_live(LeaseId(1), now_ms).unwrap().remaining_s;
    assert_eq!([0, 1, 9_001, 10_999, 11_000].map(left), [10, 9, 0, 0, -1]);
    assert_eq!(lessor.time_to_live(LeaseId(2), 0), Err(LeaseError::NotFound));
}

#[test]
fn a_promotion_restarts_all_leases() {
    let mut lessor = Lessor::new(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    lessor.grant(LeaseId(2), 10, 0).unwrap();
    lessor.checkpoint(Checkpoint { id: LeaseId(2), remaining_ttl_s: 4 }, 0);
    lessor.promote(50_000, 1_000);
    assert_eq!(lessor.list(), [LeaseId(2), LeaseId(1)]);
    assert_eq!(lessor.expired(54_999, 10), []);
    assert_eq!(lessor.expired(55_000, 10), [LeaseId(2)]);
    assert_eq!(lessor.expired(61_000, 10), [LeaseId(2), LeaseId(1)]);
    lessor.demote();
    lessor.check();
}

fn checkpoint(id: i64, remaining_ttl_s: i64) -> Checkpoint {
    Checkpoint { id: LeaseId(id), remaining_ttl_s }
}

#[test]
fn a_checkpoint_is_stored_and_has_to_be_cleared_before_a_renewal() {
    let mut lessor = primary(2);
    let granted = lessor.grant(LeaseId(1), 10, 0).unwrap();
    let stored = lessor.checkpoint(checkpoint(1, 4), 0).unwrap();
    let value = StoredLease { id: LeaseId(1), ttl_s: 10, remaining_ttl_s: 4 }.encode();
    assert_eq!(stored.value, Some(value));
    assert_eq!(lessor.renew(LeaseId(1), 1), Ok(Renewal::AwaitClear));
    assert_eq!(lessor.time_to_live(LeaseId(1), 1).unwrap().remaining_s, 9, "its expiry stays");
    assert_eq!(lessor.checkpoint(checkpoint(1, 0), 1), Some(granted.write));
    assert_eq!(lessor.renew(LeaseId(1), 5_000), Ok(Renewal::Renewed { ttl_s: 10 }));
    assert_eq!(lessor.time_to_live(LeaseId(1), 5_000).unwrap().remaining_s, 10);
    assert_eq!(lessor.checkpoint(checkpoint(2, 0), 0), None);
}

fn with_checkpoints() -> Lessor {
    let mut lessor = Lessor::new(2);
    lessor.set_checkpoints(true);
    lessor.promote(0, 0);
    lessor
}

#[test]
fn leases_longer_than_the_interval_are_checkpointed_until_less_is_left() {
    let mut lessor = with_checkpoints();
    lessor.grant(LeaseId(1), 300, 0).unwrap();
    lessor.grant(LeaseId(2), 700, 0).unwrap();
    assert_eq!(lessor.due_checkpoints(299_999, 10), []);
    assert_eq!(lessor.due_checkpoints(300_000, 10), [checkpoint(2, 400)]);
    lessor.checkpoint(checkpoint(2, 400), 300_000);
    assert_eq!(lessor.due_checkpoints(599_999, 10), []);
    assert_eq!(lessor.due_checkpoints(600_500, 10), [checkpoint(2, 100)], "rounded up");
    lessor.checkpoint(checkpoint(2, 100), 600_500);
    assert_eq!(lessor.due_checkpoints(699_999, 10), []);
    lessor.check();
}

#[test]
fn a_lost_checkpoint_is_due_again_and_a_renewed_lease_needs_none() {
    let mut lessor = with_checkpoints();
    lessor.grant(LeaseId(1), 3_000, 0).unwrap();
    assert_eq!(lessor.due_checkpoints(300_000, 10), [checkpoint(1, 2_700)]);
    assert_eq!(lessor.due_checkpoints(600_000, 10), [checkpoint(1, 2_400)], "the first was lost");
    assert_eq!(lessor.renew(LeaseId(1), 900_000), Ok(Renewal::Renewed { ttl_s: 3_000 }));
    assert_eq!(lessor.due_checkpoints(900_000, 10), []);
    assert_eq!(lessor.due_checkpoints(1_200_000, 10), [checkpoint(1, 2_700)]);
    lessor.revoke(LeaseId(1)).unwrap();
    lessor.check();
    assert_eq!(lessor.due_checkpoints(9_000_000, 10), []);
}

#[test]
fn checkpoints_come_in_batches_and_only_from_a_primary_with_the_feature() {
    let mut lessor = with_checkpoints();
    for id in 1..=5 {
        lessor.grant(LeaseId(id), 400, 0).unwrap();
    }
    assert_eq!(lessor.due_checkpoints(300_000, 3).len(), 3);
    assert_eq!(lessor.due_checkpoints(300_000, 3).len(), 2);
    lessor.demote();
    lessor.check();
    assert_eq!(lessor.due_checkpoints(900_000, 3), []);
    let mut without = primary(2);
    without.grant(LeaseId(1), 400, 0).unwrap();
    assert_eq!(without.due_checkpoints(900_000, 3), []);
}

#[test]
fn a_promotion_spreads_leases_that_would_expire_together() {
    let mut lessor = Lessor::new(2);
    for id in 1..=10_000 {
        lessor.grant(LeaseId(id), 10, 0).unwrap();
    }
    lessor.promote(0, 0);
    lessor.check();
    for second in 0..20 {
        let from_ms = 10_000 + second * 1000;
        let due = lessor.due.range((from_ms, LeaseId(i64::MIN))..(from_ms + 1000, LeaseId(0)));
        let due = due.count();
        assert!(due <= 751, "{due} leases are due in second {second}");
    }
    assert!(lessor.due.iter().all(|(due_ms, _)| (10_000..25_000).contains(due_ms)));
}

#[test]
fn a_stored_lease_below_the_shortest_time_to_live_is_raised() {
    let mut old = Lessor::new(2);
    let write = old.grant(LeaseId(1), 2, 0).unwrap().write;
    let mut lessor = Lessor::restore(5, [(write.key, write.value.unwrap())]).unwrap();
    lessor.promote(0, 0);
    assert_eq!(lessor.time_to_live(LeaseId(1), 0).unwrap().granted_ttl_s, 5);
}

#[test]
fn absurd_stored_times_do_not_overflow() {
    let stored = [(1, i64::MAX, i64::MIN), (2, i64::MIN, i64::MAX)].map(|(id, ttl_s, left_s)| {
        let lease = StoredLease { id: LeaseId(id), ttl_s, remaining_ttl_s: left_s };
        (StoredLease::key(lease.id), lease.encode())
    });
    let mut lessor = Lessor::restore(2, stored).unwrap();
    lessor.promote(u64::MAX - 5, 10);
    assert_eq!(lessor.expired(u64::MAX - 1, 10), []);
    lessor.time_to_live(LeaseId(1), 0).unwrap();
    lessor.check();
}
