//! Every method of every service, called by every kind of user. The list of methods comes from the
//! descriptors, so a new method without a row fails.

use super::{DENIED, EMPTY, Server, post, run, run_within};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, BufMut as _, Bytes};
use client::Client;
use prost::Message;
use proto::authpb::{Permission, UserAddOptions, permission::Type};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as OpRequest;
use proto::v3electionpb as el;
use proto::v3lockpb as lk;
use serde_json::Value;
use std::collections::BTreeSet;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

/// What a call requires of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// No token that is not valid.
    NoBadToken,
    User,
    Admin,
    /// Permission to read these keys.
    Read(&'static str, &'static str),
    Write(&'static str, &'static str),
    Both(&'static str, &'static str),
    /// To be this user, or an administrator.
    Own(&'static str),
}

/// The first key of a range and its end, if there is one.
type Keys = Option<(&'static str, &'static str)>;

/// A user of the matrix, with the token that its calls have.
struct Who {
    name: &'static str,
    token: Option<String>,
    may_read: Keys,
    may_write: Keys,
}

const ALL: Keys = Some(("\0", "\0"));
const KEYS: Keys = Some(("a", "d"));
const PART: Keys = Some(("a", "b"));

/// What a call that is let in does not say.
const REFUSALS: [&str; 4] = [EMPTY, DENIED, "etcdserver: invalid auth token", "no answer"];

/// The users, and the keys that they may read and write. All passwords are `p`.
const USERS: [(&str, Keys, Keys); 5] = [
    ("norole", None, None),
    ("reader", KEYS, None),
    ("writer", None, KEYS),
    ("part", PART, PART),
    ("all", ALL, ALL),
];

fn covers(permission: Keys, (key, end): (&str, &str)) -> bool {
    let Some((from, until)) = permission else { return false };
    let is_open = until == "\0";
    let fits = match end {
        "" => key < until,
        "\0" => false,
        end => end <= until,
    };
    from <= key && (is_open || fits)
}

impl Who {
    /// etcd's error, if the call is refused.
    fn refusal(&self, needs: Needs) -> Option<&'static str> {
        let is_root = self.name == "root";
        if needs == Needs::Nothing {
            return None;
        }
        match self.name {
            "nobody" => return (needs != Needs::NoBadToken).then_some(EMPTY),
            "forger" | "expired" => return Some("etcdserver: invalid auth token"),
            _ => {}
        }
        let is_allowed = match needs {
            Needs::Nothing | Needs::NoBadToken | Needs::User => true,
            Needs::Admin => is_root,
            Needs::Read(key, end) => is_root || covers(self.may_read, (key, end)),
            Needs::Write(key, end) => is_root || covers(self.may_write, (key, end)),
            Needs::Both(key, end) => {
                let range = (key, end);
                is_root || covers(self.may_read, range) && covers(self.may_write, range)
            }
            Needs::Own(name) => is_root || self.name == name,
        };
        (!is_allowed).then_some(DENIED)
    }
}

/// A call of the matrix.
struct Row {
    path: &'static str,
    /// What is special about it.
    option: &'static str,
    request: Vec<u8>,
    needs: Needs,
}

fn row(path: &'static str, option: &'static str, request: impl Message, needs: Needs) -> Row {
    Row { path, option, request: request.encode_to_vec(), needs }
}

fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn put(key: &'static str, prev_kv: bool) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), prev_kv, ..Default::default() }
}

fn delete(key: &'static str, end: &'static str, prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv }
}

fn op(request: OpRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn txn(op_in_branch: OpRequest) -> pb::TxnRequest {
    pb::TxnRequest { failure: vec![op(op_in_branch)], ..Default::default() }
}

fn watch(key: &'static str, end: &'static str) -> pb::WatchRequest {
    let create =
        pb::WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() };
    let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    pb::WatchRequest { request_union }
}

/// The lease that is attached to the key `b`.
const LEASE: i64 = 77;

fn kv_rows() -> Vec<Row> {
    use Needs::{Admin, Both, Read, Write};
    let compare = pb::Compare { key: "b".into(), ..Default::default() };
    let compared = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    let nested = txn(OpRequest::RequestTxn(txn(OpRequest::RequestPut(put("b", false)))));
    let leased = pb::PutRequest { lease: LEASE, ..put("a", false) };
    vec![
        row("/etcdserverpb.KV/Range", "a key", range("a", ""), Read("a", "")),
        row("/etcdserverpb.KV/Range", "a range", range("a", "c"), Read("a", "c")),
        row("/etcdserverpb.KV/Range", "all keys", range("\0", "\0"), Read("\0", "\0")),
        row("/etcdserverpb.KV/Range", "from a key", range("a", "\0"), Read("a", "\0")),
        row("/etcdserverpb.KV/RangeStream", "a range", range("a", "c"), Read("a", "c")),
        row("/etcdserverpb.KV/Put", "a key", put("a", false), Write("a", "")),
        row("/etcdserverpb.KV/Put", "another key", put("b", false), Write("b", "")),
        row("/etcdserverpb.KV/Put", "prev_kv", put("b", true), Both("b", "")),
        // The lease has the key `b`.
        row("/etcdserverpb.KV/Put", "a lease", leased, Write("a", "c")),
        row("/etcdserverpb.KV/DeleteRange", "a key", delete("c", "", false), Write("c", "")),
        row("/etcdserverpb.KV/DeleteRange", "prev_kv", delete("c", "", true), Both("c", "")),
        row("/etcdserverpb.KV/DeleteRange", "a range", delete("c", "d", false), Write("c", "d")),
        row("/etcdserverpb.KV/Txn", "compare", compared, Read("b", "")),
        row(
            "/etcdserverpb.KV/Txn",
            "range",
            txn(OpRequest::RequestRange(range("b", ""))),
            Read("b", ""),
        ),
        row(
            "/etcdserverpb.KV/Txn",
            "put",
            txn(OpRequest::RequestPut(put("b", false))),
            Write("b", ""),
        ),
        row(
            "/etcdserverpb.KV/Txn",
            "put with prev_kv",
            txn(OpRequest::RequestPut(put("b", true))),
            Both("b", ""),
        ),
        row(
            "/etcdserverpb.KV/Txn",
            "delete",
            txn(OpRequest::RequestDeleteRange(delete("c", "", false))),
            Write("c", ""),
        ),
        row("/etcdserverpb.KV/Txn", "nested", nested, Write("b", "")),
        row("/etcdserverpb.KV/Compact", "", pb::CompactionRequest::default(), Admin),
        row("/etcdserverpb.Watch/Watch", "a key", watch("a", ""), Read("a", "")),
        row("/etcdserverpb.Watch/Watch", "a range", watch("a", "c"), Read("a", "c")),
        row("/etcdserverpb.Watch/Watch", "from a key", watch("a", "\0"), Read("a", "\0")),
    ]
}

fn lease_rows() -> Vec<Row> {
    use Needs::{Read, User, Write};
    let ttl = |id, keys| pb::LeaseTimeToLiveRequest { id, keys };
    vec![
        row("/etcdserverpb.Lease/LeaseGrant", "", pb::LeaseGrantRequest { ttl: 600, id: 0 }, User),
        row("/etcdserverpb.Lease/LeaseRevoke", "", pb::LeaseRevokeRequest { id: 5 }, User),
        row(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            "keys",
            pb::LeaseKeepAliveRequest { id: LEASE },
            Write("b", ""),
        ),
        row("/etcdserverpb.Lease/LeaseTimeToLive", "keys", ttl(LEASE, true), Read("b", "")),
        row("/etcdserverpb.Lease/LeaseLeases", "keys", pb::LeaseLeasesRequest {}, Read("b", "")),
    ]
}

fn cluster_rows() -> Vec<Row> {
    use Needs::{Admin, Nothing, User};
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let add = pb::MemberAddRequest { peer_ur_ls: Vec::new(), is_learner: true };
    let update = pb::MemberUpdateRequest { id: 1, peer_ur_ls: urls };
    let deactivate = pb::AlarmRequest { action: 2, member_id: 1, alarm: 1 };
    let downgrade = pb::DowngradeRequest { action: 0, version: "3.6.0".into() };
    let health = || proto::healthpb::HealthCheckRequest::default();
    vec![
        row("/etcdserverpb.Cluster/MemberAdd", "no URL", add, Nothing),
        row("/etcdserverpb.Cluster/MemberRemove", "", pb::MemberRemoveRequest { id: 1 }, Admin),
        row("/etcdserverpb.Cluster/MemberUpdate", "", update, Admin),
        row("/etcdserverpb.Cluster/MemberPromote", "", pb::MemberPromoteRequest { id: 1 }, Admin),
        row("/etcdserverpb.Cluster/MemberList", "", pb::MemberListRequest::default(), User),
        row("/etcdserverpb.Maintenance/Alarm", "get", pb::AlarmRequest::default(), User),
        row("/etcdserverpb.Maintenance/Alarm", "deactivate", deactivate, Admin),
        row("/etcdserverpb.Maintenance/Status", "", pb::StatusRequest {}, User),
        row("/etcdserverpb.Maintenance/Defragment", "", pb::DefragmentRequest {}, Admin),
        row("/etcdserverpb.Maintenance/Hash", "", pb::HashRequest {}, Admin),
        row("/etcdserverpb.Maintenance/HashKV", "", pb::HashKvRequest { revision: 0 }, Admin),
        row("/etcdserverpb.Maintenance/Snapshot", "", pb::SnapshotRequest {}, Admin),
        row(
            "/etcdserverpb.Maintenance/MoveLeader",
            "",
            pb::MoveLeaderRequest { target_id: 1 },
            Admin,
        ),
        row("/etcdserverpb.Maintenance/Downgrade", "", downgrade, Admin),
        row("/grpc.health.v1.Health/Check", "", health(), Nothing),
        row("/grpc.health.v1.Health/List", "", proto::healthpb::HealthListRequest {}, Nothing),
        row("/grpc.health.v1.Health/Watch", "", health(), Nothing),
    ]
}

fn auth_rows() -> Vec<Row> {
    use Needs::{Admin, NoBadToken, Nothing, Own};
    let name = || "ghost".to_owned();
    let permission = Permission { key: "x".into(), ..Default::default() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: name(), perm: Some(permission) };
    let revoke = pb::AuthRoleRevokePermissionRequest {
        role: name(),
        key: "x".into(),
        range_end: Bytes::new(),
    };
    let login = pb::AuthenticateRequest { name: "all".into(), password: "p".into() };
    let grant_role = pb::AuthUserGrantRoleRequest { user: name(), role: name() };
    let revoke_role = pb::AuthUserRevokeRoleRequest { name: name(), role: name() };
    let change = pb::AuthUserChangePasswordRequest {
        name: name(),
        password: "p".into(),
        ..Default::default()
    };
    let add = pb::AuthUserAddRequest { name: "all".into(), ..Default::default() };
    vec![
        row("/etcdserverpb.Auth/AuthEnable", "", pb::AuthEnableRequest {}, Admin),
        row("/etcdserverpb.Auth/AuthStatus", "", pb::AuthStatusRequest {}, NoBadToken),
        row("/etcdserverpb.Auth/Authenticate", "", login, Nothing),
        row("/etcdserverpb.Auth/UserAdd", "again", add, Admin),
        row(
            "/etcdserverpb.Auth/UserGet",
            "own",
            pb::AuthUserGetRequest { name: "part".into() },
            Own("part"),
        ),
        row("/etcdserverpb.Auth/UserList", "", pb::AuthUserListRequest {}, Admin),
        row("/etcdserverpb.Auth/UserDelete", "", pb::AuthUserDeleteRequest { name: name() }, Admin),
        row("/etcdserverpb.Auth/UserChangePassword", "", change, Admin),
        row("/etcdserverpb.Auth/UserGrantRole", "", grant_role, Admin),
        row("/etcdserverpb.Auth/UserRevokeRole", "", revoke_role, Admin),
        row(
            "/etcdserverpb.Auth/RoleAdd",
            "no name",
            pb::AuthRoleAddRequest { name: String::new() },
            Admin,
        ),
        row(
            "/etcdserverpb.Auth/RoleGet",
            "own",
            pb::AuthRoleGetRequest { role: "part".into() },
            Own("part"),
        ),
        row("/etcdserverpb.Auth/RoleList", "", pb::AuthRoleListRequest {}, Admin),
        row("/etcdserverpb.Auth/RoleDelete", "", pb::AuthRoleDeleteRequest { role: name() }, Admin),
        row("/etcdserverpb.Auth/RoleGrantPermission", "", grant, Admin),
        row("/etcdserverpb.Auth/RoleRevokePermission", "", revoke, Admin),
    ]
}

/// Locks and elections under `b`, with the lease of `b`.
fn lock_rows() -> Vec<Row> {
    use Needs::{Both, Read, Write};
    let name = || Bytes::from("b");
    let leader = el::LeaderKey { name: name(), key: "b/x".into(), rev: 1, lease: LEASE };
    let campaign = el::CampaignRequest { name: name(), lease: LEASE, value: Bytes::new() };
    let resign = el::ResignRequest { leader: Some(leader.clone()) };
    let proclaim = el::ProclaimRequest { leader: Some(leader), value: Bytes::new() };
    vec![
        row("/v3electionpb.Election/Campaign", "", campaign, Both("b/", "b0")),
        row(
            "/v3electionpb.Election/Leader",
            "",
            el::LeaderRequest { name: name() },
            Read("b/", "b0"),
        ),
        row(
            "/v3electionpb.Election/Observe",
            "",
            el::LeaderRequest { name: name() },
            Read("b/", "b0"),
        ),
        row("/v3electionpb.Election/Proclaim", "", proclaim, Both("b/x", "")),
        row("/v3electionpb.Election/Resign", "", resign, Both("b/x", "")),
        row(
            "/v3lockpb.Lock/Lock",
            "",
            lk::LockRequest { name: "c".into(), lease: LEASE },
            Both("c/", "c0"),
        ),
        row("/v3lockpb.Lock/Unlock", "", lk::UnlockRequest { key: "c/x".into() }, Write("c/x", "")),
    ]
}

/// Passes bytes through.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The error of a call, empty if there is none. Of a stream, the first message is read.
async fn call(channel: &Channel, row: &Row, token: Option<&str>) -> String {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let requests = tokio_stream::once(Bytes::from(row.request.clone()));
    let mut request = tonic::Request::new(requests);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    let path = http::uri::PathAndQuery::from_static(row.path);
    let first = async {
        let mut stream = grpc.streaming(request, path, Raw).await?.into_inner();
        stream.message().await
    };
    let first = tokio::time::timeout(std::time::Duration::from_secs(5), first).await;
    match first.unwrap_or_else(|_| Err(Status::unknown("no answer"))) {
        Err(status) => status.message().to_owned(),
        // A watch is refused in its stream, with the words of etcd's auth package.
        Ok(Some(message)) if row.path == "/etcdserverpb.Watch/Watch" => {
            let response = pb::WatchResponse::decode(message).unwrap();
            response.cancel_reason.split("desc = ").last().unwrap_or_default().to_owned()
        }
        Ok(_) => String::new(),
    }
}

async fn set_up(client: &Client) {
    let user = |name: &str| pb::AuthUserAddRequest {
        name: name.into(),
        password: "p".into(),
        options: Some(UserAddOptions { no_password: false }),
        hashed_password: String::new(),
    };
    let role = |name: &str| pb::AuthRoleAddRequest { name: name.into() };
    let grant_role =
        |name: &str| pb::AuthUserGrantRoleRequest { user: name.into(), role: name.into() };
    for (name, read, write) in USERS {
        client.user_add(user(name)).await.unwrap();
        client.role_add(role(name)).await.unwrap();
        if name != "norole" {
            client.user_grant_role(grant_role(name)).await.unwrap();
        }
        let kind = match (read, write) {
            (None, None) => continue,
            (Some(_), None) => Type::Read,
            (None, Some(_)) => Type::Write,
            (Some(_), Some(_)) => Type::Readwrite,
        };
        let (key, end) = read.or(write).unwrap();
        let perm = Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() };
        let grant = pb::AuthRoleGrantPermissionRequest { name: name.into(), perm: Some(perm) };
        client.role_grant_permission(grant).await.unwrap();
    }
    client.user_add(user("root")).await.unwrap();
    client.role_add(role("root")).await.unwrap();
    client.user_grant_role(grant_role("root")).await.unwrap();
    client.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: LEASE }).await.unwrap();
    let leased = pb::PutRequest { lease: LEASE, ..put("b", false) };
    client.put(leased).await.unwrap();
    client.put(put("a", false)).await.unwrap();
}

fn every_method() -> BTreeSet<String> {
    let pool = prost_reflect::DescriptorPool::decode(rpc::stubs::DESCRIPTORS).unwrap();
    let methods = pool.services().flat_map(|service| {
        let name = service.full_name().to_owned();
        service
            .methods()
            .map(move |method| format!("/{name}/{}", method.name()))
            .collect::<Vec<_>>()
    });
    methods.collect()
}

/// All rows but the last one, which turns authentication off.
fn all_rows() -> (Vec<Row>, Row) {
    let mut rows = lock_rows();
    for more in [kv_rows(), lease_rows(), cluster_rows(), auth_rows()] {
        rows.extend(more);
    }
    let disable =
        row("/etcdserverpb.Auth/AuthDisable", "", pb::AuthDisableRequest {}, Needs::Admin);
    (rows, disable)
}

/// The secret of the JSON Web Tokens.
const SECRET: &str = "the secret of the matrix";

/// A token with the claims of another one that has expired long ago.
fn expired(token: &str) -> String {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"] = 1_000_000_000.into();
    let header = token.split('.').next().unwrap();
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// The users of the matrix but root, which comes last. JSON Web Tokens can be expired without a
/// wait.
fn users(server: &Server, has_jwt: bool) -> (Vec<Who>, Who) {
    let user = |name, token, may_read, may_write| Who { name, token, may_read, may_write };
    let mut users = vec![user("nobody", None, None, None)];
    users.push(user("forger", Some("abcdefghijklmnop.1".to_owned()), None, None));
    for (name, read, write) in USERS {
        users.push(user(name, Some(server.token_of(name, "p")), read, write));
    }
    let root = user("root", Some(server.token_of("root", "p")), ALL, ALL);
    if has_jwt {
        let expired = root.token.as_deref().map(expired);
        users.push(user("expired", expired, ALL, ALL));
    }
    (users, root)
}

/// A call, its user, and the error that it got.
struct Asked {
    call: String,
    said: String,
    is_right: bool,
}

/// Makes every call as every user; as root last of all, since it turns authentication off.
async fn ask_all(server: &Server, has_jwt: bool) -> Vec<Asked> {
    let (rows, disable) = all_rows();
    let client = server.client(None).await.unwrap();
    set_up(&client).await;
    // Without a leader, those who may observe would wait.
    let body = format!(r#"{{"name":"Yg==","lease":{LEASE}}}"#);
    post(&server.endpoint, "/v3/election/campaign", "", &body);
    client.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let channel = Channel::from_shared(server.endpoint.clone()).unwrap().connect().await.unwrap();
    let (users, root) = users(server, has_jwt);
    let calls = users.iter().chain([&root]).flat_map(|who| rows.iter().map(move |row| (who, row)));
    let disables = users.iter().map(|who| (who, &disable));
    let mut asked = Vec::new();
    for (who, row) in calls.chain(disables).chain([(&root, &disable)]) {
        let said = call(&channel, row, who.token.as_deref()).await;
        let is_right = match who.refusal(row.needs) {
            Some(refusal) => said == refusal,
            None => !REFUSALS.contains(&&said[..]),
        };
        let call = format!("{} {} as {}", row.path, row.option, who.name);
        asked.push(Asked { call, said, is_right });
    }
    asked
}

fn assert_right(asked: &[Asked]) {
    let wrong = asked.iter().filter(|it| !it.is_right);
    let wrong: Vec<String> = wrong.map(|it| format!("{}: {:?}", it.call, it.said)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_method_lets_in_whom_it_should() {
    let (rows, disable) = all_rows();
    let paths = rows.iter().chain([&disable]).map(|row| row.path.to_owned());
    assert_eq!(paths.collect::<BTreeSet<_>>(), every_method(), "each method has a row");
    let server = Server::start();
    run(async { assert_right(&ask_all(&server, false).await) });
}

/// Answers of Go's 3.5.30 that differ: the start of a call, and the answer. The reasons are in
/// docs/differences.md.
const DIFFERENCES: [(&str, &str); 6] = [
    ("/v3electionpb.Election/Observe ", ""),
    ("/etcdserverpb.Auth/AuthStatus ", EMPTY),
    ("/etcdserverpb.Auth/AuthStatus ", DENIED),
    ("/etcdserverpb.Maintenance/Status ", DENIED),
    ("/etcdserverpb.Watch/Watch from a key ", ""),
    (
        "/etcdserverpb.Maintenance/Downgrade  as root",
        "etcdserver: invalid downgrade target version",
    ),
];

/// The place of a difference in [`DIFFERENCES`]; `None` if it is not listed.
fn listed(call: &str, theirs: &str) -> Option<usize> {
    DIFFERENCES.iter().position(|(start, answer)| call.starts_with(start) && theirs == *answer)
}

/// Whether the errors are the same but for the name of the package, which 3.5.30 leaves in the errors
/// of four maintenance calls.
fn differs_in_package(ours: &str, theirs: &str) -> bool {
    let without = (ours.strip_prefix("etcdserver: "), theirs.strip_prefix("auth: "));
    matches!(without, (Some(ours), Some(theirs)) if ours == theirs)
}

/// What a server of gRPC says about a method that it does not have.
fn is_unknown(said: &str) -> bool {
    said.starts_with("unknown method ") || said.starts_with("unknown service ")
}

/// With JSON Web Tokens, and in the same way as Go's etcd where `GO35` names one.
#[test]
fn every_method_refuses_an_expired_token_and_says_what_go_says() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let flag = format!("--auth-token=jwt,sign-method=HS256,priv-key={},ttl=1h", secret.display());
    let flags = [flag];
    let server = Server::start_with(&flags);
    let mut ours = Vec::new();
    run(async { ours = ask_all(&server, true).await });
    assert_right(&ours);
    let Some(go) = std::env::var_os("GO35") else {
        println!("skipped: GO35 does not name Go's etcd 3.5, so the answers are not compared");
        return;
    };
    let mut go = Server::start_program(&go, &flags);
    // It logs each request, and would wait for a reader of its log.
    let mut log = go.log.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let mut theirs = Vec::new();
    run_within(200, async { theirs = ask_all(&go, true).await });
    let both = ours.iter().zip(&theirs).filter(|(_, theirs)| !is_unknown(&theirs.said));
    let (mut compared, mut other, mut seen) = (0, Vec::new(), BTreeSet::new());
    for (ours, theirs) in both {
        assert_eq!(ours.call, theirs.call);
        compared += 1;
        if ours.said == theirs.said || differs_in_package(&ours.said, &theirs.said) {
            continue;
        }
        match listed(&ours.call, &theirs.said) {
            Some(row) => {
                seen.insert(row);
            }
            None => other.push(format!("{}: {:?}, Go: {:?}", ours.call, ours.said, theirs.said)),
        }
    }
    assert!(compared > 400, "{compared} of {}", ours.len());
    assert!(other.is_empty(), "{}", other.join("\n"));
    assert_eq!(seen.len(), DIFFERENCES.len(), "differences that are not needed: {seen:?}");
}
