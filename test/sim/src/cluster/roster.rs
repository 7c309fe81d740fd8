//! The model of the membership, to which each committed change is applied. It shares no code with
//! the members that are checked against it.

use cluster::ChangeContext;
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, NodeId};
use state::Reject;
use std::collections::{BTreeMap, BTreeSet};

/// The maximum number of learners.
const LEARNERS_MAX: usize = 1;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) is_learner: bool,
    pub(crate) peer_urls: Vec<String>,
}

/// All members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    members: BTreeMap<NodeId, Listed>,
    removed: BTreeSet<NodeId>,
}

impl Roster {
    pub(crate) fn members(&self) -> &BTreeMap<NodeId, Listed> {
        &self.members
    }

    pub(crate) fn is_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    pub(crate) fn voters(&self) -> usize {
        self.members.values().filter(|member| !member.is_learner).count()
    }

    pub(crate) fn learner(&self) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member.is_learner).map(|(id, _)| *id)
    }

    /// Applies a committed change. Returns the result that its proposer must get.
    ///
    /// # Errors
    /// When a member must not propose such a change.
    pub(crate) fn change(&mut self, change: &ConfChange) -> Result<Result<(), Reject>, String> {
        let context = if change.context.is_empty() {
            ChangeContext { member: cluster::Member::default(), is_promote: false }
        } else {
            ChangeContext::from_json(&change.context).map_err(|error| error.to_string())?
        };
        Ok(self.decide(change, context))
    }

    fn decide(&mut self, change: &ConfChange, context: ChangeContext) -> Result<(), Reject> {
        let id = change.node;
        if self.removed.contains(&id) {
            return Err(Reject::MemberRemoved);
        }
        let urls = context.member.peer_urls;
        let others = self.members.iter().filter(|(other, _)| **other != id);
        let is_taken = others.flat_map(|(_, other)| &other.peer_urls).any(|it| urls.contains(it));
        let learners = usize::from(self.learner().is_some());
        let known = self.members.get_mut(&id);
        match (change.kind, known) {
            (ConfChangeType::ConfChangeRemoveNode, None) => Err(Reject::MemberNotFound),
            (ConfChangeType::ConfChangeRemoveNode, Some(_)) => {
                self.members.remove(&id);
                self.removed.insert(id);
                Ok(())
            }
            (ConfChangeType::ConfChangeUpdateNode, None) => Err(Reject::MemberNotFound),
            (ConfChangeType::ConfChangeUpdateNode, Some(known)) => {
                if is_taken {
                    return Err(Reject::PeerUrlExists);
                }
                known.peer_urls = urls;
                Ok(())
            }
            (_, known) if context.is_promote => match known {
                None => Err(Reject::MemberNotFound),
                Some(known) if !known.is_learner => Err(Reject::NotLearner),
                Some(known) => {
                    known.is_learner = false;
                    Ok(())
                }
            },
            (_, Some(_)) => Err(Reject::MemberExists),
            (_, None) if is_taken => Err(Reject::PeerUrlExists),
            (kind, None) => {
                let is_learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
                if is_learner && learners >= LEARNERS_MAX {
                    return Err(Reject::TooManyLearners);
                }
                self.members.insert(id, Listed { is_learner, peer_urls: urls });
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::Member;

    fn change(kind: ConfChangeType, node: u64, url: &str, is_promote: bool) -> ConfChange {
        let member = Member { id: NodeId(node), peer_urls: vec![url.into()], ..Member::default() };
        let context = ChangeContext { member, is_promote }.to_json().into();
        ConfChange { id: 0, kind, node: NodeId(node), context }
    }

    #[test]
    fn members_come_are_promoted_and_never_come_back() {
        use ConfChangeType::{
            ConfChangeAddLearnerNode as Learner, ConfChangeAddNode as Voter,
            ConfChangeRemoveNode as Remove,
        };
        let mut roster = Roster::default();
        let mut told = |kind, node, url, promote| {
            let told = roster.change(&change(kind, node, url, promote)).unwrap();
            (told, roster.voters(), roster.learner())
        };
        assert_eq!(told(Voter, 1, "a", false), (Ok(()), 1, None));
        assert_eq!(told(Voter, 2, "a", false).0, Err(Reject::PeerUrlExists));
        assert_eq!(told(Learner, 2, "b", false), (Ok(()), 1, Some(NodeId(2))));
        assert_eq!(told(Learner, 3, "c", false).0, Err(Reject::TooManyLearners));
        assert_eq!(told(Voter, 2, "", true), (Ok(()), 2, None));
        assert_eq!(told(Voter, 2, "", true).0, Err(Reject::NotLearner));
        assert_eq!(told(Remove, 2, "", false), (Ok(()), 1, None));
        assert_eq!(told(Voter, 2, "d", false).0, Err(Reject::MemberRemoved));
    }
}
