//! Whether this member leads, and what it has proposed in the term.

use proto::Term;

/// This member's leadership.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leadership {
    /// The term in which this member leads.
    pub(crate) term: Option<Term>,
    /// Whether an entry of that term is applied.
    pub(crate) is_established: bool,
    /// The cluster version was proposed in this term.
    pub(crate) has_proposed_version: bool,
    /// The attributes of this member were proposed in this term.
    pub(crate) has_proposed_attributes: bool,
}

impl Leadership {
    /// True from the election until the first entry of the term is applied.
    pub(crate) fn is_pending(&self) -> bool {
        self.term.is_some() && !self.is_established
    }
}
