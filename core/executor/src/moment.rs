//! The moment: everything that readers see, published as one value.

use member::Leadership;
use proto::NodeId;
use state::Published;

/// A consistent view of the member. It never changes; the applier publishes a new one.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The replicated data.
    pub published: Published,
    /// The term and the leader that the applier knew when it published.
    pub leadership: Leadership,
    /// This member.
    pub member: NodeId,
    /// Bytes of batches that are applied and not yet in the database file.
    pub overlay_bytes: usize,
}

impl Moment {
    /// True if a read of this moment is linearizable: this member leads, is the only voter, and
    /// has applied an entry of its term, so that no other member can have acknowledged a write
    /// that is missing here.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        let Leadership { term, leader } = self.leadership;
        leader == self.member
            && leader != NodeId::NONE
            && self.published.applied.term == term
            && self.is_sole_voter()
    }

    /// True if this member is the only voter.
    #[must_use]
    pub fn is_sole_voter(&self) -> bool {
        let members = self.published.cluster.members();
        let mut voters = members.filter(|member| !member.is_learner).map(|member| member.id);
        voters.next() == Some(self.member) && voters.next().is_none()
    }
}
