//! The tasks of the operator.

use super::fault::FaultKind;
use proto::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// The aim of a step: a state of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A new member lives on this host.
    Join { at: usize, as_learner: bool },
    /// The learner is a voter.
    Vote(NodeId),
    /// The member on this host is a voter, if it is a learner.
    VoteAt(usize),
    /// The member is removed.
    Leave(NodeId),
    /// The member has these peer URLs.
    Move(NodeId, Vec<String>),
}

/// An aim, and the kind of fault that is counted once it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) aim: Aim,
    pub(crate) kind: Option<FaultKind>,
}

/// The operator. It has one task at a time, and one call in flight.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    pub(crate) steps: VecDeque<Step>,
    /// The number of its call in flight.
    pub(crate) call: Option<u64>,
    /// The number of calls for the first of `steps`.
    pub(crate) attempts: u32,
    /// Members that it has requested to add and that do not live on their hosts yet: the host of
    /// each, and the time of the request. A call without an answer may take effect later.
    pub(crate) asked: BTreeMap<NodeId, (usize, u64)>,
}

impl Operator {
    pub(crate) fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.call.is_none()
    }

    /// Adds steps after the current ones.
    pub(crate) fn then(&mut self, steps: impl IntoIterator<Item = (Aim, Option<FaultKind>)>) {
        self.steps.extend(steps.into_iter().map(|(aim, kind)| Step { aim, kind }));
    }

    pub(crate) fn begin(&mut self, steps: impl IntoIterator<Item = (Aim, Option<FaultKind>)>) {
        self.attempts = 0;
        self.steps.clear();
        self.then(steps);
    }
}
