//! The duties of a leader, and the answers to questions around the beginning and the end of its
//! leadership.

use crate::support::{World, grant, replies, settings};
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, InternalRaftRequest, LeaseRevokeRequest, alarm_request::AlarmAction,
};
use proto::{LeaseId, Term};
use state::{Effect, Input, Leader, LeaseQuery, Question, Reply};

fn leads(term: u64) -> Input {
    Input::Leadership(Term(term), if term > 0 { Leader::Me } else { Leader::Unknown })
}

fn keep_alive(id: u64, lease: i64) -> Input {
    ask(id, LeaseQuery::KeepAlive(LeaseId(lease)))
}

fn ask(id: u64, query: LeaseQuery) -> Input {
    Input::Ask(id, Question { caller: None, query })
}

fn revokes(effects: &[Effect]) -> Vec<i64> {
    let revoke = |effect: &Effect| match effect {
        Effect::Propose(request, _) => request.lease_revoke.as_ref().map(|revoke| revoke.id),
        Effect::Commit(_)
        | Effect::Publish(_)
        | Effect::Tokens(_)
        | Effect::Events(_)
        | Effect::Answer(..)
        | Effect::Reply(..)
        | Effect::ConfChanged(_)
        | Effect::Applied(_)
        | Effect::Snapshot(_) => None,
    };
    effects.iter().filter_map(revoke).collect()
}

#[test]
fn a_keep_alive_before_the_first_entry_of_the_term_finds_leases_of_earlier_entries() {
    let mut world = World::new(settings());
    world.step(leads(2));
    assert_eq!(replies(world.step(keep_alive(1, 5))), [], "the log is not applied yet");
    assert_eq!(replies(world.apply(1, grant(5, 10))), [], "an entry of an earlier term");
    let answered = replies(world.apply_empty(2));
    assert_eq!(answered, [(1, Reply::KeptAlive { ttl_s: 10 })]);
}

#[test]
fn a_time_to_live_before_the_first_entry_of_the_term_waits_too() {
    let mut world = World::new(settings());
    world.step(leads(2));
    let query = LeaseQuery::TimeToLive { lease: LeaseId(5), keys: true };
    assert_eq!(replies(world.step(ask(1, query))), []);
    world.apply(1, grant(5, 10));
    let answered = replies(world.apply_empty(2));
    let found = Reply::TimeToLive { granted_ttl_s: 10, remaining_s: 11, keys: Vec::new() };
    assert_eq!(answered, [(1, found)]);
}

#[test]
fn leases_get_their_clock_when_the_first_entry_of_the_term_is_applied() {
    let mut world = World::new(settings());
    world.apply(1, grant(5, 10));
    world.step(leads(2));
    world.now_ms = 60_000;
    assert!(revokes(&world.step(Input::Tick)).is_empty(), "not promoted yet");
    world.apply_empty(2);
    world.now_ms += 10_999;
    assert!(revokes(&world.step(Input::Tick)).is_empty());
    world.now_ms += 1;
    assert_eq!(revokes(&world.step(Input::Tick)), [5]);
}

#[test]
fn leadership_begins_at_once_if_an_entry_of_the_term_is_applied_already() {
    let mut world = World::new(settings());
    world.apply(2, grant(5, 10));
    world.step(leads(2));
    let answered = replies(world.step(keep_alive(1, 5)));
    assert_eq!(answered, [(1, Reply::KeptAlive { ttl_s: 10 })]);
}

#[test]
fn keep_alives_that_wait_for_the_first_entry_are_refused_when_leadership_ends() {
    let mut world = World::new(settings());
    world.step(leads(2));
    world.step(keep_alive(1, 5));
    assert_eq!(replies(world.step(leads(0))), [(1, Reply::NotLeader)]);
    assert_eq!(replies(world.apply_empty(2)), [], "answered once");
}

#[test]
fn a_keep_alive_that_waits_for_a_revocation_is_refused_when_leadership_ends() {
    let mut world = World::new(settings());
    world.apply(1, grant(5, 10));
    world.step(leads(1));
    world.now_ms = 20_000;
    assert_eq!(replies(world.step(keep_alive(1, 5))), [], "it waits for the revocation");
    assert_eq!(replies(world.step(leads(0))), [(1, Reply::NotLeader)]);
    let revoke = Some(LeaseRevokeRequest { id: 5 });
    let revoke = InternalRaftRequest { lease_revoke: revoke, ..InternalRaftRequest::default() };
    assert_eq!(replies(world.apply(2, revoke)), [], "answered once");
}

#[test]
fn a_new_term_of_the_same_leader_ends_the_old_one() {
    let mut world = World::new(settings());
    world.apply(1, grant(5, 10));
    world.step(leads(1));
    world.now_ms = 20_000;
    world.step(keep_alive(1, 5));
    assert_eq!(replies(world.step(leads(2))), [(1, Reply::NotLeader)]);
    world.step(keep_alive(2, 5));
    assert_eq!(replies(world.apply_empty(2)), [(2, Reply::KeptAlive { ttl_s: 10 })]);
}

fn corrupt() -> InternalRaftRequest {
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 7,
        alarm: AlarmType::Corrupt.into(),
    };
    InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() }
}

#[test]
fn a_keep_alive_of_an_expired_lease_is_refused_behind_the_corrupt_alarm() {
    let mut world = World::new(settings());
    world.apply(1, grant(5, 10));
    world.step(leads(1));
    world.now_ms = 20_000;
    assert_eq!(replies(world.step(keep_alive(1, 5))), [], "it waits for the revocation");
    assert_eq!(replies(world.apply(1, corrupt())), [(1, Reply::Corrupt)]);
    assert_eq!(replies(world.step(keep_alive(2, 5))), [(2, Reply::Corrupt)]);
}
