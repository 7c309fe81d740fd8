//! The faults under way, and how each is ended.

use super::task::Operator;
use std::collections::BTreeMap;

/// A fault that has begun: how it is ended.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    /// Lets the links be well again.
    Links(Vec<(usize, usize)>),
    /// Lets the links between them through again.
    Cuts(Vec<(usize, usize)>),
    Host(usize),
}

/// The faults under way.
#[derive(Debug, Default)]
pub(crate) struct Nemesis {
    pub(crate) active: BTreeMap<u64, Undo>,
    /// The operator, who changes the members.
    pub(crate) operator: Operator,
    pub(crate) begun: u64,
    /// No further faults begin.
    pub(crate) is_done: bool,
    /// Messages of clients and to them that were lost.
    pub(crate) kept_away: u64,
}
