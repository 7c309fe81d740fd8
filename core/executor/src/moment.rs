//! The moment: the state that readers see, published as one value.

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
    /// True if a read of this moment is linearizable: this member leads and is the only member, and
    /// has applied an entry of its term and all entries that were committed while there were other
    /// members. So no other member, learner or removed member can have acknowledged a write that is
    /// missing here.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        let Leadership { term, leader, alone_from } = self.leadership;
        let applied = self.published.applied;
        leader == self.member
            && leader != NodeId::NONE
            && applied.term == term
            && alone_from.is_some_and(|index| applied.index >= index)
            && self.is_sole_member()
    }

    /// True if there is no other member in the applied configuration.
    #[must_use]
    pub fn is_sole_member(&self) -> bool {
        let mut members = self.published.cluster.members().map(|member| member.id);
        members.next() == Some(self.member) && members.next().is_none()
    }
}
