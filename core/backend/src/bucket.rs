//! The buckets of the file.

/// A bucket. The order of the variants is the order of the names in the file.
///
/// Source: etcd v3.7 server/storage/schema/bucket.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Raised alarms.
    Alarm,
    /// Whether authentication is on, and its revision.
    Auth,
    /// Roles by name.
    AuthRoles,
    /// Users by name.
    AuthUsers,
    /// The cluster's version and downgrade state.
    Cluster,
    /// Every version of every key, by revision.
    Key,
    /// Leases by id.
    Lease,
    /// Members by id.
    Members,
    /// The ids of members that were removed.
    MembersRemoved,
    /// Metadata: the applied entry, compaction revisions, the raft configuration.
    Meta,
}

impl Bucket {
    /// All of them, in order.
    pub const ALL: [Bucket; 10] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            Bucket::Alarm => b"alarm",
            Bucket::Auth => b"auth",
            Bucket::AuthRoles => b"authRoles",
            Bucket::AuthUsers => b"authUsers",
            Bucket::Cluster => b"cluster",
            Bucket::Key => b"key",
            Bucket::Lease => b"lease",
            Bucket::Members => b"members",
            Bucket::MembersRemoved => b"members_removed",
            Bucket::Meta => b"meta",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_in_the_order_of_their_names() {
        assert!(Bucket::ALL.is_sorted());
        assert!(Bucket::ALL.is_sorted_by_key(|bucket| bucket.name()));
    }
}
