//! Users, roles and permissions in applied entries. The header of an entry has the caller and the
//! auth revision.

use crate::support::{World, replies, settings};
use auth::{AuthRefusal, Caller, Denied, TokenChange};
use bytes::Bytes;
use prost::Message as _;
use proto::answer::{Answer, AuthAnswer};
use proto::authpb::{Permission, UserAddOptions, permission::Type};
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
    AuthUserAddRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest, Compare,
    DeleteRangeRequest, InternalAuthenticateRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, RequestOp, TxnRequest,
    alarm_request::AlarmAction, request_op::Request,
};
use proto::{LeaseId, Term};
use state::{Effect, Input, Leader, LeaseQuery, Question, Reject, Reply};

type Result = std::result::Result<Answer, Reject>;

const DENIED: Reject = Reject::Denied(Denied::PermissionDenied);

/// A world with the users root, alice and bob. Alice reads and writes `a` to `c`, and writes `w`.
struct Guarded(World);

fn entry(change: impl FnOnce(&mut InternalRaftRequest)) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    change(&mut request);
    request
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() }
}

fn puts(put: PutRequest) -> InternalRaftRequest {
    entry(|it| it.put = Some(put))
}

fn txn(success: Vec<Request>) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest { success: success.into_iter().map(op).collect(), ..TxnRequest::default() }
}

impl Guarded {
    fn new() -> Guarded {
        let mut world = World::new(settings());
        world.step(Input::Leadership(Term(1), Leader::Me));
        let mut world = Guarded(world);
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        self.apply_empty();
        for name in ["root", "alice", "bob"] {
            let options = Some(UserAddOptions { no_password: name == "bob" });
            let hashed_password = if name == "bob" { "" } else { "aGFzaA==" }.to_owned();
            let add = AuthUserAddRequest {
                name: name.into(),
                options,
                hashed_password,
                password: String::new(),
            };
            self.set(entry(|it| it.auth_user_add = Some(add)));
        }
        self.set(entry(|it| it.auth_role_add = Some(AuthRoleAddRequest { name: "r".into() })));
        for (user, role) in [("root", "root"), ("alice", "r")] {
            let grant = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
            self.set(entry(|it| it.auth_user_grant_role = Some(grant)));
        }
        for (kind, key, end) in [(Type::Readwrite, "a", "d"), (Type::Write, "w", "")] {
            let perm =
                Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() };
            let grant = AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
            self.set(entry(|it| it.auth_role_grant_permission = Some(grant)));
        }
        self.set(entry(|it| it.auth_enable = Some(AuthEnableRequest {})));
    }

    fn apply_empty(&mut self) {
        self.0.apply_empty(1);
    }

    fn revision(&self) -> u64 {
        self.0.state.auth().revision()
    }

    fn effects_as(&mut self, caller: Caller, mut request: InternalRaftRequest) -> Vec<Effect> {
        let id = self.0.index + 1;
        let Caller { user, auth_revision } = caller;
        request.header = Some(RequestHeader { id, username: user, auth_revision });
        self.0.apply_data(1, request.encode_to_vec().into())
    }

    fn apply_as(&mut self, caller: Caller, request: InternalRaftRequest) -> Result {
        let effects = self.effects_as(caller, request);
        let answer = effects.into_iter().find_map(|effect| {
            let Effect::Answer(_, answer) = effect else { return None };
            Some(answer)
        });
        answer.unwrap()
    }

    /// Applies a request of this user, authenticated now.
    fn by(&mut self, user: &str, request: InternalRaftRequest) -> Result {
        let auth_revision = self.revision();
        self.apply_as(Caller { user: user.into(), auth_revision }, request)
    }

    /// Applies a request of root that is not refused.
    fn set(&mut self, request: InternalRaftRequest) -> Answer {
        self.by("root", request).unwrap()
    }

    fn ask(&mut self, user: &str, query: LeaseQuery) -> Reply {
        let caller = Caller { user: user.into(), auth_revision: self.revision() };
        self.ask_as(Some(caller), query)
    }

    fn ask_as(&mut self, caller: Option<Caller>, query: LeaseQuery) -> Reply {
        let effects = self.0.step(Input::Ask(1, Question { caller, query }));
        replies(effects).remove(0).1
    }
}

#[test]
fn users_roles_and_permissions_survive_a_restart() {
    let mut world = Guarded::new();
    let before = world.revision();
    world.0.restart(settings());
    assert_eq!(world.revision(), before);
    assert!(world.0.state.auth().is_enabled());
    assert!(world.by("alice", puts(put("a"))).is_ok());
    assert_eq!(world.by("alice", puts(put("e"))), Err(DENIED));
    assert_eq!(world.by("bob", puts(put("a"))), Err(DENIED));
    assert_eq!(
        world.apply_as(Caller::default(), puts(put("a"))),
        Err(Reject::Denied(Denied::UserEmpty))
    );
    let status = world.by("nobody", entry(|it| it.auth_status = Some(AuthStatusRequest {})));
    let status = status.unwrap();
    assert_eq!(status, Answer::Auth(AuthAnswer::Status { enabled: true, revision: before }));
}

#[test]
fn an_entry_that_was_authenticated_at_an_older_revision_is_refused() {
    let mut world = Guarded::new();
    let caller = Caller { user: "alice".into(), auth_revision: world.revision() };
    assert!(world.apply_as(caller.clone(), puts(put("a"))).is_ok());
    world.set(entry(|it| it.auth_role_add = Some(AuthRoleAddRequest { name: "other".into() })));
    let old = Err(Reject::Denied(Denied::OldRevision));
    assert_eq!(world.apply_as(caller, puts(put("a"))), old);
}

#[test]
fn a_permission_that_was_taken_away_allows_nothing_more() {
    let mut world = Guarded::new();
    let revoke = AuthRoleRevokePermissionRequest {
        role: "r".into(),
        key: "a".into(),
        range_end: "d".into(),
    };
    world.set(entry(|it| it.auth_role_revoke_permission = Some(revoke)));
    assert_eq!(world.by("alice", puts(put("a"))), Err(DENIED));
    assert!(world.by("alice", puts(put("w"))).is_ok());
}

#[test]
fn alarms_come_before_permission_and_permission_before_the_quota() {
    let mut world = Guarded::new();
    let alarm = |alarm: AlarmType, action: AlarmAction| {
        let alarm = AlarmRequest { action: action.into(), member_id: 7, alarm: alarm.into() };
        entry(|it| it.alarm = Some(alarm))
    };
    let nobody = Caller::default;
    world.apply_as(nobody(), alarm(AlarmType::Nospace, AlarmAction::Activate)).unwrap();
    assert_eq!(world.apply_as(nobody(), puts(put("a"))), Err(Reject::NoSpace));
    world.apply_as(nobody(), alarm(AlarmType::Corrupt, AlarmAction::Activate)).unwrap();
    assert_eq!(world.apply_as(nobody(), puts(put("a"))), Err(Reject::Corrupt));
    // Users and roles can be changed all the same.
    world.set(entry(|it| it.auth_role_add = Some(AuthRoleAddRequest { name: "new".into() })));
}

#[test]
fn tokens_are_known_before_the_view_and_the_answer_of_their_entry() {
    let mut world = Guarded::new();
    let name = "alice".to_owned();
    let simple_token = "abcdefghijklmnop".to_owned();
    let password = String::new();
    let authenticate = InternalAuthenticateRequest { name, password, simple_token };
    let request = entry(|it| it.authenticate = Some(authenticate));
    let index = world.0.index;
    let effects = world.effects_as(Caller::default(), request);
    let place = |wanted: &dyn Fn(&Effect) -> bool| effects.iter().position(wanted).unwrap();
    let token = format!("abcdefghijklmnop.{index}");
    let assigned = TokenChange::Assigned { token: token.clone(), user: "alice".into() };
    let tokens = place(
        &|effect| matches!(effect, Effect::Tokens(changes) if *changes == [assigned.clone()]),
    );
    assert!(tokens < place(&|effect| matches!(effect, Effect::Publish(_))));
    let revision = world.revision();
    let wanted = Ok(Answer::Auth(AuthAnswer::Authenticated { token, revision }));
    assert!(tokens < place(&|effect| matches!(effect, Effect::Answer(_, it) if *it == wanted)));
}

#[test]
fn tokens_end_with_their_user_and_with_authentication() {
    let mut world = Guarded::new();
    let mut changes = |request| {
        let root = Caller { user: "root".into(), auth_revision: world.revision() };
        let effects = world.effects_as(root, request);
        effects.into_iter().find_map(|effect| {
            let Effect::Tokens(changes) = effect else { return None };
            Some(changes)
        })
    };
    let delete = AuthUserDeleteRequest { name: "alice".into() };
    let gone = changes(entry(|it| it.auth_user_delete = Some(delete)));
    assert_eq!(gone, Some(vec![TokenChange::UserGone("alice".into())]));
    let role = AuthRoleAddRequest { name: "x".into() };
    assert_eq!(changes(entry(|it| it.auth_role_add = Some(role))), None);
    let off = changes(entry(|it| it.auth_disable = Some(AuthDisableRequest {})));
    assert_eq!(off, Some(vec![TokenChange::AllGone]));
}

#[test]
fn only_administrators_change_users_and_roles() {
    let mut world = Guarded::new();
    let add = || entry(|it| it.auth_role_add = Some(AuthRoleAddRequest { name: "x".into() }));
    assert_eq!(world.by("alice", add()), Err(DENIED));
    assert_eq!(world.by("unknown", add()), Err(Reject::Auth(AuthRefusal::CallerNotFound)));
    let nobody = world.apply_as(Caller::default(), add());
    assert_eq!(nobody, Err(Reject::Denied(Denied::UserEmpty)));
    assert!(world.by("root", add()).is_ok());
    assert_eq!(world.by("root", add()), Err(Reject::Auth(AuthRefusal::RoleAlreadyExists)));
}

#[test]
fn an_expired_lease_is_revoked_with_the_keys_of_anybody() {
    let mut world = Guarded::new();
    let grant = LeaseGrantRequest { id: 5, ttl: 10 };
    world.set(entry(|it| it.lease_grant = Some(grant)));
    world.set(puts(PutRequest { lease: 5, ..put("z") }));
    world.0.now_ms += 60_000;
    let proposed = world.0.step(Input::Tick).into_iter().find_map(|effect| {
        let Effect::Propose(request, _) = effect else { return None };
        request.lease_revoke.is_some().then_some(request)
    });
    let request = proposed.unwrap();
    let header = request.header.clone().unwrap();
    let caller = Caller { user: header.username, auth_revision: header.auth_revision };
    // The store changes between the proposal and its entry.
    world.set(entry(|it| it.auth_role_add = Some(AuthRoleAddRequest { name: "x".into() })));
    world.apply_as(caller, *request).unwrap();
    let gone = RangeRequest { key: "z".into(), ..RangeRequest::default() };
    let Ok(Answer::Range(found)) = world.by("root", entry(|it| it.range = Some(gone))) else {
        panic!("no answer");
    };
    assert_eq!(found.count, 0);
}

#[test]
fn a_lease_is_renewed_by_who_may_write_its_keys_and_by_other_members() {
    let mut world = Guarded::new();
    world.set(entry(|it| it.lease_grant = Some(LeaseGrantRequest { id: 5, ttl: 10 })));
    world.set(puts(PutRequest { lease: 5, ..put("z") }));
    let renew = LeaseQuery::KeepAlive(LeaseId(5));
    assert_eq!(world.ask("alice", renew.clone()), Reply::Denied(Denied::PermissionDenied));
    assert_eq!(world.ask("root", renew.clone()), Reply::KeptAlive { ttl_s: 10 });
    let nobody = world.ask_as(Some(Caller::default()), renew.clone());
    assert_eq!(nobody, Reply::Denied(Denied::UserEmpty));
    assert_eq!(world.ask_as(None, renew), Reply::KeptAlive { ttl_s: 10 });
    let revoke = || entry(|it| it.lease_revoke = Some(LeaseRevokeRequest { id: 5 }));
    assert_eq!(world.by("alice", revoke()), Err(DENIED));
    assert!(world.by("root", revoke()).is_ok());
}

#[test]
fn cve_2023_32082_a_lease_shows_its_keys_to_who_may_read_them() {
    let mut world = Guarded::new();
    world.set(entry(|it| it.lease_grant = Some(LeaseGrantRequest { id: 5, ttl: 10 })));
    world.set(puts(PutRequest { lease: 5, ..put("a") }));
    let ask = |keys| LeaseQuery::TimeToLive { lease: LeaseId(5), keys };
    let Reply::TimeToLive { keys, .. } = world.ask("alice", ask(true)) else { panic!() };
    assert_eq!(keys, [Bytes::from("a")]);
    assert_eq!(world.ask("bob", ask(true)), Reply::Denied(Denied::PermissionDenied));
    assert!(matches!(world.ask("bob", ask(false)), Reply::TimeToLive { .. }));
    // `w` may be written, and not read.
    world.set(puts(PutRequest { lease: 5, ..put("w") }));
    assert_eq!(world.ask("alice", ask(true)), Reply::Denied(Denied::PermissionDenied));
    assert_eq!(world.ask("alice", LeaseQuery::List), Reply::Denied(Denied::PermissionDenied));
}

/// Requests that alice may not make, each with the part of it that denies it.
fn forbidden() -> Vec<(&'static str, Request)> {
    let range = |key: &'static str, end: &'static str| RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    let delete = |key: &'static str, end: &'static str, prev_kv| DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        prev_kv,
    };
    vec![
        ("reads a key", Request::RequestRange(range("e", ""))),
        ("reads beyond", Request::RequestRange(range("a", "e"))),
        ("reads from a key on", Request::RequestRange(range("a", "\0"))),
        ("writes a key", Request::RequestPut(put("e"))),
        ("reads the value before", Request::RequestPut(PutRequest { prev_kv: true, ..put("w") })),
        ("takes part in a lease", Request::RequestPut(PutRequest { lease: 5, ..put("a") })),
        ("deletes beyond", Request::RequestDeleteRange(delete("a", "e", false))),
        ("deletes from a key on", Request::RequestDeleteRange(delete("w", "\0", false))),
        ("reads what it deletes", Request::RequestDeleteRange(delete("w", "", true))),
    ]
}

fn nested(request: Request, depth: usize, branch: bool) -> TxnRequest {
    let mut txn = txn(vec![request]);
    for _ in 0..depth {
        txn = self::txn(vec![Request::RequestTxn(txn)]);
    }
    if branch { TxnRequest { failure: std::mem::take(&mut txn.success), ..txn } } else { txn }
}

/// An operation that is denied alone is also denied in a transaction, at each depth and in each
/// branch, even in the one that is not taken. Nothing of the transaction is executed.
#[test]
fn cve_2026_33343_cve_2026_44283_what_is_denied_alone_is_denied_in_every_transaction() {
    let mut world = Guarded::new();
    world.set(entry(|it| it.lease_grant = Some(LeaseGrantRequest { id: 5, ttl: 10 })));
    world.set(puts(PutRequest { lease: 5, ..put("z") }));
    world.set(puts(put("w")));
    for (what, request) in forbidden() {
        for depth in 0..4 {
            for branch in [true, false] {
                let mut txn = nested(request.clone(), depth, branch);
                let first = RequestOp { request: Some(Request::RequestPut(put("b"))) };
                txn.success.insert(0, first);
                let denied = world.by("alice", entry(|it| it.txn = Some(txn.clone())));
                assert_eq!(denied, Err(DENIED), "{what}, at depth {depth}, {branch}");
                assert!(world.by("root", entry(|it| it.txn = Some(txn))).is_ok(), "{what}");
            }
        }
    }
    let compare = Compare { key: "e".into(), ..Compare::default() };
    let txn = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
    assert_eq!(world.by("alice", entry(|it| it.txn = Some(txn))), Err(DENIED));
}
