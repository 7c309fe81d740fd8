//! The text of what a node hands out, in etcd raft's format. etcd describes the work of its append
//! and apply threads as messages; here it is a write and a list of entries.
//!
//! Source: etcd raft v3.7 util.go (DescribeReady, DescribeMessage).

use proto::{Entry, HardState, NodeId, Term};
use raft::{Body, LogWrite, Message, Ready, describe};

/// etcd sends vote requests at once if it writes asynchronously, and leaves it to the caller to
/// hold them back otherwise. This node hands them out behind the write. The scripts show them
/// before it.
pub(crate) fn is_request(message: &Message) -> bool {
    matches!(message.body, Body::Vote { .. })
}

/// The append thread's work, and the messages that follow it.
pub(crate) fn append_work(id: NodeId, write: &LogWrite, with_responses: bool) -> String {
    let HardState { term, vote, commit } = write.hard_state.unwrap_or_default();
    let mut text = format!("{id:x}->AppendThread MsgStorageAppend Term:{term} Log:0/0");
    if commit.0 != 0 {
        text += &format!(" Commit:{commit}");
    }
    if vote != NodeId::NONE {
        text += &format!(" Vote:{vote}");
    }
    text += &describe::entries(&write.entries, "");
    if let Some(snapshot) = &write.snapshot {
        text += &format!("\n  Snapshot: {}", describe::snapshot(snapshot));
    }
    let responses: Vec<String> =
        responses(write).iter().map(|message| describe::message(message, "  ")).collect();
    text + &if with_responses { in_brackets(&responses) } else { String::new() }
}

/// The messages of a write, without the vote requests.
pub(crate) fn responses(write: &LogWrite) -> Vec<Message> {
    write.after.iter().filter(|message| !is_request(message)).cloned().collect()
}

/// The apply thread's work, and the message that follows it.
pub(crate) fn apply_work(id: NodeId, entries: &[Entry], with_response: bool) -> String {
    let text = format!("{id:x}->ApplyThread MsgStorageApply Term:0 Log:0/0")
        + &describe::entries(entries, "");
    let response = apply_response(id, entries, "  ");
    text + &if with_response { in_brackets(&[response]) } else { String::new() }
}

pub(crate) fn apply_response(id: NodeId, entries: &[Entry], indent: &str) -> String {
    format!("ApplyThread->{id:x} MsgStorageApplyResp Term:0 Log:0/0")
        + &describe::entries(entries, indent)
}

fn in_brackets(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    format!(" Responses:[{lines}\n]")
}

/// The text of a Ready. `before` is the hard state of the last one.
pub(crate) fn ready(id: NodeId, ready: &Ready, is_async: bool, before: HardState) -> String {
    let write = ready.write.clone().unwrap_or_default();
    let mut lines = Vec::new();
    lines.extend(ready.soft.map(|soft| soft.to_string()));
    let hard_state = write.hard_state.map(|hard| describe::hard_state(&hard));
    lines.extend(hard_state.map(|text| format!("HardState {text}")));
    if !ready.reads.is_empty() {
        let reads: Vec<String> =
            ready.reads.iter().map(|read| format!("{{{} {}}}", read.index, read.context)).collect();
        lines.push(format!("ReadStates [{}]", reads.join(" ")));
    }
    list(&mut lines, "Entries:", write.entries.iter().map(describe::entry).collect());
    lines.extend(write.snapshot.iter().map(|s| format!("Snapshot {}", describe::snapshot(s))));
    list(&mut lines, "CommittedEntries:", ready.committed.iter().map(describe::entry).collect());
    list(&mut lines, "Messages:", messages(id, ready, is_async));
    if lines.is_empty() {
        return "<empty Ready>".into();
    }
    let term_and_vote = |hard: HardState| -> (Term, NodeId) { (hard.term, hard.vote) };
    let changed = write.hard_state.is_some_and(|hard| term_and_vote(hard) != term_and_vote(before));
    let must_sync = changed || !write.entries.is_empty();
    // etcd syncs a snapshot by other means.
    assert_eq!(write.must_sync, must_sync || write.snapshot.is_some());
    format!("Ready MustSync={must_sync}:\n{}", lines.join("\n"))
}

fn list(lines: &mut Vec<String>, title: &str, items: Vec<String>) {
    if !items.is_empty() {
        lines.push(title.into());
        lines.extend(items);
    }
}

fn messages(id: NodeId, ready: &Ready, is_async: bool) -> Vec<String> {
    let after = ready.write.iter().flat_map(|write| &write.after);
    let requests = after.clone().filter(|message| is_request(message));
    let mut lines: Vec<String> =
        ready.messages.iter().chain(requests).map(ToString::to_string).collect();
    if !is_async {
        let others = after.filter(|message| message.to != id && !is_request(message));
        lines.extend(others.map(ToString::to_string));
        return lines;
    }
    let is_work = |write: &&LogWrite| {
        write.hard_state.is_some() || !write.entries.is_empty() || !responses(write).is_empty()
    };
    lines.extend(ready.write.iter().filter(is_work).map(|write| append_work(id, write, true)));
    if !ready.committed.is_empty() {
        lines.push(apply_work(id, &ready.committed, true));
    }
    lines
}
