//! Compares the hashes of the members' keys to find corrupt data. Members that have applied the
//! same entries have the same hash up to a revision, if their compacted revision is the same.
//!
//! Source: etcd v3.7 server/etcdserver/corrupt.go.

use proto::NodeId;
use std::collections::BTreeMap;

/// A hash of a member's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The revision up to which the keys are hashed.
    pub revision: i64,
    /// The revision up to which the member has compacted.
    pub compact_revision: i64,
    /// The member's current revision.
    pub current_revision: i64,
}

/// The hashes of the other members that have answered.
pub type OtherHashes = BTreeMap<NodeId, KvHash>;

/// The members whose hash differs from that of a member that starts.
#[must_use]
pub fn differ_at_start(own: &KvHash, others: &OtherHashes) -> Vec<NodeId> {
    let differs =
        |other: &KvHash| other.hash != own.hash && other.compact_revision == own.compact_revision;
    others.iter().filter(|(_, other)| differs(other)).map(|(id, _)| *id).collect()
}

/// A fault that a leader finds when it compares the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Two hashes of the leader itself differ.
    OwnHashChanged,
    /// A follower is at a revision that the leader has not reached.
    AheadOfLeader,
    /// A follower has compacted more than the leader.
    CompactedBeyondLeader,
    /// The hashes differ.
    OtherHash,
}

/// The members whose data must be wrong, each with the finding. `own` are the hashes of the leader:
/// before it asked the others, and after a linearizable read that followed.
#[must_use]
pub fn compare_at_leader(
    own: NodeId,
    (before, after): (&KvHash, &KvHash),
    others: &OtherHashes,
) -> Vec<(NodeId, Finding)> {
    let mut found = Vec::new();
    let is_same =
        before.revision == after.revision && before.compact_revision == after.compact_revision;
    if is_same && before.hash != after.hash {
        found.push((own, Finding::OwnHashChanged));
    }
    for (id, other) in others {
        if other.current_revision > after.current_revision {
            found.push((*id, Finding::AheadOfLeader));
        }
        if other.compact_revision > after.compact_revision {
            found.push((*id, Finding::CompactedBeyondLeader));
        }
        if other.compact_revision == before.compact_revision && other.hash != before.hash {
            found.push((*id, Finding::OtherHash));
        }
    }
    found
}

/// The result of comparing the hashes at the newest compacted revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All members that could be compared are equal: this many others.
    Equal(usize),
    /// These members differ from the majority.
    Against(Vec<NodeId>),
    /// The members differ, and no hash has a majority.
    None,
}

/// Compares the hashes at a revision that the leader `own` has compacted. Members with another
/// compacted revision cannot be compared. `others` is the number of all other members.
#[must_use]
pub fn compare_compacted(
    own: NodeId,
    leader: &KvHash,
    answered: &OtherHashes,
    others: usize,
) -> Agreement {
    let mut by_hash: BTreeMap<u32, Vec<NodeId>> = BTreeMap::from([(leader.hash, vec![own])]);
    let comparable =
        answered.iter().filter(|(_, other)| other.compact_revision == leader.compact_revision);
    let mut compared = 0;
    for (id, other) in comparable {
        by_hash.entry(other.hash).or_default().push(*id);
        compared += 1;
    }
    if by_hash.len() == 1 {
        return Agreement::Equal(compared);
    }
    let quorum = others.div_ceil(2) + 1;
    let majority = by_hash.iter().find(|(_, ids)| ids.len() >= quorum).map(|(hash, _)| *hash);
    match majority {
        Some(hash) => {
            by_hash.remove(&hash);
            Agreement::Against(by_hash.into_values().flatten().collect())
        }
        None => Agreement::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);

    fn hash(hash: u32, compact_revision: i64, current_revision: i64) -> KvHash {
        KvHash { hash, revision: 10, compact_revision, current_revision }
    }

    fn others<const N: usize>(hashes: [KvHash; N]) -> OtherHashes {
        (2..).map(NodeId).zip(hashes).collect()
    }

    #[test]
    fn a_member_that_starts_differs_only_at_the_same_compacted_revision() {
        let own = hash(7, 5, 10);
        let others = others([hash(7, 5, 12), hash(8, 5, 10), hash(8, 4, 10)]);
        assert_eq!(differ_at_start(&own, &others), [NodeId(3)]);
    }

    #[test]
    fn a_leader_finds_every_member_that_cannot_be_right() {
        let (before, after) = (hash(7, 5, 10), hash(9, 6, 12));
        let all_good = others([hash(7, 5, 10), hash(7, 5, 12), hash(9, 6, 12), hash(1, 4, 9)]);
        assert_eq!(compare_at_leader(OWN, (&before, &after), &all_good), []);
        let bad = others([hash(7, 5, 13), hash(7, 7, 12), hash(8, 5, 10)]);
        assert_eq!(
            compare_at_leader(OWN, (&before, &after), &bad),
            [
                (NodeId(2), Finding::AheadOfLeader),
                (NodeId(3), Finding::CompactedBeyondLeader),
                (NodeId(4), Finding::OtherHash),
            ]
        );
        let changed = compare_at_leader(OWN, (&before, &hash(8, 5, 10)), &OtherHashes::new());
        assert_eq!(changed, [(OWN, Finding::OwnHashChanged)]);
    }

    #[test]
    fn the_minority_is_blamed_and_without_a_majority_nobody() {
        let leader = hash(7, 10, 12);
        let compare = |hashes: OtherHashes, all| compare_compacted(OWN, &leader, &hashes, all);
        let (same, other, third) = (hash(7, 10, 12), hash(8, 10, 12), hash(9, 10, 12));
        let behind = hash(8, 9, 12);
        assert_eq!(compare(others([same, same]), 2), Agreement::Equal(2));
        assert_eq!(compare(others([same, behind]), 2), Agreement::Equal(1));
        assert_eq!(compare(others([same, other]), 2), Agreement::Against(vec![NodeId(3)]));
        assert_eq!(compare(others([other, other]), 2), Agreement::Against(vec![OWN]));
        assert_eq!(compare(others([other, third]), 2), Agreement::None);
        assert_eq!(compare(others([other]), 1), Agreement::None);
        // Two of four are not a majority.
        assert_eq!(compare(others([same, other, other]), 3), Agreement::None);
    }
}
