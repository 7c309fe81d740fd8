//! What the operator of the cluster is doing.

use super::fault::FaultKind;
use proto::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// What is to become of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A new member lives on this host.
    Join { at: usize, as_learner: bool },
    /// The learner is a voter.
    Vote(NodeId),
    /// The member on this host is a voter, if it is a learner.
    VoteAt(usize),
    /// The member is no longer one.
    Leave(NodeId),
    /// The member has these peer URLs.
    Move(NodeId, Vec<String>),
}

/// An aim, and the kind of fault that has happened once it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) aim: Aim,
    pub(crate) kind: Option<FaultKind>,
}

/// The operator: it has one task at a time, and one call under way.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    pub(crate) steps: VecDeque<Step>,
    /// The number of its call under way.
    pub(crate) call: Option<u64>,
    /// How often it has called for the first of `steps`.
    pub(crate) attempts: u32,
    /// Members that it has asked to add and that do not live on their hosts yet: the host of each,
    /// and when it asked. A call that had no answer may take effect later.
    pub(crate) asked: BTreeMap<NodeId, (usize, u64)>,
}

impl Operator {
    pub(crate) fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.call.is_none()
    }

    /// Something is to be done after what is under way.
    pub(crate) fn then(&mut self, steps: impl IntoIterator<Item = (Aim, Option<FaultKind>)>) {
        self.steps.extend(steps.into_iter().map(|(aim, kind)| Step { aim, kind }));
    }

    pub(crate) fn begin(&mut self, steps: impl IntoIterator<Item = (Aim, Option<FaultKind>)>) {
        self.attempts = 0;
        self.steps.clear();
        self.then(steps);
    }
}
