//! How a state is opened with the log entries after the newest .snap file.

use crate::support::{World, settings};
use backend::{Batch, Bucket};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, Request};
use proto::{Entry, EntryId, EntryKind, Index, Term};
use state::{Effect, Input, Snapshot};

const MIB: usize = 1024 * 1024;

fn entry(index: u64, data: Bytes) -> Entry {
    Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data }
}

fn large_put() -> Bytes {
    let put = PutRequest { key: "k".into(), value: vec![7; MIB].into(), ..PutRequest::default() };
    let request = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
    request.encode_to_vec().into()
}

/// A directory of 3.7 whose database has applied the first `applied` entries.
fn applied_by_3_7(applied: u64) -> Batch {
    let mut batch = Batch::new(EntryId { term: Term(1), index: Index(applied) });
    batch.put(Bucket::Meta, Bytes::from_static(b"storageVersion"), Bytes::from_static(b"3.7.0"));
    batch
}

fn snapshot(effects: Vec<Effect>) -> Option<Snapshot> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Snapshot(snapshot) => Some(snapshot),
        Effect::Commit(_)
        | Effect::Publish(_)
        | Effect::Tokens(_)
        | Effect::Events(_)
        | Effect::Answer(..)
        | Effect::Reply(..)
        | Effect::Propose(..)
        | Effect::ConfChanged(_)
        | Effect::Applied(_) => None,
    })
}

#[test]
fn the_bytes_of_log_since_the_last_snapshot_survive_a_restart() {
    let data = large_put();
    let log: Vec<Entry> = (1..=64).map(|index| entry(index, data.clone())).collect();
    // 62 of them are applied, 2 more only written.
    let mut world = World::restarted(settings(), applied_by_3_7(62), log.clone());
    assert!(snapshot(world.step(Input::Apply(log[62..63].to_vec()))).is_none(), "63 MiB");
    let due = snapshot(world.step(Input::Apply(log[63..].to_vec())));
    assert_eq!(due.map(|snapshot| snapshot.id.index), Some(Index(64)));
}

fn set_version(version: &str) -> Bytes {
    let put = Request {
        method: Some("PUT".into()),
        path: Some("/0/version".into()),
        val: Some(version.into()),
        ..Request::default()
    };
    put.encode_to_vec().into()
}

/// The v2 tree in a .snap file behind two v2 requests, with or without a restart between them
/// and the snapshot. The first request makes the member write a storage version.
fn v2_tree_in_next_snapshot(restarts: bool) -> String {
    let settings = state::Settings { snapshot_count: 2, ..settings() };
    let mut world = World::new(settings.clone());
    world.apply_data(1, set_version("3.6.0"));
    world.apply_data(1, set_version("3.7.0"));
    if restarts {
        world.restart(settings);
    }
    let due = snapshot(world.apply_empty(1)).unwrap();
    String::from_utf8(due.data.to_vec()).unwrap()
}

#[test]
fn v2_requests_behind_the_snapshot_are_replayed_whatever_the_storage_version() {
    let tree = v2_tree_in_next_snapshot(false);
    assert!(tree.contains(r#""CurrentIndex":3,"#), "{tree}");
    assert_eq!(v2_tree_in_next_snapshot(true), tree);
}

/// A server raised the version of a restored cluster at once, and the older etcd could not start on it.
#[test]
fn a_restored_directory_keeps_the_version_in_its_database() {
    let mut batch = Batch::new(EntryId { term: Term(1), index: Index(1) });
    let key = Bytes::from_static(b"clusterVersion");
    batch.put(Bucket::Cluster, key, Bytes::from_static(b"3.5.0"));
    let log = vec![entry(1, Bytes::new())];
    let world = World::restarted(settings(), batch, log);
    let version = world.state.cluster().version().map(|version| version.to_string());
    assert_eq!(version.as_deref(), Some("3.5.0"));
}
