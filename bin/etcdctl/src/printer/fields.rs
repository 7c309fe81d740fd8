//! Lines of `"Name" : value`.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer_fields.go.

use super::Printer;
use super::simple::alarm_name;
use cli::go::quote;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;
use proto::mvccpb::KeyValue;

/// A cluster's or member's id.
pub(super) fn id(printer: Printer, id: u64) -> String {
    if printer.hex { format!("{id:x}") } else { id.to_string() }
}

fn lease_id(printer: Printer, id: i64) -> String {
    if printer.hex { format!("{id:016x}") } else { id.to_string() }
}

pub(super) fn header(printer: Printer, header: Option<&pb::ResponseHeader>) -> String {
    let header = header.copied().unwrap_or_default();
    let revision = match header.revision {
        // The headers of responses that do not concern keys have no revision.
        ..=0 => String::new(),
        revision => format!("\"Revision\" : {revision}\n"),
    };
    format!(
        "\"ClusterID\" : {}\n\"MemberID\" : {}\n{revision}\"RaftTerm\" : {}\n",
        id(printer, header.cluster_id),
        id(printer, header.member_id),
        header.raft_term
    )
}

fn key_value(printer: Printer, prefix: &str, kv: &KeyValue) -> String {
    format!(
        "\"{prefix}Key\" : {}\n\"{prefix}CreateRevision\" : {}\n\"{prefix}ModRevision\" : {}\n\
         \"{prefix}Version\" : {}\n\"{prefix}Value\" : {}\n\"{prefix}Lease\" : {}\n",
        quote(&kv.key),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        quote(&kv.value),
        lease_id(printer, kv.lease)
    )
}

pub(super) fn range(printer: Printer, answer: &pb::RangeResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    answer.kvs.iter().for_each(|kv| out.push_str(&key_value(printer, "", kv)));
    out.push_str(&format!("\"More\" : {}\n\"Count\" : {}\n", answer.more, answer.count));
    out.into_bytes()
}

pub(super) fn put(printer: Printer, answer: &pb::PutResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    answer.prev_kv.iter().for_each(|kv| out.push_str(&key_value(printer, "Prev", kv)));
    out.into_bytes()
}

pub(super) fn delete(printer: Printer, answer: &pb::DeleteRangeResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    out.push_str(&format!("\"Deleted\" : {}\n", answer.deleted));
    answer.prev_kvs.iter().for_each(|kv| out.push_str(&key_value(printer, "Prev", kv)));
    out.into_bytes()
}

pub(super) fn txn(printer: Printer, answer: &pb::TxnResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref()).into_bytes();
    out.extend(format!("\"Succeeded\" : {}\n", answer.succeeded).as_bytes());
    for operation in &answer.responses {
        match &operation.response {
            Some(Response::ResponseRange(answer)) => out.extend(range(printer, answer)),
            Some(Response::ResponsePut(answer)) => out.extend(put(printer, answer)),
            Some(Response::ResponseDeleteRange(answer)) => out.extend(delete(printer, answer)),
            // Cannot be the response to a transaction of this tool: its syntax has no nesting.
            Some(Response::ResponseTxn(_)) | None => out.extend(b"\"Unknown\" : \"\"\n"),
        }
    }
    out
}

pub(super) fn watch(printer: Printer, answer: &pb::WatchResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    for event in &answer.events {
        out.push_str(&format!("\"Type\" : {}\n", event.r#type().as_str_name()));
        event.prev_kv.iter().for_each(|kv| out.push_str(&key_value(printer, "Prev", kv)));
        out.push_str(&key_value(printer, "", &event.kv.clone().unwrap_or_default()));
    }
    out.into_bytes()
}

/// The response to a grant or a keep-alive.
pub(super) fn lease(
    printer: Printer,
    of: Option<&pb::ResponseHeader>,
    lease: i64,
    ttl: i64,
) -> Vec<u8> {
    let head = header(printer, of);
    format!("{head}\"ID\" : {}\n\"TTL\" : {ttl}\n", lease_id(printer, lease)).into_bytes()
}

pub(super) fn time_to_live(printer: Printer, answer: &pb::LeaseTimeToLiveResponse) -> Vec<u8> {
    let mut out = lease(printer, answer.header.as_ref(), answer.id, answer.ttl);
    out.extend(format!("\"GrantedTTL\" : {}\n", answer.granted_ttl).as_bytes());
    for key in &answer.keys {
        out.extend(format!("\"Key\" : {}\n", quote(key)).as_bytes());
    }
    out
}

pub(super) fn leases(printer: Printer, answer: &pb::LeaseLeasesResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    for lease in &answer.leases {
        out.push_str(&format!("\"ID\" : {}\n", lease_id(printer, lease.id)));
    }
    out.into_bytes()
}

pub(super) fn alarm(printer: Printer, answer: &pb::AlarmResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    for member in &answer.alarms {
        let (id, alarm) = (id(printer, member.member_id), alarm_name(member.alarm));
        out.push_str(&format!("\"MemberID\" : {id}\n\"AlarmType\" : {alarm}\n\n"));
    }
    out.into_bytes()
}

pub(super) fn member_list(printer: Printer, answer: &pb::MemberListResponse) -> Vec<u8> {
    let mut out = header(printer, answer.header.as_ref());
    for member in &answer.members {
        out.push_str(&format!("\"ID\" : {}\n", id(printer, member.id)));
        out.push_str(&format!("\"Name\" : {}\n", quote(member.name.as_bytes())));
        for url in &member.peer_ur_ls {
            out.push_str(&format!("\"PeerURL\" : {}\n", quote(url.as_bytes())));
        }
        for url in &member.client_ur_ls {
            out.push_str(&format!("\"ClientURL\" : {}\n", quote(url.as_bytes())));
        }
        out.push_str(&format!("\"IsLearner\" : {}\n\n", member.is_learner));
    }
    out.into_bytes()
}
