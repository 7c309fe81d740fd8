//! What a request is about, as the audit log shows it: keys, ranges, leases, members, users and
//! roles. Never a value, a password or a token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::healthpb::{HealthCheckRequest, HealthListRequest};
use proto::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use serde_json::{Map, Value, json};

/// The most key ranges in a line; a transaction can have more.
const KEYS_MAX: usize = 64;
/// The most bytes of keys in a line; a key can be longer.
const KEY_BYTES_MAX: usize = 4 * 1024;
/// The most bytes of another text in a line.
const TEXT_BYTES_MAX: usize = 256;

/// A request whose line can be written. There is an implementation for each kind of request, so
/// that a new method does not compile without one.
pub(crate) trait Audited {
    /// Adds what the request is about.
    fn describe(&self, subject: &mut Subject);
}

/// What a request is about.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    fields: Map<String, Value>,
    keys: Vec<Value>,
    key_bytes: usize,
    /// Ranges that are not in the line.
    left_out: usize,
}

impl Subject {
    pub(crate) fn of(request: &impl Audited) -> Subject {
        let mut subject = Subject::default();
        request.describe(&mut subject);
        subject
    }

    /// Adds the fields to a line.
    pub(crate) fn put(self, fields: &mut Map<String, Value>) {
        fields.extend(self.fields);
        if !self.keys.is_empty() {
            fields.insert("keys".to_owned(), self.keys.into());
        }
        if self.left_out > 0 {
            fields.insert("keys_left_out".to_owned(), self.left_out.into());
        }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    fn text(&mut self, name: &str, text: &str) {
        self.set(name, cut(text.as_bytes(), TEXT_BYTES_MAX).0);
    }

    fn range(&mut self, op: &str, key: &Bytes, range_end: &Bytes) {
        if self.keys.len() >= KEYS_MAX || self.key_bytes >= KEY_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        let mut range = Map::new();
        range.insert("op".to_owned(), op.into());
        for (name, bytes) in [("key", key), ("range_end", range_end)] {
            if name == "range_end" && bytes.is_empty() {
                continue;
            }
            let (text, is_cut) = cut(bytes, KEY_BYTES_MAX - self.key_bytes.min(KEY_BYTES_MAX));
            self.key_bytes += bytes.len();
            let is_text = std::str::from_utf8(bytes).is_ok();
            range.insert(if is_text { name.to_owned() } else { format!("{name}_base64") }, text);
            if is_cut {
                range.insert(format!("{name}_bytes"), bytes.len().into());
            }
        }
        self.keys.push(range.into());
    }

    fn key(&mut self, op: &str, key: &Bytes) {
        self.range(op, key, &Bytes::new());
    }

    fn lease(&mut self, id: i64) {
        if id != 0 {
            self.set("lease", format!("{id:x}"));
        }
    }

    fn member(&mut self, id: u64) {
        self.set("member", format!("{id:x}"));
    }

    fn txn(&mut self, txn: &pb::TxnRequest) {
        for compare in &txn.compare {
            self.range("compare", &compare.key, &compare.range_end);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => range.describe(self),
                Some(Request::RequestPut(put)) => self.key("put", &put.key),
                Some(Request::RequestDeleteRange(delete)) => delete.describe(self),
                // The depth is bounded: it was decoded.
                Some(Request::RequestTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }
}

/// At most this many bytes as text, or as base64 if they are not UTF-8; and whether some are
/// missing.
fn cut(bytes: &[u8], max: usize) -> (Value, bool) {
    let is_cut = bytes.len() > max;
    let value = match std::str::from_utf8(bytes) {
        Ok(text) => text[..text.floor_char_boundary(max)].into(),
        Err(_) => STANDARD.encode(&bytes[..bytes.len().min(max)]).into(),
    };
    (value, is_cut)
}

macro_rules! audited {
    ($($request:ty: |$it:ident, $subject:ident| $body:expr;)*) => {$(
        impl Audited for $request {
            fn describe(&self, $subject: &mut Subject) {
                let $it = self;
                $body
            }
        }
    )*};
}

/// Requests that name nothing.
macro_rules! nameless {
    ($($request:ty),* $(,)?) => {$(
        impl Audited for $request {
            fn describe(&self, _: &mut Subject) {}
        }
    )*};
}

nameless!(
    pb::AuthDisableRequest,
    pb::AuthEnableRequest,
    pb::AuthRoleListRequest,
    pb::AuthStatusRequest,
    pb::AuthUserListRequest,
    pb::DefragmentRequest,
    pb::HashRequest,
    pb::LeaseLeasesRequest,
    pb::MemberListRequest,
    pb::SnapshotRequest,
    pb::StatusRequest,
    HealthCheckRequest,
    HealthListRequest,
);

audited! {
    pb::RangeRequest: |it, subject| subject.range("range", &it.key, &it.range_end);
    pb::PutRequest: |it, subject| {
        subject.lease(it.lease);
        subject.key("put", &it.key);
    };
    pb::DeleteRangeRequest: |it, subject| subject.range("delete", &it.key, &it.range_end);
    pb::TxnRequest: |it, subject| subject.txn(it);
    pb::CompactionRequest: |it, subject| subject.set("compact_revision", it.revision);
    pb::HashKvRequest: |it, subject| subject.set("hash_revision", it.revision);
    pb::WatchRequest: |it, subject| {
        if let Some(RequestUnion::CreateRequest(create)) = &it.request_union {
            subject.range("watch", &create.key, &create.range_end);
        }
    };
    pb::LeaseGrantRequest: |it, subject| subject.lease(it.id);
    pb::LeaseRevokeRequest: |it, subject| subject.lease(it.id);
    pb::LeaseKeepAliveRequest: |it, subject| subject.lease(it.id);
    pb::LeaseTimeToLiveRequest: |it, subject| subject.lease(it.id);
    pb::MemberAddRequest: |it, subject| subject.text("peer_urls", &it.peer_ur_ls.join(","));
    pb::MemberRemoveRequest: |it, subject| subject.member(it.id);
    pb::MemberUpdateRequest: |it, subject| {
        subject.member(it.id);
        subject.text("peer_urls", &it.peer_ur_ls.join(","));
    };
    pb::MemberPromoteRequest: |it, subject| subject.member(it.id);
    pb::MoveLeaderRequest: |it, subject| subject.member(it.target_id);
    pb::AlarmRequest: |it, subject| {
        let action = AlarmAction::try_from(it.action);
        subject.set("action", action.map_or_else(|_| json!(it.action), |it| it.as_str_name().into()));
    };
    pb::DowngradeRequest: |it, subject| subject.text("version", &it.version);
    pb::AuthenticateRequest: |it, subject| subject.text("target_user", &it.name);
    pb::AuthUserAddRequest: |it, subject| subject.text("target_user", &it.name);
    pb::AuthUserGetRequest: |it, subject| subject.text("target_user", &it.name);
    pb::AuthUserDeleteRequest: |it, subject| subject.text("target_user", &it.name);
    pb::AuthUserChangePasswordRequest: |it, subject| subject.text("target_user", &it.name);
    pb::AuthUserGrantRoleRequest: |it, subject| {
        subject.text("target_user", &it.user);
        subject.text("role", &it.role);
    };
    pb::AuthUserRevokeRoleRequest: |it, subject| {
        subject.text("target_user", &it.name);
        subject.text("role", &it.role);
    };
    pb::AuthRoleAddRequest: |it, subject| subject.text("role", &it.name);
    pb::AuthRoleGetRequest: |it, subject| subject.text("role", &it.role);
    pb::AuthRoleDeleteRequest: |it, subject| subject.text("role", &it.role);
    pb::AuthRoleGrantPermissionRequest: |it, subject| {
        subject.text("role", &it.name);
        if let Some(permission) = &it.perm {
            let kind = Type::try_from(permission.perm_type).map_or("unknown", |it| it.as_str_name());
            subject.text("permission", kind);
            subject.range("grant", &permission.key, &permission.range_end);
        }
    };
    pb::AuthRoleRevokePermissionRequest: |it, subject| {
        subject.text("role", &it.role);
        subject.range("revoke", &it.key, &it.range_end);
    };
    LockRequest: |it, subject| {
        subject.lease(it.lease);
        subject.key("lock", &it.name);
    };
    UnlockRequest: |it, subject| subject.key("unlock", &it.key);
    CampaignRequest: |it, subject| {
        subject.lease(it.lease);
        subject.key("campaign", &it.name);
    };
    LeaderRequest: |it, subject| subject.key("leader", &it.name);
    ProclaimRequest: |it, subject| {
        if let Some(leader) = &it.leader {
            subject.key("proclaim", &leader.key);
        }
    };
    ResignRequest: |it, subject| {
        if let Some(leader) = &it.leader {
            subject.key("resign", &leader.key);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: &impl Audited) -> Value {
        let mut fields = Map::new();
        Subject::of(request).put(&mut fields);
        fields.into()
    }

    fn put(key: &[u8]) -> pb::PutRequest {
        let key = Bytes::copy_from_slice(key);
        pb::PutRequest { key, value: "secret".into(), ..Default::default() }
    }

    #[test]
    fn keys_are_shown_and_values_are_not() {
        assert_eq!(line(&put(b"a")), json!({"keys": [{"op": "put", "key": "a"}]}));
        let binary = line(&put(&[0xff, 0]));
        assert_eq!(binary, json!({"keys": [{"op": "put", "key_base64": "/wA="}]}));
        let op = |request| pb::RequestOp { request: Some(request) };
        let inner = pb::TxnRequest {
            success: vec![op(Request::RequestPut(put(b"b")))],
            ..Default::default()
        };
        let range =
            pb::RangeRequest { key: "c".into(), range_end: "d".into(), ..Default::default() };
        let delete = pb::DeleteRangeRequest { key: "e".into(), ..Default::default() };
        let compare = pb::Compare { key: "a".into(), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestTxn(inner)), op(Request::RequestRange(range))],
            failure: vec![op(Request::RequestDeleteRange(delete))],
        };
        let keys = json!([
            {"op": "compare", "key": "a"},
            {"op": "put", "key": "b"},
            {"op": "range", "key": "c", "range_end": "d"},
            {"op": "delete", "key": "e"},
        ]);
        assert_eq!(line(&txn), json!({ "keys": keys }));
    }

    #[test]
    fn a_line_has_a_limit() {
        let long = line(&put(&vec![b'k'; KEY_BYTES_MAX + 1]));
        assert_eq!(long["keys"][0]["key"].as_str().unwrap().len(), KEY_BYTES_MAX);
        assert_eq!(long["keys"][0]["key_bytes"], KEY_BYTES_MAX + 1);
        let op = pb::RequestOp { request: Some(Request::RequestPut(put(b"k"))) };
        let txn = pb::TxnRequest { success: vec![op; KEYS_MAX + 5], ..Default::default() };
        let many = line(&txn);
        assert_eq!(many["keys"].as_array().unwrap().len(), KEYS_MAX);
        assert_eq!(many["keys_left_out"], 5);
    }

    #[test]
    fn users_are_named_and_passwords_are_not() {
        let request = pb::AuthenticateRequest { name: "alice".into(), password: "secret".into() };
        assert_eq!(line(&request), json!({"target_user": "alice"}));
        let request = pb::AuthUserAddRequest {
            name: "alice".into(),
            password: "secret".into(),
            hashed_password: "hash".into(),
            ..Default::default()
        };
        assert_eq!(line(&request), json!({"target_user": "alice"}));
    }
}
