//! The cluster version, which a leader decides from the versions of all members, and the attributes,
//! which every member publishes.

use crate::support::{World, settings};
use bytes::Bytes;
use cluster::{Member, Version};
use proto::membershippb::ClusterVersionSetRequest;
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

/// What is proposed at a tick: cluster versions, and ids of members whose attributes are set.
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
    world.apply(
        1,
        proto::etcdserverpb::InternalRaftRequest { cluster_version_set: set, ..Default::default() },
    );
    let all = [(8, cluster::server_version()), (9, cluster::server_version())];
    world.step(versions(&all));
    assert_eq!(proposed(&mut world).0, ["3.7.0"]);
}

#[test]
fn a_cluster_of_an_older_version_is_raised_only_if_the_settings_say_so() {
    for raises in [false, true] {
        let mut world = three_members(Settings { raise_cluster_version: raises, ..settings() });
        let set = Some(ClusterVersionSetRequest { ver: "3.5.0".to_owned() });
        world.apply(
            1,
            proto::etcdserverpb::InternalRaftRequest {
                cluster_version_set: set,
                ..Default::default()
            },
        );
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
