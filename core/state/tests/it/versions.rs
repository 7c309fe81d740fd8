//! The cluster version, which a leader decides from the versions of all members, and the attributes,
//! which every member publishes.

use crate::support::{World, settings};
use bytes::Bytes;
use cluster::{Member, Version};
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest};
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, Entry, EntryKind, Index, NodeId, Term};
use state::{Effect, Input, Leader, Settings};
use std::collections::BTreeMap;

const THREE_FIVE: Version = Version { major: 3, minor: 5, patch: 30 };

/// A cluster of the members 7, which is this one, 8 and 9.
fn three_members(settings: Settings) -> World {
    let mut world = World::new(settings);
    for id in [7, 8, 9] {
        world.index += 1;
        let member = Member {
            id: NodeId(id),
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            ..Member::default()
        };
        let change = ConfChange {
            id: 0,
            kind: ConfChangeType::ConfChangeAddNode,
            node: NodeId(id),
            context: Bytes::from(member.to_json()),
        };
        let (term, index) = (Term(1), Index(world.index));
        let data = change.encode();
        let entry = Entry { term, index, kind: EntryKind::ConfChange, data };
        world.step(Input::Apply(vec![entry]));
    }
    world
}

fn lead(world: &mut World, term: u64) {
    world.step(Input::Leadership(Term(term), Leader::Me));
    world.apply_empty(term);
}

fn versions(known: &[(u64, Version)]) -> Input {
    Input::MemberVersions(known.iter().map(|(id, version)| (NodeId(*id), *version)).collect())
}

/// The paths that are proposed at a tick as members of 3.4 read them, with their values.
fn proposed_v2(world: &mut World) -> Vec<(String, String)> {
    let requests = world.step(Input::Tick).into_iter().filter_map(|effect| {
        if let Effect::Propose(request, _) = effect { request.v2 } else { None }
    });
    requests.map(|put| (put.path.unwrap(), put.val.unwrap())).collect()
}

/// The proposals at a tick: cluster versions, and ids of members whose attributes are set.
fn proposed(world: &mut World) -> (Vec<String>, Vec<u64>) {
    let (mut versions, mut attributes) = (Vec::new(), Vec::new());
    for effect in world.step(Input::Tick) {
        let Effect::Propose(request, _) = effect else { continue };
        versions.extend(request.cluster_version_set.map(|set| set.ver));
        attributes.extend(request.cluster_member_attr_set.map(|set| set.member_id));
    }
    (versions, attributes)
}

#[test]
fn a_leader_gives_the_cluster_the_lowest_version_of_its_members() {
    let mut world = three_members(settings());
    lead(&mut world, 1);
    assert!(proposed(&mut world).0.is_empty(), "the versions of 8 and 9 are not known");
    world.step(versions(&[(8, cluster::server_version())]));
    assert!(proposed(&mut world).0.is_empty(), "the version of 9 is not known");
    world.step(versions(&[(8, cluster::server_version()), (9, THREE_FIVE)]));
    assert_eq!(proposed(&mut world).0, ["3.5.0"]);
    assert!(proposed(&mut world).0.is_empty(), "it is proposed once");
}

#[test]
fn a_cluster_with_an_unreachable_member_gets_the_lowest_version_after_a_while_and_is_raised_later()
{
    let mut world = three_members(settings());
    lead(&mut world, 1);
    world.step(versions(&[(8, cluster::server_version())]));
    world.now_ms += 4_999;
    assert!(proposed(&mut world).0.is_empty());
    world.now_ms += 1;
    assert_eq!(proposed(&mut world).0, ["3.0.0"]);
    let set = Some(ClusterVersionSetRequest { ver: "3.0.0".to_owned() });
    world.apply(1, InternalRaftRequest { cluster_version_set: set, ..Default::default() });
    let all = [(8, cluster::server_version()), (9, cluster::server_version())];
    world.step(versions(&all));
    assert_eq!(proposed(&mut world).0, ["3.7.0"]);
}

#[test]
fn a_cluster_of_an_older_version_is_raised_only_if_the_settings_say_so() {
    for raises in [false, true] {
        let mut world = three_members(Settings { raise_cluster_version: raises, ..settings() });
        let set = Some(ClusterVersionSetRequest { ver: "3.5.0".to_owned() });
        world.apply(1, InternalRaftRequest { cluster_version_set: set, ..Default::default() });
        lead(&mut world, 1);
        let all = [(8, cluster::server_version()), (9, cluster::server_version())];
        world.step(versions(&all));
        assert_eq!(!proposed(&mut world).0.is_empty(), raises);
    }
}

#[test]
fn a_follower_publishes_its_attributes_and_tries_again_while_they_are_not_applied() {
    let mut world = three_members(settings());
    assert!(proposed(&mut world).1.is_empty(), "no leader is known");
    world.step(versions(&[(8, cluster::server_version()), (9, THREE_FIVE)]));
    world.step(Input::Leadership(Term(1), Leader::Other));
    assert_eq!(proposed(&mut world), (Vec::new(), vec![7]));
    world.now_ms += 4_999;
    assert!(proposed(&mut world).1.is_empty());
    world.now_ms += 1;
    assert_eq!(proposed(&mut world).1, [7], "the proposal may have been lost");
    world.step(Input::Leadership(Term(2), Leader::Other));
    assert_eq!(proposed(&mut world).1, [7], "a new leader may not have it");
}

#[test]
fn versions_that_are_learned_again_change_nothing() {
    let mut world = three_members(settings());
    lead(&mut world, 1);
    let all = [(8, cluster::server_version()), (9, cluster::server_version())];
    world.step(versions(&all));
    assert_eq!(proposed(&mut world).0, ["3.7.0"]);
    world.step(versions(&all));
    assert!(proposed(&mut world).0.is_empty());
    world.step(Input::MemberVersions(BTreeMap::new()));
    assert!(proposed(&mut world).0.is_empty());
}

fn set_version(world: &mut World, version: &str) {
    let set = Some(ClusterVersionSetRequest { ver: version.to_owned() });
    let request = InternalRaftRequest { cluster_version_set: set, ..Default::default() };
    world.apply(1, request);
}

fn set_downgrade(world: &mut World, target: &str) -> Vec<Effect> {
    let set = DowngradeInfoSetRequest { enabled: !target.is_empty(), ver: target.to_owned() };
    let request = InternalRaftRequest { downgrade_info_set: Some(set), ..Default::default() };
    world.apply(1, request)
}

/// A leader of a cluster of this server's version, whose members are of this version.
fn leader_of(raises: bool) -> World {
    let mut world = three_members(Settings { raise_cluster_version: raises, ..settings() });
    set_version(&mut world, "3.7.0");
    lead(&mut world, 1);
    world.step(versions(&[(8, cluster::server_version()), (9, cluster::server_version())]));
    assert!(proposed(&mut world).0.is_empty());
    world
}

#[test]
fn a_downgrade_lowers_the_version_once_and_is_not_raised_again_until_it_ends() {
    let mut world = leader_of(true);
    set_downgrade(&mut world, "3.5.0");
    assert_eq!(proposed(&mut world).0, ["3.5.0"]);
    assert!(proposed(&mut world).0.is_empty());
    set_version(&mut world, "3.5.0");
    assert!(proposed(&mut world).0.is_empty());
    set_downgrade(&mut world, "");
    assert_eq!(proposed(&mut world).0, ["3.7.0"]);
}

#[test]
fn a_downgrade_waits_for_the_versions_of_all_members() {
    let mut world = leader_of(true);
    world.step(versions(&[(8, cluster::server_version())]));
    set_downgrade(&mut world, "3.6.0");
    assert!(proposed(&mut world).0.is_empty());
    world.step(versions(&[(8, cluster::server_version()), (9, cluster::server_version())]));
    assert_eq!(proposed(&mut world).0, ["3.6.0"]);
}

#[test]
fn a_snapshot_is_saved_when_the_version_goes_down() {
    let mut world = leader_of(true);
    let set = Some(ClusterVersionSetRequest { ver: "3.6.0".to_owned() });
    let request = InternalRaftRequest { cluster_version_set: set, ..Default::default() };
    let is_snapshot = |effect: &Effect| matches!(effect, Effect::Snapshot(_));
    assert!(!set_downgrade(&mut world, "3.6.0").iter().any(is_snapshot));
    assert!(world.apply(1, request).iter().any(is_snapshot));
    assert!(!set_downgrade(&mut world, "").iter().any(is_snapshot));
}

#[test]
fn a_downgrade_ends_when_every_member_is_of_the_target_version() {
    let ends = |world: &mut World| {
        world.now_ms += 5_000;
        let effects = world.step(Input::Tick);
        let is_end = |effect: &Effect| {
            matches!(effect, Effect::Propose(request, _) if request
                .downgrade_info_set.as_ref().is_some_and(|set| !set.enabled))
        };
        effects.iter().any(is_end)
    };
    // A server that raises the version announces its own; one that does not announces the
    // cluster's.
    for (raises, is_over) in [(true, false), (false, true)] {
        let mut world = leader_of(raises);
        set_downgrade(&mut world, "3.5.0");
        set_version(&mut world, "3.5.0");
        assert!(!ends(&mut world), "8 and 9 are newer");
        world.step(versions(&[(8, THREE_FIVE), (9, THREE_FIVE)]));
        assert_eq!(ends(&mut world), is_over);
    }
}

/// A member of 3.4 crashes at an entry that it does not know.
#[test]
fn members_of_3_4_get_the_version_and_attributes_in_the_form_that_they_read() {
    const THREE_FOUR: Version = Version { major: 3, minor: 4, patch: 23 };
    let attributes = |world: &mut World| proposed_v2(world).iter().map(|it| it.0.clone()).collect();
    let mut world = three_members(settings());
    world.step(Input::Leadership(Term(1), Leader::Other));
    assert!(proposed(&mut world).1.is_empty(), "it is not known what the others read");
    world.step(versions(&[(8, cluster::server_version())]));
    assert!(proposed(&mut world).1.is_empty(), "it is not known what 9 reads");
    world.step(versions(&[(9, THREE_FOUR)]));
    let found: Vec<String> = attributes(&mut world);
    assert_eq!(found, ["/0/members/7/attributes"]);
    lead(&mut world, 2);
    world.step(versions(&[(8, cluster::server_version()), (9, THREE_FOUR)]));
    let found = proposed_v2(&mut world);
    assert!(found.contains(&("/0/version".to_owned(), "3.4.0".to_owned())), "{found:?}");
}

#[test]
fn attributes_are_published_after_a_while_though_a_member_does_not_answer() {
    let mut world = three_members(settings());
    world.step(Input::Leadership(Term(1), Leader::Other));
    world.now_ms += 4_999;
    assert!(proposed(&mut world).1.is_empty());
    world.now_ms += 1;
    assert_eq!(proposed(&mut world).1, [7]);
}

#[test]
fn a_downgrade_to_3_4_is_ended_by_no_entry() {
    let mut world = leader_of(false);
    set_downgrade(&mut world, "3.4.0");
    assert_eq!(proposed(&mut world).0, ["3.4.0"]);
    set_version(&mut world, "3.4.0");
    let three_four = Version { major: 3, minor: 4, patch: 23 };
    world.step(versions(&[(8, three_four), (9, three_four)]));
    world.now_ms += 60_000;
    let ends = |effect: &Effect| matches!(effect, Effect::Propose(request, _) if request.downgrade_info_set.is_some());
    assert!(!world.step(Input::Tick).iter().any(ends));
}
