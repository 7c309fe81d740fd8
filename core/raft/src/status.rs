//! A node's state at one moment, for an operator.
//!
//! Source: etcd raft v3.7 status.go.

use crate::node::Node;
use crate::output::Role;
use crate::tracker::ProgressState;
use proto::{HardState, Index, NodeId};
use std::collections::BTreeMap;

/// A node's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// Its term, vote and commit index.
    pub hard_state: HardState,
    /// The leader that it knows; [`NodeId::NONE`] for none.
    pub leader: NodeId,
    /// Its role.
    pub role: Role,
    /// The last entry that it has applied.
    pub applied: Index,
    /// How far each member is; `None` unless this node leads.
    pub progress: Option<BTreeMap<NodeId, MemberProgress>>,
    /// The member that is to lead next; [`NodeId::NONE`] for none.
    pub transferee: NodeId,
}

/// The leader's knowledge of one member's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberProgress {
    /// The last entry known to be durable on the member.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// The mode of sending.
    pub state: ProgressState,
}

impl Status {
    /// The state of this node.
    #[must_use]
    pub fn of(node: &Node) -> Status {
        let of_each = || {
            node.progress().iter().map(|(id, progress)| {
                let (matched, next, state) = (progress.matched, progress.next, progress.state);
                (*id, MemberProgress { matched, next, state })
            })
        };
        Status {
            id: node.id(),
            hard_state: node.hard_state(),
            leader: node.leader(),
            role: node.role(),
            applied: node.applied_index(),
            progress: (node.role() == Role::Leader).then(|| of_each().collect()),
            transferee: node.transferee(),
        }
    }

    /// The JSON that etcd raft writes. Ids are in hexadecimal.
    #[must_use]
    pub fn to_json(&self) -> String {
        let HardState { term, vote, commit } = self.hard_state;
        let progress: Vec<String> = self
            .progress
            .iter()
            .flatten()
            .map(|(id, at)| {
                let MemberProgress { matched, next, state } = at;
                format!(r#""{id:x}":{{"match":{matched},"next":{next},"state":"{state}"}}"#)
            })
            .collect();
        format!(
            r#"{{"id":"{:x}","term":{term},"vote":"{vote:x}","commit":{commit},"lead":"{:x}","raftState":"{}","applied":{},"progress":{{{}}},"leadtransferee":"{:x}"}}"#,
            self.id,
            self.leader,
            self.role,
            self.applied,
            progress.join(","),
            self.transferee,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Term;

    #[test]
    fn the_json_is_what_etcd_raft_writes() {
        let follower = Status {
            id: NodeId(0xab),
            hard_state: HardState { term: Term(3), vote: NodeId(0xcd), commit: Index(8) },
            leader: NodeId(0xcd),
            applied: Index(7),
            ..Status::default()
        };
        assert_eq!(
            follower.to_json(),
            r#"{"id":"ab","term":3,"vote":"cd","commit":8,"lead":"cd","raftState":"StateFollower","applied":7,"progress":{},"leadtransferee":"0"}"#
        );
        let at = |matched, next, state| MemberProgress {
            matched: Index(matched),
            next: Index(next),
            state,
        };
        let leader = Status {
            role: Role::Leader,
            progress: Some(BTreeMap::from([
                (NodeId(0xab), at(4, 5, ProgressState::Replicate)),
                (NodeId(0xcd), at(0, 1, ProgressState::Probe)),
            ])),
            transferee: NodeId(0xcd),
            ..follower
        };
        assert_eq!(
            leader.to_json(),
            r#"{"id":"ab","term":3,"vote":"cd","commit":8,"lead":"cd","raftState":"StateLeader","applied":7,"progress":{"ab":{"match":4,"next":5,"state":"StateReplicate"},"cd":{"match":0,"next":1,"state":"StateProbe"}},"leadtransferee":"cd"}"#
        );
    }
}
