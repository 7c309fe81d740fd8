//! The text of entries, messages and snapshots in etcd raft's format, for logs and test scripts.
//!
//! Source: etcd raft v3.7 util.go.

use crate::confchange::ConfChanges;
use crate::message::{Body, Message, OWN_APPLIER, OWN_LOG, RaftSnapshot};
use crate::output::SoftState;
use proto::raftpb::ConfChangeType;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId};
use std::fmt;

/// The text of an entry: term, index, kind and data.
#[must_use]
pub fn entry(entry: &Entry) -> String {
    let (kind, data) = match entry.kind {
        EntryKind::Normal => ("EntryNormal", quoted(&entry.data)),
        EntryKind::ConfChange => ("EntryConfChange", changes(entry)),
        EntryKind::ConfChangeV2 => ("EntryConfChangeV2", changes(entry)),
    };
    let space = if data.is_empty() { "" } else { " " };
    format!("{}/{} {kind}{space}{data}", entry.term, entry.index)
}

/// The short text of configuration changes: `v1` makes 1 a voter, `l1` a learner, `r1` removes it,
/// `u1` changes its addresses.
fn changes(entry: &Entry) -> String {
    let changes = match ConfChanges::of(entry) {
        Ok(changes) => changes.unwrap_or_default().changes,
        Err(error) => return error.to_string(),
    };
    let texts: Vec<String> = changes
        .iter()
        .map(|change| {
            let letter = match change.kind {
                ConfChangeType::ConfChangeAddNode => 'v',
                ConfChangeType::ConfChangeAddLearnerNode => 'l',
                ConfChangeType::ConfChangeRemoveNode => 'r',
                ConfChangeType::ConfChangeUpdateNode => 'u',
            };
            format!("{letter}{}", change.node)
        })
        .collect();
    texts.join(" ")
}

/// Bytes between double quotes, with unprintable bytes escaped.
fn quoted(data: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// The text of a hard state.
#[must_use]
pub fn hard_state(state: &HardState) -> String {
    let vote = match state.vote {
        NodeId::NONE => String::new(),
        vote => format!(" Vote:{vote}"),
    };
    format!("Term:{}{vote} Commit:{}", state.term, state.commit)
}

impl fmt::Display for SoftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lead:{} State:{}", self.leader, self.role)
    }
}

/// The text of a member's id, or of a part of a member that sends messages to it.
#[must_use]
pub fn target(id: NodeId) -> String {
    match id {
        NodeId::NONE => "None".into(),
        OWN_LOG => "AppendThread".into(),
        OWN_APPLIER => "ApplyThread".into(),
        id => format!("{id:x}"),
    }
}

/// The text of a snapshot, without its data.
#[must_use]
pub fn snapshot(snapshot: &RaftSnapshot) -> String {
    let list = |ids: &[NodeId]| {
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        texts.join(" ")
    };
    let RaftSnapshot { id, conf_state, .. } = snapshot;
    format!(
        "Index:{} Term:{} ConfState:Voters:[{}] VotersOutgoing:[{}] Learners:[{}] LearnersNext:[{}] AutoLeave:{}",
        id.index,
        id.term,
        list(&conf_state.voters),
        list(&conf_state.voters_outgoing),
        list(&conf_state.learners),
        list(&conf_state.learners_next),
        conf_state.auto_leave
    )
}

/// The text of entries in a message: one on the same line, several on lines of their own.
#[must_use]
pub fn entries(entries: &[Entry], indent: &str) -> String {
    match entries {
        [] => String::new(),
        [only] => format!(" Entries:[{}]", entry(only)),
        several => {
            let lines: String =
                several.iter().map(|one| format!("\n{indent}  {}", entry(one))).collect();
            format!(" Entries:[{lines}\n{indent}]")
        }
    }
}

/// The text of a message whose further lines begin with `indent`.
#[must_use]
pub fn message(message: &Message, indent: &str) -> String {
    let Message { from, to, term, body } = message;
    let log = log_id(body);
    let name = body.name();
    let head = format!(
        "{}->{} {name} Term:{term} Log:{}/{}",
        target(*from),
        target(*to),
        log.term,
        log.index
    );
    let tail = match body {
        Body::AppendRejected { hint, .. } => format!(" Rejected (Hint: {})", hint.index),
        Body::VoteResponse { granted: false } | Body::PreVoteResponse { granted: false } => {
            " Rejected (Hint: 0)".into()
        }
        Body::Append { commit, entries: sent, .. } => commit_text(*commit) + &entries(sent, indent),
        Body::Heartbeat { commit, .. } => commit_text(*commit),
        Body::Propose { entries: sent } => entries(sent, indent),
        Body::Snapshot(sent) | Body::Stored { snapshot: Some(sent), .. } => {
            format!("\n{indent}  Snapshot: {}", snapshot(sent))
        }
        Body::AppendAccepted { .. }
        | Body::Vote { .. }
        | Body::PreVote { .. }
        | Body::VoteResponse { granted: true }
        | Body::PreVoteResponse { granted: true }
        | Body::HeartbeatResponse { .. }
        | Body::TransferLeader
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::ReadIndexResponse { .. }
        | Body::Stored { snapshot: None, .. } => String::new(),
    };
    head + &tail
}

/// The entry that a message is about.
fn log_id(body: &Body) -> EntryId {
    match body {
        Body::Append { prev: log, .. }
        | Body::Vote { last: log, .. }
        | Body::PreVote { last: log }
        | Body::Stored { last: Some(log), .. } => *log,
        Body::AppendRejected { index, hint } => EntryId { term: hint.term, index: *index },
        Body::AppendAccepted { index } | Body::ReadIndexResponse { index, .. } => {
            EntryId { index: *index, ..EntryId::default() }
        }
        Body::Propose { .. }
        | Body::Snapshot(_)
        | Body::VoteResponse { .. }
        | Body::PreVoteResponse { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatResponse { .. }
        | Body::TransferLeader
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::Stored { last: None, .. } => EntryId::default(),
    }
}

fn commit_text(commit: Index) -> String {
    if commit == Index(0) { String::new() } else { format!(" Commit:{commit}") }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&message(self, ""))
    }
}
