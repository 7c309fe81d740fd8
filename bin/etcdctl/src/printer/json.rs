//! JSON as Go writes the structs of its generated messages and of its client: numbers as
//! numbers, bytes in base64, empty fields left out (but not in the client's own structs).
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer_json.go, client/v3 watch.go and lease.go.

use super::{Hash, Health, Status};
use cli::json::{Object, base64, list, string};
use proto::authpb::Permission;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;
use proto::mvccpb::{Event, KeyValue};

/// The fields of a header, which some of Go's structs embed.
fn header_fields(header: Option<&pb::ResponseHeader>) -> Object {
    let header = header.copied().unwrap_or_default();
    Object::new()
        .nonzero("cluster_id", header.cluster_id)
        .nonzero("member_id", header.member_id)
        .nonzero("revision", header.revision)
        .nonzero("raft_term", header.raft_term)
}

fn with_header(header: Option<&pb::ResponseHeader>) -> Object {
    Object::new().optional("header", header.map(|header| header_fields(Some(header)).done()))
}

fn key_value(kv: &KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .nonzero("create_revision", kv.create_revision)
        .nonzero("mod_revision", kv.mod_revision)
        .nonzero("version", kv.version)
        .bytes("value", &kv.value)
        .nonzero("lease", kv.lease)
        .done()
}

pub(super) fn only_header(header: Option<&pb::ResponseHeader>) -> String {
    with_header(header).done()
}

pub(super) fn range(answer: &pb::RangeResponse) -> String {
    with_header(answer.header.as_ref())
        .list("kvs", &answer.kvs, key_value)
        .nonzero("more", answer.more)
        .nonzero("count", answer.count)
        .done()
}

pub(super) fn put(answer: &pb::PutResponse) -> String {
    with_header(answer.header.as_ref())
        .optional("prev_kv", answer.prev_kv.as_ref().map(key_value))
        .done()
}

pub(super) fn delete(answer: &pb::DeleteRangeResponse) -> String {
    with_header(answer.header.as_ref())
        .nonzero("deleted", answer.deleted)
        .list("prev_kvs", &answer.prev_kvs, key_value)
        .done()
}

pub(super) fn txn(answer: &pb::TxnResponse) -> String {
    let operation = |operation: &pb::ResponseOp| {
        let response = Object::new();
        let response = match &operation.response {
            Some(Response::ResponseRange(answer)) => response.raw("response_range", &range(answer)),
            Some(Response::ResponsePut(answer)) => response.raw("response_put", &put(answer)),
            Some(Response::ResponseDeleteRange(answer)) => {
                response.raw("response_delete_range", &delete(answer))
            }
            Some(Response::ResponseTxn(answer)) => response.raw("response_txn", &txn(answer)),
            None => response,
        };
        Object::new().raw("Response", &response.done()).done()
    };
    with_header(answer.header.as_ref())
        .nonzero("succeeded", answer.succeeded)
        .list("responses", &answer.responses, operation)
        .done()
}

fn event(event: &Event) -> String {
    Object::new()
        .nonzero("type", event.r#type)
        .optional("kv", event.kv.as_ref().map(key_value))
        .optional("prev_kv", event.prev_kv.as_ref().map(key_value))
        .done()
}

pub(super) fn watch(answer: &pb::WatchResponse) -> String {
    let header = answer.header.as_ref().map(|header| header_fields(Some(header)).done());
    let events = match answer.events.is_empty() {
        true => "null".to_string(),
        false => list(&answer.events, event),
    };
    Object::new()
        .raw("Header", &header.unwrap_or_else(|| "null".to_string()))
        .raw("Events", &events)
        .plain("CompactRevision", answer.compact_revision)
        .plain("Canceled", answer.canceled)
        .plain("Created", answer.created)
        .string("CancelReason", &answer.cancel_reason)
        .done()
}

pub(super) fn lease_grant(answer: &pb::LeaseGrantResponse) -> String {
    header_fields(answer.header.as_ref())
        .plain("ID", answer.id)
        .plain("TTL", answer.ttl)
        .string("Error", &answer.error)
        .done()
}

pub(super) fn keep_alive(answer: &pb::LeaseKeepAliveResponse) -> String {
    header_fields(answer.header.as_ref()).plain("ID", answer.id).plain("TTL", answer.ttl).done()
}

pub(super) fn time_to_live(answer: &pb::LeaseTimeToLiveResponse) -> String {
    let keys = match answer.keys.is_empty() {
        true => "null".to_string(),
        false => list(&answer.keys, |key| base64(key)),
    };
    header_fields(answer.header.as_ref())
        .plain("id", answer.id)
        .plain("ttl", answer.ttl)
        .plain("granted-ttl", answer.granted_ttl)
        .raw("keys", &keys)
        .done()
}

pub(super) fn leases(answer: &pb::LeaseLeasesResponse) -> String {
    let lease = |lease: &pb::LeaseStatus| Object::new().plain("id", lease.id).done();
    header_fields(answer.header.as_ref()).raw("leases", &list(&answer.leases, lease)).done()
}

pub(super) fn alarm(answer: &pb::AlarmResponse) -> String {
    let member = |member: &pb::AlarmMember| {
        let object = Object::new().nonzero("memberID", member.member_id);
        object.nonzero("alarm", member.alarm).done()
    };
    with_header(answer.header.as_ref()).list("alarms", &answer.alarms, member).done()
}

pub(super) fn downgrade(answer: &pb::DowngradeResponse) -> String {
    with_header(answer.header.as_ref()).nonempty("version", &answer.version).done()
}

fn member(hex: bool, member: &pb::Member) -> String {
    let id = match hex {
        true => Object::new().string("ID", &format!("{:x}", member.id)),
        false => Object::new().nonzero("ID", member.id),
    };
    id.nonempty("name", &member.name)
        .list("peerURLs", &member.peer_ur_ls, |url| string(url.as_bytes()))
        .list("clientURLs", &member.client_ur_ls, |url| string(url.as_bytes()))
        .nonzero("isLearner", member.is_learner)
        .done()
}

/// A response that lists members. With `hex`, the ids are hexadecimal strings. `added` is the new
/// member in the response to an addition.
pub(super) fn members(
    hex: bool,
    header: Option<&pb::ResponseHeader>,
    added: Option<Option<&pb::Member>>,
    members: &[pb::Member],
) -> String {
    if !hex {
        return with_header(header)
            .optional("member", added.flatten().map(|added| member(false, added)))
            .list("members", members, |one| member(false, one))
            .done();
    }
    let header = header.copied().unwrap_or_default();
    let head = Object::new()
        .string("cluster_id", &format!("{:x}", header.cluster_id))
        .string("member_id", &format!("{:x}", header.member_id))
        .nonzero("revision", header.revision)
        .nonzero("raft_term", header.raft_term);
    Object::new()
        .raw("header", &head.done())
        .optional("member", added.flatten().map(|added| member(true, added)))
        .raw("members", &list(members, |one| member(true, one)))
        .done()
}

/// A list; `null` if it is empty, since Go's slice is nil then.
fn list_or_null<T>(items: &[T], json: impl Fn(&T) -> String) -> String {
    if items.is_empty() { "null".to_string() } else { list(items, json) }
}

pub(super) fn health(all: &[Health]) -> String {
    list_or_null(all, |one| {
        Object::new()
            .string("endpoint", &one.endpoint)
            .plain("health", one.health)
            .string("took", &one.took)
            .nonempty("error", &one.error)
            .done()
    })
}

pub(super) fn status(all: &[Status]) -> String {
    list_or_null(all, |one| {
        let answer = &one.answer;
        let downgrade = |info: &pb::DowngradeInfo| {
            let object = Object::new().nonzero("enabled", info.enabled);
            object.nonempty("targetVersion", &info.target_version).done()
        };
        let status = with_header(answer.header.as_ref())
            .nonempty("version", &answer.version)
            .nonzero("dbSize", answer.db_size)
            .nonzero("leader", answer.leader)
            .nonzero("raftIndex", answer.raft_index)
            .nonzero("raftTerm", answer.raft_term)
            .nonzero("raftAppliedIndex", answer.raft_applied_index)
            .list("errors", &answer.errors, |error| string(error.as_bytes()))
            .nonzero("dbSizeInUse", answer.db_size_in_use)
            .nonzero("isLearner", answer.is_learner)
            .nonempty("storageVersion", &answer.storage_version)
            .nonzero("dbSizeQuota", answer.db_size_quota)
            .optional("downgradeInfo", answer.downgrade_info.as_ref().map(downgrade));
        Object::new().string("Endpoint", &one.endpoint).raw("Status", &status.done()).done()
    })
}

pub(super) fn hash(all: &[Hash]) -> String {
    list_or_null(all, |one| {
        let hash = with_header(one.answer.header.as_ref())
            .nonzero("hash", one.answer.hash)
            .nonzero("compact_revision", one.answer.compact_revision)
            .nonzero("hash_revision", one.answer.hash_revision);
        Object::new().string("Endpoint", &one.endpoint).raw("HashKV", &hash.done()).done()
    })
}

pub(super) fn auth_status(answer: &pb::AuthStatusResponse) -> String {
    with_header(answer.header.as_ref())
        .nonzero("enabled", answer.enabled)
        .nonzero("authRevision", answer.auth_revision)
        .done()
}

/// A list of names.
pub(super) fn names(header: Option<&pb::ResponseHeader>, key: &str, names: &[String]) -> String {
    with_header(header).list(key, names, |name| string(name.as_bytes())).done()
}

pub(super) fn role(answer: &pb::AuthRoleGetResponse) -> String {
    let permission = |one: &Permission| {
        Object::new()
            .nonzero("permType", one.perm_type)
            .bytes("key", &one.key)
            .bytes("range_end", &one.range_end)
            .done()
    };
    with_header(answer.header.as_ref()).list("perm", &answer.perm, permission).done()
}
