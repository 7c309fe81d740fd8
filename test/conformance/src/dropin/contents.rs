//! The data that is written into a directory at each step, which is the turn of one server.

use super::access::{Access, ROOT};
use crate::cluster::Node;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use proto::authpb::{Permission, permission::Type};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, CompactionRequest, Compare,
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use std::path::Path;
use tokio::task::JoinSet;

/// The keys of each step.
const KEYS: u32 = 40;
/// The bytes of a large value. About 64 of them fill a segment of the log, which has 64 MB.
const LARGE_BYTES: usize = 1_000_000;
/// The number of large values for three cuts of the log, and for one cut.
const LARGE: [u32; 2] = [200, 70];
/// The keys of a large store, and of one transaction.
const MANY: u32 = 1_000_000;
const TXN_KEYS: u32 = 125;
/// How many requests are in flight at a time if there are many.
const AT_A_TIME: usize = 8;
/// The TTL of leases that must not expire during the run, in seconds.
const LONG_TTL_S: i64 = 3_600;

/// A kind of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contents {
    /// Keys alone.
    Fresh,
    /// Two compactions at each step, one of them just before the end.
    Compacted,
    /// Users and roles, with authentication enabled.
    Auth,
    /// Leases with keys.
    Leases,
    /// At least three cuts of the log, and snapshots.
    Cuts,
    /// Keys of the v2 API. Only Go's etcd serves them; ours preserves them for a later Go etcd.
    V2,
    /// A million keys.
    Many,
}

impl Contents {
    /// Whether every call needs a user once the first step is done.
    pub(super) fn is_guarded(self) -> bool {
        self == Contents::Auth
    }

    /// The value of `--snapshot-count` that the contents need, if any.
    pub(super) fn snapshot_count(self) -> Option<u32> {
        match self {
            Contents::Cuts => Some(100),
            // Ours does not start on a log with v2 requests after the newest snapshot.
            Contents::V2 => Some(20),
            Contents::Fresh
            | Contents::Compacted
            | Contents::Auth
            | Contents::Leases
            | Contents::Many => None,
        }
    }

    /// Writes the data of a step through a serving member. The first step has number 0.
    pub(super) async fn write(
        self,
        node: &Node,
        access: &mut Access,
        step: u32,
        rng: &mut StdRng,
    ) -> Result<()> {
        some_keys(access, rng).await.context("keys")?;
        match self {
            Contents::Fresh | Contents::V2 => {}
            Contents::Compacted => compact(access, rng).await?,
            Contents::Auth => users(node, access, step).await?,
            Contents::Leases => leases(access, i64::from(step), rng).await?,
            Contents::Cuts => large_values(access, LARGE[usize::from(step > 0)], rng).await?,
            Contents::Many => many_keys(access, if step == 0 { MANY } else { 1_000 }).await?,
        }
        some_keys(access, rng).await.context("keys")
    }

    /// Fails if the directory does not have the property that these contents are meant to create.
    pub(super) fn check(self, data_dir: &Path) -> Result<()> {
        if self == Contents::Cuts {
            let count = |folder: &str, extension: &str| -> Result<usize> {
                let files = std::fs::read_dir(data_dir.join("member").join(folder))?;
                let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
                Ok(names.filter(|name| name.ends_with(extension)).count())
            };
            let (segments, snapshots) = (count("wal", ".wal")?, count("snap", ".snap")?);
            ensure!(segments > 3, "{segments} segments of the log are fewer than three cuts leave");
            ensure!(snapshots > 0, "there is no snapshot");
        }
        Ok(())
    }
}

fn key(number: u32) -> Bytes {
    // The names contain bytes that are not UTF-8.
    [b"k/\xff\0".as_slice(), format!("{number:04}").as_bytes()].concat().into()
}

fn value(rng: &mut StdRng) -> Bytes {
    // An empty value now and then, and some that are longer than a page of the database.
    let len = if rng.random_ratio(1, 20) { 9_000 } else { rng.random_range(0..200) };
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes.into()
}

/// Puts, deletes, and transactions that do both.
async fn some_keys(access: &Access, rng: &mut StdRng) -> Result<()> {
    let mut kv = access.kv.clone();
    for _ in 0..KEYS {
        let put = PutRequest {
            key: key(rng.random_range(0..KEYS)),
            value: value(rng),
            ..PutRequest::default()
        };
        kv.put(put).await?;
    }
    let from = rng.random_range(0..KEYS - 3);
    let range = DeleteRangeRequest {
        key: key(from),
        range_end: key(from + 3),
        ..DeleteRangeRequest::default()
    };
    kv.delete_range(range.clone()).await?;
    let compare = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: key(rng.random_range(0..KEYS)),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(0)),
    };
    let operation = |request| RequestOp { request: Some(request) };
    let put = PutRequest { key: key(KEYS), value: value(rng), ..PutRequest::default() };
    let other = PutRequest { key: key(KEYS + 1), value: value(rng), ..PutRequest::default() };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![
            operation(Request::RequestDeleteRange(range)),
            operation(Request::RequestPut(put.clone())),
            operation(Request::RequestPut(other)),
        ],
        failure: vec![operation(Request::RequestPut(put))],
    };
    kv.txn(txn).await?;
    Ok(())
}

/// Compacts twice. Waits for the first compaction; the second may still be running.
async fn compact(access: &Access, rng: &mut StdRng) -> Result<()> {
    let mut kv = access.kv.clone();
    let now = access.revision().await?;
    kv.compact(CompactionRequest { revision: now - 20, physical: true }).await?;
    some_keys(access, rng).await?;
    let now = access.revision().await?;
    kv.compact(CompactionRequest { revision: now - 5, physical: false }).await?;
    Ok(())
}

/// Enables authentication at step 0, and changes users and roles at each later step.
async fn users(node: &Node, access: &mut Access, step: u32) -> Result<()> {
    let mut auth = access.auth.clone();
    if step == 0 {
        add_user(access, ROOT.0, ROOT.1, "root").await?;
        permit(access, "reader", Type::Read, ("a/", "a0")).await?;
        permit(access, "writer", Type::Readwrite, ("w/", "\0")).await?;
        permit(access, "one", Type::Write, ("one", "")).await?;
        add_user(access, "alice", "alice's", "writer").await?;
        add_user(access, "bob", "bob's", "reader").await?;
        auth.auth_enable(AuthEnableRequest {}).await?;
        *access = Access::log_in(node.channel()?, ROOT.0, ROOT.1).await?;
        return Ok(());
    }
    check_users(node, step).await?;
    let name = format!("user{step}");
    permit(access, &format!("role{step}"), Type::Readwrite, ("s/", "s0")).await?;
    add_user(access, &name, "its password", &format!("role{step}")).await?;
    let user_grant = AuthUserGrantRoleRequest { user: name.clone(), role: "one".to_owned() };
    auth.user_grant_role(user_grant).await?;
    let revoke = AuthUserRevokeRoleRequest { name, role: format!("role{step}") };
    auth.user_revoke_role(revoke).await?;
    auth.user_change_password(AuthUserChangePasswordRequest {
        name: "alice".to_owned(),
        password: format!("alice's {step}"),
        ..Default::default()
    })
    .await?;
    let role = AuthRoleRevokePermissionRequest {
        role: format!("role{step}"),
        key: "s/".into(),
        range_end: "s0".into(),
    };
    auth.role_revoke_permission(role).await?;
    Ok(())
}

/// Checks the permissions that the users got at the step before.
async fn check_users(node: &Node, step: u32) -> Result<()> {
    let password = if step == 1 { "alice's".to_owned() } else { format!("alice's {}", step - 1) };
    let wrong = Access::log_in(node.channel()?, "alice", "another").await;
    let wrong = wrong.err().context("a wrong password is taken")?;
    ensure!(format!("{wrong:#}").contains("authentication failed"), "{wrong:#}");
    let alice = Access::log_in(node.channel()?, "alice", &password).await.context("alice")?;
    let put = |key: &'static str| PutRequest { key: key.into(), ..PutRequest::default() };
    alice.kv.clone().put(put("w/by alice")).await.context("alice writes what she may")?;
    let denied = alice.kv.clone().put(put("a/")).await.err().context("alice writes all")?;
    ensure!(denied.message() == "etcdserver: permission denied", "{denied}");
    let bob = Access::log_in(node.channel()?, "bob", "bob's").await.context("bob")?;
    let denied = bob.kv.clone().put(put("a/1")).await.err().context("bob writes")?;
    ensure!(denied.message() == "etcdserver: permission denied", "{denied}");
    let nobody = Access::open(node.channel()?).kv.clone().put(put("w/")).await;
    let refused = nobody.err().context("a call without a user is taken")?;
    ensure!(refused.message() == "etcdserver: user name is empty", "{refused}");
    Ok(())
}

async fn add_user(access: &Access, name: &str, password: &str, role: &str) -> Result<()> {
    let mut auth = access.auth.clone();
    if role == "root" {
        auth.role_add(AuthRoleAddRequest { name: role.to_owned() }).await?;
    }
    let add = AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..AuthUserAddRequest::default()
    };
    auth.user_add(add).await.with_context(|| format!("user {name}"))?;
    let grant = AuthUserGrantRoleRequest { user: name.to_owned(), role: role.to_owned() };
    auth.user_grant_role(grant).await.with_context(|| format!("{role} for {name}"))?;
    Ok(())
}

async fn permit(access: &Access, role: &str, kind: Type, range: (&str, &str)) -> Result<()> {
    let mut auth = access.auth.clone();
    let name = role.to_owned();
    auth.role_add(AuthRoleAddRequest { name: name.clone() }).await.context("a role")?;
    let permission = Permission {
        perm_type: kind.into(),
        key: range.0.to_owned().into(),
        range_end: range.1.to_owned().into(),
    };
    let grant = AuthRoleGrantPermissionRequest { name, perm: Some(permission) };
    auth.role_grant_permission(grant).await.context("a permission")?;
    Ok(())
}

/// Grants three leases, revokes one of the step before, and moves keys to other leases.
async fn leases(access: &Access, step: i64, rng: &mut StdRng) -> Result<()> {
    let (mut lease, mut kv) = (access.lease.clone(), access.kv.clone());
    let id = |step: i64, number: i64| 0x7000_0000_0000_0000 + step * 10 + number;
    for number in 0..3 {
        let grant = LeaseGrantRequest { id: id(step, number), ttl: LONG_TTL_S + number };
        lease.lease_grant(grant).await.context("a lease")?;
    }
    let attached = |step: i64, number: u32| Bytes::from(format!("leased/{step}/{number}"));
    for number in 0..10 {
        let put = PutRequest {
            key: attached(step, number),
            value: value(rng),
            lease: id(step, i64::from(number % 2)),
            ..PutRequest::default()
        };
        kv.put(put).await.context("a key with a lease")?;
    }
    let Some(before) = step.checked_sub(1).filter(|before| *before >= 0) else { return Ok(()) };
    // One key moves to a lease of this step, one loses its lease, one keeps it, one is deleted.
    let put = |number, lease, ignore_lease| PutRequest {
        key: attached(before, number),
        value: "moved".into(),
        lease,
        ignore_lease,
        ..PutRequest::default()
    };
    kv.put(put(1, id(step, 2), false)).await?;
    kv.put(put(3, 0, false)).await?;
    kv.put(put(5, 0, true)).await?;
    let gone = DeleteRangeRequest { key: attached(before, 7), ..DeleteRangeRequest::default() };
    kv.delete_range(gone).await?;
    lease.lease_revoke(LeaseRevokeRequest { id: id(before, 0) }).await.context("a revocation")?;
    Ok(())
}

/// Puts `count` values of 1 MB to few keys, and compacts the older ones.
async fn large_values(access: &Access, count: u32, rng: &mut StdRng) -> Result<()> {
    let mut bytes = vec![0; LARGE_BYTES];
    rng.fill_bytes(&mut bytes);
    let bytes = Bytes::from(bytes);
    let put = |number: u32| PutRequest {
        key: format!("large/{}", number % 4).into(),
        value: bytes.clone(),
        ..PutRequest::default()
    };
    all(count, |number| {
        let (mut kv, put) = (access.kv.clone(), put(number));
        async move { kv.put(put).await.map(drop) }
    })
    .await?;
    let revision = access.revision().await? - 10;
    access.kv.clone().compact(CompactionRequest { revision, physical: true }).await?;
    Ok(())
}

/// Puts `count` keys, the same keys at each step.
async fn many_keys(access: &Access, count: u32) -> Result<()> {
    all(count / TXN_KEYS, |number| {
        let put = |at| {
            let put = PutRequest {
                key: format!("many/{:07}", number * TXN_KEYS + at).into(),
                value: format!("value of {at}").into(),
                ..PutRequest::default()
            };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let success = (0..TXN_KEYS).map(put).collect();
        let (mut kv, txn) = (access.kv.clone(), TxnRequest { success, ..TxnRequest::default() });
        async move { kv.txn(txn).await.map(drop) }
    })
    .await
}

/// Makes `count` calls, a few at a time.
async fn all<F>(count: u32, call: impl Fn(u32) -> F) -> Result<()>
where
    F: Future<Output = Result<(), tonic::Status>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() == AT_A_TIME
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        under_way.spawn(call(number));
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}
