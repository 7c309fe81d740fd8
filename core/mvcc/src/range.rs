//! The requests to the store.

use auth::KeyRange;
use bytes::Bytes;
use proto::LeaseId;

/// The lookup behind a range request. The caller sorts and filters, and adds one to a client's
/// limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The keys.
    pub keys: KeyRange,
    /// The revision to read at; 0 or less for the current one.
    pub revision: i64,
    /// The maximum number of key-values, in order of key; 0 for all.
    pub limit: u64,
    /// Leave out values and leases, as etcd since 3.7 does for answers from its index.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
}

impl RangeQuery {
    /// All of `keys` at the current revision.
    #[must_use]
    pub fn of(keys: KeyRange) -> RangeQuery {
        RangeQuery { keys, revision: 0, limit: 0, keys_only: false, count_only: false }
    }
}

/// A put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The new value; none keeps the current one.
    pub value: Option<Bytes>,
    /// The new lease, 0 for none; none keeps the current one.
    pub lease: Option<LeaseId>,
    /// Whether to return the previous key-value.
    pub prev_kv: bool,
}

/// A deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys.
    pub keys: KeyRange,
    /// Whether to return the previous key-value.
    pub prev_kv: bool,
}

/// The version of a key at a revision, which a shard of watchers reads as the `prev_kv` of an
/// event. Which keys a watcher may see is checked when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastVersion {
    /// The key.
    pub key: Bytes,
    /// The revision; 0 for the current one.
    pub revision: i64,
}
