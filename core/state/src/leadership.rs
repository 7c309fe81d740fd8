//! The leader of the term, and this member's proposals in it.

use crate::input::Leader;
use proto::Term;

/// The leadership of a term.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leadership {
    /// The term.
    pub(crate) term: Term,
    /// The leader.
    pub(crate) leader: Leader,
    /// When this member learned of it, in milliseconds.
    pub(crate) since_ms: u64,
    /// This member leads, and an entry of the term is applied.
    pub(crate) is_established: bool,
    /// When it was established, in milliseconds.
    pub(crate) established_ms: u64,
    /// The cluster version was proposed in this term.
    pub(crate) has_proposed_version: bool,
    /// When the completion of a downgrade was last checked, in milliseconds.
    pub(crate) downgrade_checked_ms: u64,
    /// When the attributes of this member were last proposed in this term, in milliseconds.
    pub(crate) attributes_proposed_ms: Option<u64>,
}

impl Leadership {
    /// True from the election until the first entry of the term is applied.
    pub(crate) fn is_pending(&self) -> bool {
        self.leader == Leader::Me && !self.is_established
    }
}
