//! A leader that is removed from a cluster of two: the other member must learn of it, even if the
//! first message about it is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use executor::boot::{Booted, Files};
use executor::{BootOptions, Founding};
use member::{Effect, Input, Member, Proposal};
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, EntryKind, Index, NodeId};
use raft::Message;
use std::sync::Arc;
use vfs::{SimDisk, Vfs};

fn boot(name: &str) -> Booted {
    let first = |name: &str| (name.to_owned(), vec![format!("http://{name}:2380")]);
    let mut options = BootOptions::simulated(1);
    options.founding = Some(Founding::New {
        name: name.into(),
        members: vec![first("a"), first("b")],
        token: "t".into(),
    });
    let vfs: Arc<dyn Vfs> = Arc::new(SimDisk::new(1));
    let files = Files::open(&vfs, &options).unwrap();
    let (keys, log) = (files.read_keys(), files.open_log().unwrap());
    files.start(keys, log).unwrap()
}

/// Lets a member handle an input on a disk that is durable at once. Returns its messages.
fn step(member: &mut Member, input: Input) -> Vec<Message> {
    let (mut inputs, mut sent) = (vec![input], Vec::new());
    while let Some(input) = inputs.pop() {
        let mut effects = Vec::new();
        member.step(input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append(append) => {
                    inputs.insert(0, Input::Durable(append.receipt));
                    sent.extend(append.answers);
                }
                Effect::Send(messages) => sent.extend(messages),
                Effect::Apply(entries) => {
                    let last = entries.last().map_or(Index(0), |entry| entry.index);
                    inputs.insert(0, Input::Applied(last));
                    for entry in entries.iter().filter(|it| it.kind == EntryKind::ConfChange) {
                        let change = ConfChange::decode(entry.data.clone()).unwrap();
                        inputs.push(Input::ConfChanged(Some(change)));
                    }
                }
                Effect::Restore(_)
                | Effect::Read(_)
                | Effect::ReadLog(_)
                | Effect::SnapshotWanted
                | Effect::BadMessage(_)
                | Effect::Refuse(..)
                | Effect::Leadership(_) => {}
            }
        }
    }
    sent
}

/// Delivers all messages until there are none.
fn deliver(members: &mut [Member; 2], mut messages: Vec<Message>) {
    while let Some(message) = messages.pop() {
        let to = members.iter_mut().find(|member| member.raft().id() == message.to).unwrap();
        messages.extend(step(to, Input::Message(message)));
    }
}

#[test]
fn a_removed_leader_of_two_tells_the_other_member_until_it_ends() {
    let mut members = ["a", "b"].map(|name| boot(name).member);
    while !members[0].leads() {
        let sent = step(&mut members[0], Input::Tick);
        deliver(&mut members, sent);
    }
    let me: NodeId = members[0].raft().id();
    let kind = ConfChangeType::ConfChangeRemoveNode;
    let removal = Proposal::change(&ConfChange { id: 7, kind, node: me, context: Bytes::new() });
    let propose = Input::Propose { own: vec![removal], forwarded: Vec::new() };
    let mut to_other = step(&mut members[0], propose);
    let mut to_leader = Vec::new();
    for message in to_other.drain(..) {
        to_leader.extend(step(&mut members[1], Input::Message(message)));
    }
    // The leader commits and applies its removal; its messages about that are lost.
    for message in to_leader {
        step(&mut members[0], Input::Message(message));
    }
    let removal = members[0].commit();
    assert!(!members[0].conf_state().voters.contains(&me));
    assert!(members[1].commit() < removal);
    for _ in 0..2 {
        let sent = step(&mut members[0], Input::Tick);
        deliver(&mut members, sent);
    }
    assert_eq!(members[1].commit(), removal);
    assert!(members[1].is_sole_voter(), "the other member goes on alone");
}
