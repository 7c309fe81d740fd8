//! Checkpoints of leases: their proposals, their effects, and when they are stored.

use crate::support::{World, grant, replies, settings};
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};
use proto::membershippb::ClusterVersionSetRequest;
use proto::{LeaseId, Term};
use state::{Effect, Input, Leader, LeaseCheckpoints, LeaseQuery, Question, Reply, Settings};

const PROPOSE: LeaseCheckpoints = LeaseCheckpoints { propose: true, persist: false };

fn with(lease_checkpoints: LeaseCheckpoints) -> Settings {
    Settings { lease_checkpoints, ..settings() }
}

fn leading(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.step(Input::Leadership(Term(1), Leader::Me));
    world.apply_empty(1);
    world
}

fn checkpoint(id: i64, remaining_ttl: i64) -> InternalRaftRequest {
    let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
    let request = Some(LeaseCheckpointRequest { checkpoints });
    InternalRaftRequest { lease_checkpoint: request, ..InternalRaftRequest::default() }
}

fn cluster_version(version: &str) -> InternalRaftRequest {
    let set = Some(ClusterVersionSetRequest { ver: version.into() });
    InternalRaftRequest { cluster_version_set: set, ..InternalRaftRequest::default() }
}

fn ask(id: u64, query: LeaseQuery) -> Input {
    Input::Ask(id, Question { caller: None, query })
}

fn keep_alive(id: u64, lease: i64) -> Input {
    ask(id, LeaseQuery::KeepAlive(LeaseId(lease)))
}

/// The checkpoints proposed among some effects, by entry.
fn entries(effects: &[Effect]) -> Vec<Vec<(i64, i64)>> {
    let pair = |checkpoint: &LeaseCheckpoint| (checkpoint.id, checkpoint.remaining_ttl);
    let requests = effects.iter().filter_map(|effect| match effect {
        Effect::Propose(request, _) => request.lease_checkpoint.as_ref(),
        Effect::Commit(_)
        | Effect::Publish(_)
        | Effect::Tokens(_)
        | Effect::Events(_)
        | Effect::Answer(..)
        | Effect::Reply(..)
        | Effect::ConfChanged(_)
        | Effect::Applied(_)
        | Effect::Snapshot(_) => None,
    });
    requests.map(|request| request.checkpoints.iter().map(pair).collect()).collect()
}

fn proposed(effects: &[Effect]) -> Vec<(i64, i64)> {
    entries(effects).concat()
}

/// The remaining time of lease 5 after the next leader's promotion, in seconds.
fn left_after_promotion(world: &mut World, term: u64) -> i64 {
    world.step(Input::Leadership(Term(1), Leader::Unknown));
    world.step(Input::Leadership(Term(term), Leader::Me));
    world.apply_empty(term);
    let query = LeaseQuery::TimeToLive { lease: LeaseId(5), keys: false };
    match &replies(world.step(ask(1, query)))[..] {
        [(1, Reply::TimeToLive { remaining_s, .. })] => *remaining_s,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leader_with_the_feature_proposes_checkpoints_every_five_minutes() {
    let mut world = leading(with(PROPOSE));
    world.apply(1, grant(5, 1_000));
    world.apply(1, grant(6, 200));
    world.now_ms = 299_999;
    assert!(proposed(&world.step(Input::Tick)).is_empty());
    world.now_ms = 300_000;
    assert_eq!(proposed(&world.step(Input::Tick)), [(5, 700)]);
    assert!(proposed(&world.step(Input::Tick)).is_empty());

    let mut without = leading(settings());
    without.apply(1, grant(5, 1_000));
    without.now_ms = 300_000;
    assert!(proposed(&without.step(Input::Tick)).is_empty());
}

#[test]
fn a_thousand_checkpoints_share_an_entry() {
    let mut world = leading(with(PROPOSE));
    for id in 1..=1_500 {
        world.apply(1, grant(id, 1_000));
    }
    world.now_ms = 300_000;
    let entries = entries(&world.step(Input::Tick));
    let sizes: Vec<usize> = entries.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1_000, 500]);
}

#[test]
fn a_new_leader_starts_from_the_checkpoint() {
    let mut world = leading(settings());
    world.apply(1, grant(5, 1_000));
    world.apply(1, checkpoint(5, 400));
    assert_eq!(left_after_promotion(&mut world, 2), 401, "and an election timeout");
    world.apply(2, checkpoint(5, 0));
    assert_eq!(left_after_promotion(&mut world, 3), 1_001);
}

#[test]
fn checkpoints_are_stored_from_cluster_version_3_6_on() {
    let left_after_restart = |version: &str, settings: &Settings| {
        let mut world = leading(settings.clone());
        world.apply(1, cluster_version(version));
        world.apply(1, grant(5, 1_000));
        world.apply(1, checkpoint(5, 400));
        world.restart(settings.clone());
        left_after_promotion(&mut world, 2)
    };
    assert_eq!(left_after_restart("3.7.0", &settings()), 401);
    assert_eq!(left_after_restart("3.6.0", &settings()), 401);
    assert_eq!(left_after_restart("3.5.0", &settings()), 1_001);
    let persist = LeaseCheckpoints { propose: true, persist: true };
    assert_eq!(left_after_restart("3.5.0", &with(persist)), 401);
}

#[test]
fn a_keep_alive_clears_the_checkpoint_before_it_is_answered() {
    let mut world = leading(settings());
    world.apply(1, grant(5, 1_000));
    world.apply(1, checkpoint(5, 400));
    world.now_ms = 10_000;
    let effects = world.step(keep_alive(1, 5));
    assert_eq!(proposed(&effects), [(5, 0)]);
    assert_eq!(replies(effects), []);
    let second = world.step(keep_alive(2, 5));
    assert!(proposed(&second).is_empty(), "one entry serves both");
    let kept_alive = Reply::KeptAlive { ttl_s: 1_000 };
    let answered = replies(world.apply(1, checkpoint(5, 0)));
    assert_eq!(answered, [(1, kept_alive.clone()), (2, kept_alive)]);
    assert_eq!(left_after_promotion(&mut world, 2), 1_001);
}

#[test]
fn a_lost_clear_is_proposed_again_and_every_waiting_keep_alive_is_answered() {
    let mut world = leading(settings());
    for id in [5, 6] {
        world.apply(1, grant(id, 1_000));
        world.apply(1, checkpoint(id, 400));
    }
    assert_eq!(proposed(&world.step(keep_alive(1, 5))), [(5, 0)]);
    assert_eq!(proposed(&world.step(keep_alive(2, 6))), [(6, 0)]);
    world.now_ms = 2_999;
    assert!(proposed(&world.step(Input::Tick)).is_empty());
    world.now_ms = 3_000;
    assert_eq!(proposed(&world.step(Input::Tick)), [(5, 0), (6, 0)]);
    let revoke = Some(LeaseRevokeRequest { id: 5 });
    let revoke = InternalRaftRequest { lease_revoke: revoke, ..InternalRaftRequest::default() };
    assert_eq!(replies(world.apply(1, revoke)), [(1, Reply::NoLease)]);
    assert_eq!(
        replies(world.step(Input::Leadership(Term(1), Leader::Unknown))),
        [(2, Reply::NotLeader)]
    );
    assert_eq!(replies(world.apply(2, checkpoint(6, 0))), [], "answered once");
}
