//! Facts about single operations; sequences are in tests/model.rs.

use super::*;
use crate::ttl_s_min;

fn primary(ttl_s_min: i64) -> Lessor {
    let mut lessor = Lessor::new(ttl_s_min);
    lessor.promote(0, 0);
    lessor
}

#[test]
fn the_least_time_to_live_is_one_and_a_half_election_timeouts() {
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
    assert_eq!(lessor.grant(LeaseId(0), 10, 0), Err(Reject::NotFound));
    assert_eq!(lessor.grant(LeaseId(1), TTL_S_MAX + 1, 0), Err(Reject::TtlTooLarge));
    assert!(lessor.grant(LeaseId(1), TTL_S_MAX, 0).is_ok());
    assert_eq!(lessor.grant(LeaseId(1), 10, 0), Err(Reject::Exists));
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
    assert_eq!(lessor.lease_of(b"a"), None);
    assert_eq!(lessor.revoke(LeaseId(1)), Err(Reject::NotFound));
}

#[test]
fn a_key_moves_to_its_new_lease() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    lessor.grant(LeaseId(2), 10, 0).unwrap();
    lessor.attach(b"k", LeaseId(1)).unwrap();
    lessor.attach(b"k", LeaseId(2)).unwrap();
    assert_eq!(lessor.keys(LeaseId(1)).count(), 0);
    assert_eq!(lessor.attach(b"k", LeaseId(3)), Err(Reject::NotFound));
    assert_eq!(lessor.lease_of(b"k"), Some(LeaseId(2)));
    lessor.detach(b"k");
    lessor.detach(b"never attached");
    assert_eq!(lessor.revoke(LeaseId(2)).unwrap().keys, [] as [Bytes; 0]);
}

#[test]
fn an_expired_lease_is_not_renewed() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 1000).unwrap();
    let renewed = Renewal::Renewed { ttl_s: 10, checkpointed: false };
    assert_eq!(lessor.renew(LeaseId(1), 10_999), Ok(renewed));
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Ok(Renewal::AwaitRevoke));
    lessor.revoke(LeaseId(1)).unwrap();
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Err(Reject::NotFound));
    lessor.demote();
    assert_eq!(lessor.renew(LeaseId(1), 20_999), Err(Reject::NotPrimary));
}

#[test]
fn an_expired_lease_is_named_again_after_a_while() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    assert_eq!(lessor.expired(9_999, 10), []);
    assert_eq!(lessor.next_due_ms(), Some(10_000));
    assert_eq!(lessor.expired(10_000, 10), [LeaseId(1)]);
    assert_eq!(lessor.expired(12_999, 10), []);
    assert_eq!(lessor.expired(13_000, 10), [LeaseId(1)]);
    lessor.check();
}

#[test]
fn what_is_left_is_told_in_whole_seconds() {
    let mut lessor = primary(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    let left = |now_ms| lessor.time_to_live(LeaseId(1), now_ms).unwrap().remaining_s;
    assert_eq!([0, 1, 9_001, 10_999, 11_000].map(left), [10, 9, 0, 0, -1]);
    assert_eq!(lessor.time_to_live(LeaseId(2), 0), Err(Reject::NotFound));
}

#[test]
fn a_promotion_gives_all_their_time_again() {
    let mut lessor = Lessor::new(2);
    lessor.grant(LeaseId(1), 10, 0).unwrap();
    lessor.grant(LeaseId(2), 10, 0).unwrap();
    lessor.checkpoint(LeaseId(2), 4);
    assert_eq!(lessor.next_due_ms(), None);
    lessor.promote(50_000, 1_000);
    assert_eq!(lessor.list(), [LeaseId(2), LeaseId(1)]);
    assert_eq!(lessor.expired(54_999, 10), []);
    assert_eq!(lessor.expired(55_000, 10), [LeaseId(2)]);
    assert_eq!(lessor.expired(61_000, 10), [LeaseId(2), LeaseId(1)]);
    lessor.demote();
    lessor.check();
}

#[test]
fn a_checkpoint_is_stored_and_told_at_renewal() {
    let mut lessor = primary(2);
    let granted = lessor.grant(LeaseId(1), 10, 0).unwrap();
    let stored = lessor.checkpoint(LeaseId(1), 4).unwrap();
    assert_ne!(granted.write, stored);
    let renewed = Renewal::Renewed { ttl_s: 10, checkpointed: true };
    assert_eq!(lessor.renew(LeaseId(1), 1), Ok(renewed));
    assert_eq!(lessor.checkpoint(LeaseId(1), 0), Some(granted.write));
    assert_eq!(lessor.checkpoint(LeaseId(2), 0), None);
}

#[test]
fn many_leases_that_fall_due_together_are_spread_at_promotion() {
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
        assert!(due <= 751, "{due} leases fall due in second {second}");
    }
    assert!(lessor.due.iter().all(|(due_ms, _)| (10_000..25_000).contains(due_ms)));
}

#[test]
fn a_stored_lease_below_the_least_time_to_live_is_raised() {
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
