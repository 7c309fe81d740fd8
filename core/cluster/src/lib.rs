//! Who is in the cluster, and at which version it is. A plain value that says which changes are
//! valid, makes them, and returns what is to be stored as [`Write`]s. Not here: raft's
//! configuration (which follows from [`Cluster::conf_state`]), and talking to anybody.
//!
//! Source: etcd v3.7 server/etcdserver/api/membership/, server/etcdserver/version/,
//! server/storage/schema/{membership,migration,schema}.go.

#![forbid(unsafe_code)]

mod change;
mod ids;
mod load;
mod member;
mod storage_version;
mod version;

pub use change::{Change, ChangeError, Cluster, Downgrade, Reject, SetError};
pub use ids::{cluster_id, member_id, parse_hex_id};
pub use load::{BackendItems, Corrupt, MEMBER_REMOVED_VALUE, V2Item};
pub use member::{Attributes, BadJson, ChangeContext, Member, members_json};
pub use storage_version::{StorageVersion, StorageVersionChange, UnsupportedStorage};
pub use version::{BadVersion, Version};

use bytes::Bytes;

/// What this server says it is: `Status.version`, `/version`, `--version`.
pub const SERVER_VERSION: &str = "3.7.1";

/// The major and minor number of [`SERVER_VERSION`]: the highest cluster version it can serve.
pub const SERVER_MINOR: Version = Version { major: 3, minor: 7, patch: 0 };

/// The cluster version before anything is known of the members.
pub const CLUSTER_VERSION_MIN: Version = Version { major: 3, minor: 0, patch: 0 };

/// How many learners a cluster may have, unless `--max-learners` says otherwise.
pub const LEARNERS_MAX_DEFAULT: usize = 1;

/// The bucket that a [`Write`] goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `members`: id in hex to [`Member`] as JSON.
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

/// A change of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The bucket.
    pub table: Table,
    /// The key.
    pub key: Bytes,
    /// The new value; none deletes the key.
    pub value: Option<Bytes>,
}
