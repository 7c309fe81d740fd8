//! A picture is everything that a member shows to its clients. Two pictures can be compared.

use super::access::{Access, ROOT};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use proto::authpb::Permission;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AuthRoleGetRequest, AuthRoleListRequest, AuthStatusRequest,
    AuthUserGetRequest, AuthUserListRequest, HashKvRequest, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, Member, MemberListRequest, RangeRequest,
};
use proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use tonic::Code;

/// The keys of one request.
const PAGE: i64 = 10_000;

/// The data that a member shows at one revision. Leases and users are the current ones.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) hash: u32,
    pub(super) keys: Vec<KeyValue>,
    /// The granted TTL of each lease in seconds, and its keys.
    pub(super) leases: BTreeMap<i64, (i64, BTreeSet<Bytes>)>,
    pub(super) users: BTreeMap<String, Vec<String>>,
    pub(super) roles: BTreeMap<String, Vec<Permission>>,
    /// Whether authentication is enabled, and the auth revision. `None` for 3.4, which does not
    /// report them.
    pub(super) guarded: Option<(bool, u64)>,
    pub(super) alarms: Vec<AlarmMember>,
    pub(super) members: Vec<Member>,
}

impl Picture {
    /// Takes a picture of a member to which nobody writes.
    pub(super) async fn now(access: &Access) -> Result<Picture> {
        // Asked for the current revision by its number, 3.5.1 refuses if all before it is compacted.
        Picture::with_hash_at(access, access.revision().await?, 0).await
    }

    /// Takes a picture at a revision.
    pub(super) async fn take(access: &Access, revision: i64) -> Result<Picture> {
        Picture::with_hash_at(access, revision, revision).await
    }

    async fn with_hash_at(access: &Access, revision: i64, hashed: i64) -> Result<Picture> {
        let mut maintenance = access.maintenance.clone();
        let ask = HashKvRequest { revision: hashed };
        let hash = maintenance.hash_kv(ask).await.context("HashKV")?;
        let hash = hash.into_inner();
        let ask = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
        let alarms = maintenance.alarm(ask).await.context("alarms")?.into_inner().alarms;
        let list = MemberListRequest { linearizable: true };
        let members = access.cluster.clone().member_list(list).await.context("members")?;
        Ok(Picture {
            revision,
            compacted: hash.compact_revision,
            hash: hash.hash,
            keys: keys(access, revision).await.context("keys")?,
            leases: leases(access).await.context("leases")?,
            users: users(access).await.context("users")?,
            roles: roles(access).await.context("roles")?,
            guarded: guarded(access).await.context("the state of authentication")?,
            alarms,
            members: members.into_inner().members,
        })
    }

    /// As [`Picture::differences`], but only for the keys at this revision.
    pub(super) fn data_differences(&self, later: &Picture) -> Vec<String> {
        let before = Picture { members: later.members.clone(), ..self.clone() };
        before.differences(later)
    }

    /// The differences between this picture and a later one. Of each kind, only the first is
    /// returned.
    pub(super) fn differences(&self, later: &Picture) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |what: &str, differ: Option<String>| {
            found.extend(differ.map(|text| format!("{what}: {text}")));
        };
        note("revision", differ(&self.revision, &later.revision));
        note("compacted revision", differ(&self.compacted, &later.compacted));
        note("HashKV", differ(&self.hash, &later.hash));
        note("number of keys", differ(&self.keys.len(), &later.keys.len()));
        let mut pairs = self.keys.iter().zip(&later.keys);
        note("key", pairs.find_map(|(before, after)| differing_key(before, after)));
        note("leases", differ(&self.leases, &later.leases));
        note("users", differ(&self.users, &later.users));
        note("roles", differ(&self.roles, &later.roles));
        if self.guarded.is_some() && later.guarded.is_some() {
            note("authentication", differ(&self.guarded, &later.guarded));
        }
        note("alarms", differ(&self.alarms, &later.alarms));
        note("members", differ(&self.members, &later.members));
        found
    }
}

fn differ<T: PartialEq + Debug>(before: &T, after: &T) -> Option<String> {
    (before != after).then(|| format!("before {before:?}, now {after:?}"))
}

/// Describes two different key-values, without their values, which may be long.
fn differing_key(before: &KeyValue, after: &KeyValue) -> Option<String> {
    let without_value = |kv: &KeyValue| KeyValue { value: Bytes::new(), ..kv.clone() };
    let (len, len_now) = (before.value.len(), after.value.len());
    (before != after).then(|| {
        let (before, after) = (without_value(before), without_value(after));
        format!("before {before:?} with {len} bytes, now {after:?} with {len_now} bytes")
    })
}

async fn keys(access: &Access, revision: i64) -> Result<Vec<KeyValue>> {
    let mut kv = access.kv.clone();
    let mut found: Vec<KeyValue> = Vec::new();
    let mut from = Bytes::from_static(b"\0");
    loop {
        let range_end = Bytes::from_static(b"\0");
        let page =
            RangeRequest { key: from, range_end, revision, limit: PAGE, ..Default::default() };
        let answer = kv.range(page).await?.into_inner();
        found.extend(answer.kvs);
        let Some(last) = found.last().filter(|_| answer.more) else { return Ok(found) };
        from = [&last.key[..], b"\0"].concat().into();
    }
}

async fn leases(access: &Access) -> Result<BTreeMap<i64, (i64, BTreeSet<Bytes>)>> {
    let mut lease = access.lease.clone();
    let mut found = BTreeMap::new();
    for one in lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases {
        let ask = LeaseTimeToLiveRequest { id: one.id, keys: true };
        let lives = lease.lease_time_to_live(ask).await?.into_inner();
        found.insert(one.id, (lives.granted_ttl, lives.keys.into_iter().collect()));
    }
    Ok(found)
}

async fn users(access: &Access) -> Result<BTreeMap<String, Vec<String>>> {
    let mut auth = access.auth.clone();
    let mut found = BTreeMap::new();
    for name in auth.user_list(AuthUserListRequest {}).await?.into_inner().users {
        let ask = AuthUserGetRequest { name: name.clone() };
        found.insert(name, auth.user_get(ask).await?.into_inner().roles);
    }
    Ok(found)
}

async fn roles(access: &Access) -> Result<BTreeMap<String, Vec<Permission>>> {
    let mut auth = access.auth.clone();
    let mut found = BTreeMap::new();
    for role in auth.role_list(AuthRoleListRequest {}).await?.into_inner().roles {
        let ask = AuthRoleGetRequest { role: role.clone() };
        let permissions = auth.role_get(ask).await?.into_inner().perm;
        // The permissions of root are not stored. 3.7 reports them, older versions do not.
        let is_root = role == ROOT.0;
        found.insert(role, if is_root { Vec::new() } else { permissions });
    }
    Ok(found)
}

async fn guarded(access: &Access) -> Result<Option<(bool, u64)>> {
    match access.auth.clone().auth_status(AuthStatusRequest {}).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(Some((answer.enabled, answer.auth_revision)))
        }
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let kv = |key: &'static str, mod_revision| KeyValue {
            key: key.into(),
            mod_revision,
            ..KeyValue::default()
        };
        Picture {
            revision: 9,
            compacted: 3,
            hash: 1,
            keys: vec![kv("a", 4), kv("b", 9)],
            leases: BTreeMap::from([(7, (60, BTreeSet::from([Bytes::from_static(b"a")])))]),
            users: BTreeMap::from([("root".to_owned(), vec!["root".to_owned()])]),
            roles: BTreeMap::new(),
            guarded: Some((true, 5)),
            alarms: Vec::new(),
            members: vec![Member { id: 1, ..Member::default() }],
        }
    }

    #[test]
    fn equal_pictures_do_not_differ_and_each_part_is_looked_at() {
        assert!(picture().differences(&picture()).is_empty());
        let changes: [fn(&mut Picture); 10] = [
            |it| it.revision += 1,
            |it| it.compacted += 1,
            |it| it.hash += 1,
            |it| it.keys[1].mod_revision = 8,
            |it| it.leases.clear(),
            |it| it.users.clear(),
            |it| drop(it.roles.insert("r".to_owned(), Vec::new())),
            |it| it.guarded = Some((false, 5)),
            |it| it.alarms.push(AlarmMember::default()),
            |it| it.members.clear(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut later = picture();
            change(&mut later);
            assert_eq!(picture().differences(&later).len(), 1, "change {at}");
        }
    }

    #[test]
    fn a_lost_key_is_told() {
        let mut later = picture();
        later.keys.pop();
        assert!(picture().differences(&later)[0].contains("number of keys"));
    }

    #[test]
    fn an_older_version_that_does_not_tell_the_state_of_authentication_does_not_differ() {
        let mut later = picture();
        later.guarded = None;
        assert!(picture().differences(&later).is_empty());
    }
}
