//! The `simple` format.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer_simple.go.

use super::Printer;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;
use proto::mvccpb::KeyValue;

fn key_value(printer: Printer, out: &mut Vec<u8>, kv: &KeyValue) {
    let mut line = |bytes: &[u8]| {
        if printer.hex {
            out.extend(cli::go::hex_escaped(bytes).as_bytes());
        } else {
            out.extend(bytes);
        }
        out.push(b'\n');
    };
    if !printer.value_only {
        line(&kv.key);
    }
    line(&kv.value);
}

pub(super) fn range(printer: Printer, answer: &pb::RangeResponse) -> Vec<u8> {
    let mut out = Vec::new();
    answer.kvs.iter().for_each(|kv| key_value(printer, &mut out, kv));
    out
}

pub(super) fn put(printer: Printer, answer: &pb::PutResponse) -> Vec<u8> {
    let mut out = b"OK\n".to_vec();
    answer.prev_kv.iter().for_each(|kv| key_value(printer, &mut out, kv));
    out
}

pub(super) fn delete(printer: Printer, answer: &pb::DeleteRangeResponse) -> Vec<u8> {
    let mut out = format!("{}\n", answer.deleted).into_bytes();
    answer.prev_kvs.iter().for_each(|kv| key_value(printer, &mut out, kv));
    out
}

pub(super) fn txn(printer: Printer, answer: &pb::TxnResponse) -> Vec<u8> {
    let mut out = if answer.succeeded { b"SUCCESS\n" } else { b"FAILURE\n" }.to_vec();
    for operation in &answer.responses {
        out.push(b'\n');
        match &operation.response {
            Some(Response::ResponseRange(answer)) => out.extend(range(printer, answer)),
            Some(Response::ResponsePut(answer)) => out.extend(put(printer, answer)),
            Some(Response::ResponseDeleteRange(answer)) => out.extend(delete(printer, answer)),
            // Cannot be the response to a transaction of this tool: its syntax has no nesting.
            Some(Response::ResponseTxn(_)) | None => out.extend(b"unexpected response\n"),
        }
    }
    out
}

pub(super) fn watch(printer: Printer, answer: &pb::WatchResponse) -> Vec<u8> {
    let mut out = Vec::new();
    for event in &answer.events {
        out.extend(event.r#type().as_str_name().as_bytes());
        out.push(b'\n');
        event.prev_kv.iter().for_each(|kv| key_value(printer, &mut out, kv));
        key_value(printer, &mut out, &event.kv.clone().unwrap_or_default());
    }
    out
}

pub(super) fn time_to_live(answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    let (id, granted, ttl) = (answer.id, answer.granted_ttl, answer.ttl);
    if granted == 0 && ttl == -1 {
        return format!("lease {id:016x} already expired\n").into_bytes();
    }
    let text = format!("lease {id:016x} granted with TTL({granted}s), remaining({ttl}s)");
    let mut out = text.into_bytes();
    if keys {
        out.extend(b", attached keys([");
        out.extend(answer.keys.join(&b' '));
        out.extend(b"])");
    }
    out.push(b'\n');
    out
}

pub(super) fn leases(answer: &pb::LeaseLeasesResponse) -> Vec<u8> {
    let ids = answer.leases.iter().map(|lease| format!("{:016x}\n", lease.id));
    let text = format!("found {} leases\n{}", answer.leases.len(), ids.collect::<String>());
    text.into_bytes()
}

/// The name of an alarm's type; the number of a type that is not known.
pub(super) fn alarm_name(alarm: i32) -> String {
    let known = pb::AlarmType::try_from(alarm);
    known.map_or_else(|_| alarm.to_string(), |alarm| alarm.as_str_name().to_owned())
}

pub(super) fn alarm(answer: &pb::AlarmResponse) -> Vec<u8> {
    let mut out = String::new();
    for member in &answer.alarms {
        // protobuf's text format, which leaves out fields that are 0.
        let id = (member.member_id != 0).then(|| format!("memberID:{}", member.member_id));
        let alarm = (member.alarm != 0).then(|| format!("alarm:{}", alarm_name(member.alarm)));
        out.push_str(&id.into_iter().chain(alarm).collect::<Vec<_>>().join(" "));
        out.push('\n');
    }
    out.into_bytes()
}

pub(super) fn member_add(answer: &pb::MemberAddResponse) -> Vec<u8> {
    let member = answer.member.clone().unwrap_or_default();
    let role = if member.is_learner { " as learner " } else { " " };
    let cluster = answer.header.map_or(0, |header| header.cluster_id);
    format!("Member {:16x} added{role}to cluster {cluster:16x}\n", member.id).into_bytes()
}
