//! Lists of endpoints and members: rows, tables and fields.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer.go `make…Table`, printer_table.go.

use super::Printer;
use super::fields;
use cli::go::{bytes, quote};
use cli::table;
use proto::etcdserverpb as pb;

/// Whether an endpoint answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The endpoint as the user wrote it.
    pub(crate) endpoint: String,
    /// True if the endpoint answered and no alarm is active.
    pub(crate) health: bool,
    /// The time until the response, in Go's notation.
    pub(crate) took: String,
    /// The error; empty if there was none.
    pub(crate) error: String,
}

/// The status of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// The endpoint as the user wrote it.
    pub(crate) endpoint: String,
    /// The response of the endpoint.
    pub(crate) answer: pb::StatusResponse,
}

/// The hash of an endpoint's keys.
#[derive(Clone, Debug)]
pub(crate) struct Hash {
    /// The endpoint as the user wrote it.
    pub(crate) endpoint: String,
    /// The response of the endpoint.
    pub(crate) answer: pb::HashKvResponse,
}

type Row = Vec<String>;

/// One line for each row, with its cells separated by commas.
pub(super) fn rows(rows: &[Row]) -> Vec<u8> {
    rows.iter().map(|row| row.join(", ") + "\n").collect::<String>().into_bytes()
}

pub(super) fn members(answer: &pb::MemberListResponse) -> Vec<Row> {
    let row = |member: &pb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_string(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    answer.members.iter().map(row).collect()
}

pub(super) fn member_table(answer: &pb::MemberListResponse) -> Vec<u8> {
    let header = ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];
    table(&header, &members(answer)).into_bytes()
}

/// A line for each healthy endpoint. The caller writes those that are not healthy to standard error.
pub(super) fn healthy(list: &[Health]) -> Vec<u8> {
    let line = |one: &Health| {
        let (endpoint, took) = (&one.endpoint, &one.took);
        format!("{endpoint} is healthy: successfully committed proposal: took = {took}\n")
    };
    let healthy = list.iter().filter(|one| one.error.is_empty());
    healthy.map(line).collect::<String>().into_bytes()
}

pub(super) fn health_fields(list: &[Health]) -> Vec<u8> {
    let fields = |one: &Health| {
        format!(
            "\"Endpoint\" : {}\n\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n\n",
            quote(one.endpoint.as_bytes()),
            one.health,
            one.took,
            one.error
        )
    };
    list.iter().map(fields).collect::<String>().into_bytes()
}

pub(super) fn health_table(list: &[Health]) -> Vec<u8> {
    let row = |one: &Health| {
        vec![one.endpoint.clone(), one.health.to_string(), one.took.clone(), one.error.clone()]
    };
    let rows: Vec<Row> = list.iter().map(row).collect();
    table(&["endpoint", "health", "took", "error"], &rows).into_bytes()
}

pub(super) fn status_rows(list: &[Status]) -> Vec<Row> {
    let size = |number: i64| bytes(u64::try_from(number).unwrap_or_default());
    let row = |one: &Status| {
        let answer = &one.answer;
        let id = answer.header.map_or(0, |header| header.member_id);
        let downgrade = answer.downgrade_info.clone().unwrap_or_default();
        // A server that has not opened its database yet reports size 0; then nothing is unused.
        let unused = answer
            .db_size_in_use
            .checked_mul(100)
            .and_then(|used| used.checked_div(answer.db_size))
            .map_or(0, |percent| 100 - percent);
        vec![
            one.endpoint.clone(),
            format!("{id:x}"),
            answer.version.clone(),
            answer.storage_version.clone(),
            size(answer.db_size),
            size(answer.db_size_in_use),
            format!("{unused}%"),
            size(answer.db_size_quota),
            (answer.leader == id).to_string(),
            answer.is_learner.to_string(),
            answer.raft_term.to_string(),
            answer.raft_index.to_string(),
            answer.raft_applied_index.to_string(),
            answer.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    };
    list.iter().map(row).collect()
}

pub(super) fn status_table(list: &[Status]) -> Vec<u8> {
    let header = [
        "endpoint",
        "ID",
        "version",
        "storage version",
        "db size",
        "in use",
        "percentage not in use",
        "quota",
        "is leader",
        "is learner",
        "raft term",
        "raft index",
        "raft applied index",
        "errors",
        "downgrade target version",
        "downgrade enabled",
    ];
    table(&header, &status_rows(list)).into_bytes()
}

pub(super) fn status_fields(printer: Printer, list: &[Status]) -> Vec<u8> {
    let mut out = String::new();
    for one in list {
        let answer = &one.answer;
        let downgrade = answer.downgrade_info.clone().unwrap_or_default();
        out.push_str(&fields::header(printer, answer.header.as_ref()));
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            out.push_str(&format!("\"{name}\" : {value}\n"));
        };
        field("Version", &quote(answer.version.as_bytes()));
        field("StorageVersion", &quote(answer.storage_version.as_bytes()));
        field("DBSize", &answer.db_size);
        field("DBSizeInUse", &answer.db_size_in_use);
        field("DBSizeQuota", &answer.db_size_quota);
        field("Leader", &answer.leader);
        field("IsLearner", &answer.is_learner);
        field("RaftIndex", &answer.raft_index);
        field("RaftTerm", &answer.raft_term);
        field("RaftAppliedIndex", &answer.raft_applied_index);
        field("Errors", &format!("[{}]", answer.errors.join(" ")));
        field("Endpoint", &quote(one.endpoint.as_bytes()));
        field("DowngradeTargetVersion", &quote(downgrade.target_version.as_bytes()));
        field("DowngradeEnabled", &downgrade.enabled);
        out.push('\n');
    }
    out.into_bytes()
}

pub(super) fn hash_rows(list: &[Hash]) -> Vec<Row> {
    let row = |one: &Hash| {
        let answer = &one.answer;
        vec![one.endpoint.clone(), answer.hash.to_string(), answer.hash_revision.to_string()]
    };
    list.iter().map(row).collect()
}

pub(super) fn hash_table(list: &[Hash]) -> Vec<u8> {
    table(&["endpoint", "hash", "hash_revision"], &hash_rows(list)).into_bytes()
}

pub(super) fn hash_fields(printer: Printer, list: &[Hash]) -> Vec<u8> {
    let mut out = String::new();
    for one in list {
        let answer = &one.answer;
        out.push_str(&fields::header(printer, answer.header.as_ref()));
        out.push_str(&format!(
            "\"Endpoint\" : {}\n\"Hash\" : {}\n\"HashRevision\" : {}\n\n",
            quote(one.endpoint.as_bytes()),
            answer.hash,
            answer.hash_revision
        ));
    }
    out.into_bytes()
}
