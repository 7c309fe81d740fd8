//! Each operation of a client is checked for permission on the canonical ranges of everything
//! that it reads and writes.

use crate::{Effect, Input, Leader, LeaseQuery, Question, Reject, Reply, Settings, State};
use auth::{Access, AuthStore, Caller, Denied, KeyRange, Rules};
use backend::Backend;
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestHeader, RequestOp, TxnRequest, request_op::Request,
};
use proto::{Entry, EntryKind, Index, LeaseId, NodeId, Term};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Records every access that is checked, and denies ranges that contain `secret`.
#[derive(Debug, Default)]
struct DenySecret {
    asked: Mutex<Vec<String>>,
}

fn text(access: Access<'_>) -> String {
    let (verb, range) = match access {
        Access::Read(range) => ("read", range),
        Access::Write(range) => ("write", range),
    };
    match range {
        KeyRange::One(key) => format!("{verb} {}", key.escape_ascii()),
        KeyRange::Span { from, end: Some(end) } => {
            format!("{verb} [{}, {})", from.escape_ascii(), end.escape_ascii())
        }
        KeyRange::Span { from, end: None } => format!("{verb} [{}, ...)", from.escape_ascii()),
    }
}

impl Rules for DenySecret {
    fn allow(&self, user: &str, access: Access<'_>) -> bool {
        assert_eq!(user, "alice");
        let (Access::Read(range) | Access::Write(range)) = access;
        self.asked.lock().unwrap().push(text(access));
        !range.contains(b"secret")
    }
}

struct World {
    state: State,
    rules: Arc<DenySecret>,
    index: u64,
}

const AUTH_REVISION: u64 = 3;

fn alice(auth_revision: u64) -> Caller {
    Caller { user: "alice".into(), auth_revision }
}

impl World {
    fn new() -> World {
        let disk = vfs::SimDisk::new(1);
        let cache = Arc::new(bolt::PageCache::new(64 * 1024));
        let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
        let backend = Backend::open(&disk, Path::new("db"), options).unwrap();
        let settings = Settings {
            member: NodeId(7),
            quota: crate::quota::Quota::from_flag(-1),
            snapshot_count: 10_000,
            compaction_slice: 2,
            lease_ttl_s_min: 2,
            bcrypt_cost: 4,
            lease_extend_ms: 1_000,
            lease_checkpoints: crate::LeaseCheckpoints::default(),
            learners_max: 1,
            raise_cluster_version: false,
            downgrade_check_ms: 5_000,
            attributes: cluster::Attributes { name: "n".into(), client_urls: Vec::new() },
        };
        let log = crate::LogTail { v2: None, snapshot_index: Index(0), entries: Vec::new() };
        let mut state = State::open(settings, backend.view(), &log).unwrap();
        let mut effects = Vec::new();
        state.step(0, Input::Leadership(Term(1), Leader::Me), &mut effects).unwrap();
        let mut world = World { state, rules: Arc::default(), index: 0 };
        for id in [5, 6] {
            let grant = Some(LeaseGrantRequest { id, ttl: 60 });
            world.apply(InternalRaftRequest { lease_grant: grant, ..Default::default() });
        }
        for (key, lease) in [("a", 0), ("secret", 0), ("l1", 5), ("l2", 5), ("secret", 6)] {
            world.apply(put_request(PutRequest { lease, ..put(key) }));
        }
        let rules = Arc::clone(&world.rules);
        world.state.auth = Arc::new(AuthStore::with_rules(AUTH_REVISION, rules));
        world
    }

    fn apply(&mut self, request: InternalRaftRequest) -> Option<Reject> {
        self.apply_as(&alice(AUTH_REVISION), request)
    }

    /// Applies a request. Returns why it was rejected.
    fn apply_as(&mut self, caller: &Caller, mut request: InternalRaftRequest) -> Option<Reject> {
        self.index += 1;
        request.header = Some(RequestHeader {
            id: self.index,
            username: caller.user.clone(),
            auth_revision: caller.auth_revision,
        });
        let entry = Entry {
            term: Term(1),
            index: Index(self.index),
            kind: EntryKind::Normal,
            data: request.encode_to_vec().into(),
        };
        let mut effects = Vec::new();
        self.state.step(0, Input::Apply(vec![entry]), &mut effects).unwrap();
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(_, answer) => Some(answer),
            Effect::Commit(_)
            | Effect::Publish(_)
            | Effect::Tokens(_)
            | Effect::Events(_)
            | Effect::Reply(..)
            | Effect::Propose(..)
            | Effect::ConfChanged(_)
            | Effect::Applied(_)
            | Effect::Snapshot(_) => None,
        });
        answer.unwrap().err()
    }

    fn ask(&mut self, query: LeaseQuery) -> Reply {
        let question = Question { caller: Some(alice(AUTH_REVISION)), query };
        let mut effects = Vec::new();
        self.state.step(0, Input::Ask(1, question), &mut effects).unwrap();
        let Some(Effect::Reply(1, reply)) = effects.pop() else { panic!("no reply") };
        reply
    }

    /// The accesses checked since the last call, sorted and without duplicates.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.rules.asked.lock().unwrap());
        asked.sort();
        asked.dedup();
        asked
    }

    fn revision(&mut self) -> i64 {
        self.state.published().view.revision()
    }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() }
}

fn put_request(put: PutRequest) -> InternalRaftRequest {
    InternalRaftRequest { put: Some(put), ..Default::default() }
}

fn range(key: &'static str, range_end: &'static [u8]) -> RangeRequest {
    let range_end = Bytes::from_static(range_end);
    RangeRequest { key: key.into(), range_end, ..RangeRequest::default() }
}

fn delete(key: &'static str, range_end: &'static [u8], prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: Bytes::from_static(range_end), prev_kv }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

const DENIED: Option<Reject> = Some(Reject::Denied(Denied::PermissionDenied));

#[test]
fn a_put_writes_its_key_and_reads_it_for_prev_kv() {
    let mut world = World::new();
    assert_eq!(world.apply(put_request(put("a"))), None);
    assert_eq!(world.asked(), ["write a"]);
    assert_eq!(world.apply(put_request(PutRequest { prev_kv: true, ..put("a") })), None);
    assert_eq!(world.asked(), ["read a", "write a"]);
    let revision = world.revision();
    assert_eq!(world.apply(put_request(put("secret"))), DENIED);
    assert_eq!(world.revision(), revision, "nothing is changed");
}

#[test]
fn a_put_with_a_lease_writes_all_keys_of_the_lease() {
    let mut world = World::new();
    assert_eq!(world.apply(put_request(PutRequest { lease: 5, ..put("a") })), None);
    assert_eq!(world.asked(), ["write a", "write l1", "write l2"]);
    assert_eq!(world.apply(put_request(PutRequest { lease: 6, ..put("a") })), DENIED);
}

#[test]
fn ranges_are_checked_in_canonical_form() {
    let mut world = World::new();
    let mut asked = |request: RangeRequest| {
        let request = InternalRaftRequest { range: Some(request), ..Default::default() };
        (world.apply(request), world.asked().join(", "))
    };
    assert_eq!(asked(range("a", b"")), (None, "read a".into()));
    assert_eq!(asked(range("a", b"b")), (None, "read [a, b)".into()));
    assert_eq!(asked(range("t", b"\0")), (None, "read [t, ...)".into()));
    assert_eq!(asked(range("a", b"\0")), (DENIED, "read [a, ...)".into()));
}

#[test]
fn a_deletion_writes_its_range_and_reads_it_for_prev_kv() {
    let mut world = World::new();
    let request = |delete| InternalRaftRequest { delete_range: Some(delete), ..Default::default() };
    assert_eq!(world.apply(request(delete("x", b"y", false))), None);
    assert_eq!(world.asked(), ["write [x, y)"]);
    assert_eq!(world.apply(request(delete("x", b"\0", true))), None);
    assert_eq!(world.asked(), ["read [x, ...)", "write [x, ...)"]);
    let revision = world.revision();
    assert_eq!(world.apply(request(delete("a", b"\0", false))), DENIED);
    assert_eq!(world.revision(), revision, "nothing is deleted");
}

#[test]
fn a_transaction_is_permitted_whole_with_both_branches_and_nested_ones() {
    let mut world = World::new();
    let nested = TxnRequest {
        compare: vec![Compare { key: "c2".into(), ..Compare::default() }],
        success: vec![op(Request::RequestPut(PutRequest { prev_kv: true, ..put("n") }))],
        failure: vec![op(Request::RequestDeleteRange(delete("m", b"n", false)))],
    };
    let txn = TxnRequest {
        compare: vec![Compare { key: "c".into(), range_end: "d".into(), ..Compare::default() }],
        success: vec![
            op(Request::RequestRange(range("r", b"\0"))),
            op(Request::RequestTxn(nested)),
        ],
        failure: vec![op(Request::RequestPut(PutRequest { lease: 5, ..put("f") }))],
    };
    let request = |txn| InternalRaftRequest { txn: Some(txn), ..Default::default() };
    world.apply(request(TxnRequest { success: Vec::new(), ..txn.clone() }));
    assert_eq!(world.asked(), ["read [c, d)", "write f", "write l1", "write l2"]);
    // `secret` is in the range of the first operation.
    let revision = world.revision();
    assert_eq!(world.apply(request(txn.clone())), DENIED);
    assert_eq!(world.revision(), revision);
    world.asked();
    let success = vec![txn.success[1].clone()];
    assert_eq!(world.apply(request(TxnRequest { success, ..txn })), None);
    let all = [
        "read [c, d)",
        "read c2",
        "read n",
        "write [m, n)",
        "write f",
        "write l1",
        "write l2",
        "write n",
    ];
    assert_eq!(world.asked(), all);
}

#[test]
fn a_forbidden_operation_in_the_branch_not_taken_denies_the_transaction() {
    let mut world = World::new();
    let txn = TxnRequest {
        success: vec![op(Request::RequestPut(put("a")))],
        failure: vec![op(Request::RequestPut(put("secret")))],
        ..TxnRequest::default()
    };
    let revision = world.revision();
    let request = InternalRaftRequest { txn: Some(txn), ..Default::default() };
    assert_eq!(world.apply(request), DENIED);
    assert_eq!(world.revision(), revision);
}

#[test]
fn revoking_and_renewing_a_lease_write_its_keys_and_listing_them_reads_them() {
    let mut world = World::new();
    let revoke = |id| {
        let revoke = Some(LeaseRevokeRequest { id });
        InternalRaftRequest { lease_revoke: revoke, ..Default::default() }
    };
    let ttl = |id, keys| LeaseQuery::TimeToLive { lease: LeaseId(id), keys };
    assert!(matches!(world.ask(ttl(5, true)), Reply::TimeToLive { .. }));
    assert_eq!(world.asked(), ["read l1", "read l2"]);
    assert_eq!(world.ask(ttl(6, true)), Reply::Denied(Denied::PermissionDenied));
    assert!(matches!(world.ask(ttl(6, false)), Reply::TimeToLive { .. }));
    assert_eq!(world.ask(LeaseQuery::List), Reply::Denied(Denied::PermissionDenied));
    world.asked();
    assert_eq!(world.ask(LeaseQuery::KeepAlive(LeaseId(5))), Reply::KeptAlive { ttl_s: 60 });
    assert_eq!(world.asked(), ["write l1", "write l2"]);
    assert_eq!(world.apply(revoke(6)), DENIED);
    assert!(world.state.lessor.contains(LeaseId(6)), "the lease stays");
    world.asked();
    assert_eq!(world.apply(revoke(5)), None);
    assert_eq!(world.asked(), ["write l1", "write l2"]);
}

#[test]
fn callers_without_a_user_and_with_an_old_revision_are_denied() {
    let mut world = World::new();
    let request = || put_request(put("a"));
    let user_empty = Some(Reject::Denied(Denied::UserEmpty));
    assert_eq!(world.apply_as(&Caller::default(), request()), user_empty);
    let old = Some(Reject::Denied(Denied::OldRevision));
    assert_eq!(world.apply_as(&alice(AUTH_REVISION - 1), request()), old);
    assert_eq!(world.apply_as(&alice(AUTH_REVISION), request()), None);
}
