//! The active faults, and how each is ended.

use super::task::Operator;
use std::collections::BTreeMap;

/// How an active fault is ended.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    /// Removes loss and delays from these links.
    Links(Vec<(usize, usize)>),
    /// Lets messages through these links again.
    Cuts(Vec<(usize, usize)>),
    Host(usize),
}

/// The active faults.
#[derive(Debug, Default)]
pub(crate) struct Nemesis {
    pub(crate) active: BTreeMap<u64, Undo>,
    /// The operator, who changes the members.
    pub(crate) operator: Operator,
    pub(crate) begun: u64,
    /// No further faults begin.
    pub(crate) is_done: bool,
    /// The number of lost messages from and to clients.
    pub(crate) kept_away: u64,
}
