//! The validity of changes, and their effects.

use super::*;

fn cluster() -> Cluster {
    let urls = |name: &str| vec![format!("http://{name}:2380")];
    let mut cluster =
        Cluster::initial(&[("n1".into(), urls("n1")), ("n2".into(), urls("n2"))], "t").unwrap();
    let learner =
        Member { id: NodeId(3), peer_urls: urls("n3"), is_learner: true, ..Member::default() };
    cluster.apply(MembershipChange::Add(learner));
    cluster
}

fn change(kind: ConfChangeType, id: u64, context: &str) -> ConfChange {
    ConfChange {
        id: 9,
        kind,
        node: NodeId(id),
        context: Bytes::copy_from_slice(context.as_bytes()),
    }
}

const ADD: ConfChangeType = ConfChangeType::ConfChangeAddNode;
const ADD_LEARNER: ConfChangeType = ConfChangeType::ConfChangeAddLearnerNode;
const REMOVE: ConfChangeType = ConfChangeType::ConfChangeRemoveNode;
const UPDATE: ConfChangeType = ConfChangeType::ConfChangeUpdateNode;

#[test]
fn the_first_entries_of_a_cluster_are_gos() {
    let cluster = Cluster::initial(&[("n1".into(), vec!["http://n1:2380".into()])], "t").unwrap();
    let changes: Vec<ConfChange> = cluster.initial_changes().collect();
    let id = changes[0].node.0;
    let text = format!(r#"{{"id":{id},"peerURLs":["http://n1:2380"],"name":"n1"}}"#);
    assert_eq!(changes, [ConfChange { id: 0, ..change(ADD, id, &text) }]);
    let same = vec!["http://n1:2380".to_owned()];
    assert_eq!(Cluster::initial(&[("a".into(), same.clone()), ("b".into(), same)], "t"), None);
}

#[test]
fn replaying_the_first_entries_gives_the_cluster() {
    let first = Cluster::initial(&[("n1".into(), vec!["http://n1:2380".into()])], "t").unwrap();
    let mut cluster = Cluster::default();
    for change in first.initial_changes() {
        let change = cluster.validate(&change).unwrap();
        cluster.apply(change);
    }
    assert_eq!(cluster, first);
}

#[test]
fn invalid_changes_are_refused_as_etcd_refuses_them() {
    let mut cluster = cluster();
    cluster.removed.insert(NodeId(4));
    let n1 = cluster.members().find(|member| member.name == "n1").unwrap().id.0;
    let json = |id: u64, rest: &str| format!(r#"{{"id":{id}{rest}}}"#);
    let taken = r#","peerURLs":["http://n1:2380"]"#;
    for (kind, id, rest, reject) in [
        (ADD, 4, "", InvalidChange::IdRemoved),
        (REMOVE, 4, "", InvalidChange::IdRemoved),
        (ADD, 3, "", InvalidChange::IdExists),
        (ADD, 5, taken, InvalidChange::PeerUrlExists),
        (ADD_LEARNER, 5, r#","isLearner":true"#, InvalidChange::TooManyLearners),
        (ADD, 5, r#","isPromote":true"#, InvalidChange::IdNotFound),
        (ADD, n1, r#","isPromote":true"#, InvalidChange::NotLearner),
        (REMOVE, 5, "", InvalidChange::IdNotFound),
        (UPDATE, 5, "", InvalidChange::IdNotFound),
        (UPDATE, 3, taken, InvalidChange::PeerUrlExists),
    ] {
        let change = change(kind, id, &json(id, rest));
        assert_eq!(cluster.validate(&change), Err(reject.into()), "{change:?}");
    }
}

#[test]
fn a_context_for_another_member_is_an_error() {
    let cluster = cluster();
    for context in ["", "{}", r#"{"id":6}"#, "["] {
        let bad = cluster.validate(&change(ADD, 5, context));
        assert!(matches!(bad, Err(ChangeError::Bad(_))), "{context}: {bad:?}");
    }
}

#[test]
fn the_limit_of_learners_is_a_setting() {
    let mut cluster = cluster();
    cluster.set_learners_max(2);
    assert!(cluster.validate(&change(ADD_LEARNER, 5, r#"{"id":5,"isLearner":true}"#)).is_ok());
}

#[test]
fn members_are_added_changed_and_removed() {
    let mut cluster = cluster();
    let mut apply = |kind, context: &str| {
        let change = cluster.validate(&change(kind, 3, context)).unwrap();
        cluster.apply(change)
    };
    let save = |json: &str| MembershipWrite {
        table: Table::Members,
        key: "3".into(),
        value: Some(Bytes::copy_from_slice(json.as_bytes())),
    };
    // An update without isLearner does not promote (#21737).
    assert_eq!(
        apply(UPDATE, r#"{"id":3,"peerURLs":["http://x"]}"#),
        [save(r#"{"id":3,"peerURLs":["http://x"],"isLearner":true}"#)]
    );
    assert_eq!(
        apply(ADD, r#"{"id":3,"peerURLs":null,"isPromote":true}"#),
        [save(r#"{"id":3,"peerURLs":["http://x"]}"#)]
    );
    assert_eq!(
        apply(REMOVE, ""),
        [
            MembershipWrite { table: Table::Members, key: "3".into(), value: None },
            MembershipWrite {
                table: Table::MembersRemoved,
                key: "3".into(),
                value: Some(Bytes::from_static(b"removed"))
            },
        ]
    );
    assert!(cluster.is_removed(NodeId(3)));
    assert_eq!(cluster.conf_state().voters.len(), 2);
}

#[test]
fn the_conf_state_follows_the_members() {
    let cluster = cluster();
    let conf_state = cluster.conf_state();
    assert_eq!(conf_state.learners, [NodeId(3)]);
    let mut voters: Vec<NodeId> =
        cluster.members().filter(|member| !member.is_learner).map(|member| member.id).collect();
    voters.sort_unstable();
    assert_eq!(conf_state.voters, voters);
}

#[test]
fn attributes_are_set_for_members_only() {
    let mut cluster = cluster();
    let attributes = Attributes { name: "n3".into(), client_urls: vec!["http://c3".into()] };
    assert_eq!(cluster.set_attributes(NodeId(3), attributes.clone()).unwrap().len(), 1);
    assert_eq!(cluster.member(NodeId(3)).unwrap().attributes(), attributes);
    cluster.apply(MembershipChange::Remove(NodeId(3)));
    assert_eq!(cluster.set_attributes(NodeId(3), attributes.clone()), Ok(Vec::new()));
    let unknown = cluster.set_attributes(NodeId(5), attributes);
    assert_eq!(unknown, Err(SetError::UnknownMember(NodeId(5))));
}

#[test]
fn a_version_above_ours_stops_the_member() {
    let mut cluster = cluster();
    let version = |minor| Version { major: 3, minor, patch: 0 };
    let write = cluster.set_version(version(7)).unwrap();
    assert_eq!(write.value, Some("3.7.0".into()));
    assert!(cluster.set_version(version(6)).is_ok());
    assert_eq!(cluster.set_version(version(8)), Err(SetError::ClusterTooNew(version(8))));
}
