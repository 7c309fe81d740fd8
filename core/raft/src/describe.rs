//! The text of entries, messages and [`Ready`] in etcd raft's format, for logs and test scripts.
//!
//! Source: etcd raft v3.7 util.go.

use crate::confchange::ConfChanges;
use crate::message::{Body, Message};
use crate::output::{Ready, SoftState};
use proto::raftpb::ConfChangeType;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId};
use std::fmt::{self, Write as _};

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

/// Bytes between double quotes, with what is not printable escaped.
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

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { from, to, term, body } = self;
        let log = match body {
            Body::Append { prev: log, .. } | Body::Vote { last: log } => *log,
            Body::AppendRejected { index, hint } => EntryId { term: hint.term, index: *index },
            Body::AppendAccepted { index } | Body::ReadIndexResponse { index, .. } => {
                EntryId { index: *index, ..EntryId::default() }
            }
            Body::Propose { .. }
            | Body::VoteResponse { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::ReadIndex { .. } => EntryId::default(),
        };
        write!(f, "{from:x}->{to:x} {} Term:{term} Log:{}/{}", body.name(), log.term, log.index)?;
        match body {
            Body::AppendRejected { hint, .. } => write!(f, " Rejected (Hint: {})", hint.index),
            Body::VoteResponse { granted: false } => f.write_str(" Rejected (Hint: 0)"),
            Body::Append { commit, entries, .. } => {
                write_commit(f, *commit)?;
                write_entries(f, entries)
            }
            Body::Heartbeat { commit, .. } => write_commit(f, *commit),
            Body::Propose { entries } => write_entries(f, entries),
            Body::AppendAccepted { .. }
            | Body::Vote { .. }
            | Body::VoteResponse { granted: true }
            | Body::HeartbeatResponse { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => Ok(()),
        }
    }
}

fn write_commit(f: &mut fmt::Formatter<'_>, commit: Index) -> fmt::Result {
    if commit == Index(0) { Ok(()) } else { write!(f, " Commit:{commit}") }
}

fn write_entries(f: &mut fmt::Formatter<'_>, entries: &[Entry]) -> fmt::Result {
    match entries {
        [] => Ok(()),
        [only] => write!(f, " Entries:[{}]", entry(only)),
        several => {
            f.write_str(" Entries:[")?;
            for one in several {
                write!(f, "\n  {}", entry(one))?;
            }
            f.write_str("\n]")
        }
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let Some(soft) = &self.soft {
            writeln!(text, "{soft}")?;
        }
        if let Some(hard) = &self.hard_state {
            writeln!(text, "HardState {}", hard_state(hard))?;
        }
        if !self.reads.is_empty() {
            let reads: Vec<String> = self
                .reads
                .iter()
                .map(|read| format!("{{{} {}}}", read.index, read.context))
                .collect();
            writeln!(text, "ReadStates [{}]", reads.join(" "))?;
        }
        for (title, entries) in
            [("Entries:", &self.entries), ("CommittedEntries:", &self.committed)]
        {
            if !entries.is_empty() {
                writeln!(text, "{title}")?;
            }
            for one in entries {
                writeln!(text, "{}", entry(one))?;
            }
        }
        if !self.messages.is_empty() {
            writeln!(text, "Messages:")?;
        }
        for message in &self.messages {
            writeln!(text, "{message}")?;
        }
        if text.is_empty() {
            return f.write_str("<empty Ready>");
        }
        write!(f, "Ready MustSync={}:\n{text}", self.must_sync)
    }
}
