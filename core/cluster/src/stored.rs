//! How the cluster is stored: the buckets, their keys, and changes of them.

use bytes::Bytes;

/// The value of each item of the bucket `members_removed`.
pub const MEMBER_REMOVED_VALUE: &[u8] = b"removed";
pub(crate) const CLUSTER_VERSION_KEY: &[u8] = b"clusterVersion";
pub(crate) const DOWNGRADE_KEY: &[u8] = b"downgrade";

/// The bucket of a [`MembershipWrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `members`: id in hex to [`Member`](crate::Member) as JSON.
    Members,
    /// `members_removed`: id in hex to `removed`.
    MembersRemoved,
    /// `cluster`: `clusterVersion` and `downgrade`.
    Cluster,
}

impl Table {
    /// The bucket's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Members => "members",
            Table::MembersRemoved => "members_removed",
            Table::Cluster => "cluster",
        }
    }
}

/// A change of a stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipWrite {
    /// The bucket.
    pub table: Table,
    /// The key.
    pub key: Bytes,
    /// The new value; `None` deletes the key.
    pub value: Option<Bytes>,
}
