//! The members of the cluster and its version. [`Cluster`] is a plain value that validates changes,
//! applies them, and returns the [`MembershipWrite`]s that store them. Raft's configuration is
//! derived from it ([`Cluster::conf_state`]). Not here: communication with other members.
//!
//! Source: etcd v3.7 server/etcdserver/api/membership/, server/etcdserver/version/,
//! server/storage/schema/{membership,migration,schema}.go.

#![forbid(unsafe_code)]

mod change;
mod comparison;
mod ids;
mod load;
mod member;
mod safety;
mod storage_version;
mod stored;
mod version;

pub use change::{
    ChangeError, Cluster, Downgrade, InvalidChange, InvalidDowngrade, LEARNERS_MAX_DEFAULT,
    MembershipChange, SetError,
};
pub use comparison::{
    Agreement, Finding, KvHash, OtherHashes, compare_at_leader, compare_compacted, differ_at_start,
};
pub use ids::{cluster_id, member_id, parse_hex_id};
pub use load::{BackendItems, CorruptMembership, V2Item};
pub use member::{Attributes, BadJson, ChangeContext, Member, members_json};
pub use safety::{HEALTH_INTERVAL, Reach, UnsafeChange, check_in_sync};
pub use storage_version::{StorageVersion, StorageVersionChange, UnsupportedStorage};
pub use stored::{MEMBER_REMOVED_VALUE, MembershipWrite, Table};
pub use version::{
    BadVersion, CLUSTER_VERSION_MIN, ENTRIES_OF_3_5, SERVER_MINOR, SERVER_VERSION, Version,
    server_version,
};
