//! What a state takes from the log behind the newest .snap file when it is opened.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use backend::{Batch, Bucket};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, Request};
use proto::{Entry, EntryId, EntryKind, Index, Term};
use state::{Effect, Input, Snapshot};
use support::{World, settings};

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
        | Effect::Events(_)
        | Effect::Answer(..)
        | Effect::Reply(..)
        | Effect::Propose(_)
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

#[test]
fn v2_requests_behind_the_snapshot_are_in_the_next_one_whatever_the_storage_version() {
    let put = Request {
        method: Some("PUT".into()),
        path: Some("/1/greeting".into()),
        val: Some("hello".into()),
        ..Request::default()
    };
    let log = vec![entry(1, put.encode_to_vec().into()), entry(2, Bytes::new())];
    let settings = state::Settings { snapshot_count: 1, ..settings() };
    let mut world = World::restarted(settings, applied_by_3_7(1), log.clone());
    let due = snapshot(world.step(Input::Apply(log[1..].to_vec()))).unwrap();
    let data = String::from_utf8(due.data.to_vec()).unwrap();
    assert!(data.contains(r#""Path":"/1/greeting""#), "{data}");
    assert!(data.contains("hello"), "{data}");
}
