//! What may be asked of the store.

use auth::KeyRange;
use bytes::Bytes;
use proto::LeaseId;

/// What the store is to look up for a range request. Sorting and filtering are the caller's; so
/// is asking for one more than a client's limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// Which keys.
    pub keys: KeyRange,
    /// As of which revision; 0 or less for the current one.
    pub revision: i64,
    /// How many key-values at most, in order of key; 0 for all.
    pub limit: u64,
    /// Leave out values and leases, as etcd since 3.7 does when it answers from its index.
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
    /// The value; none to keep that of the key.
    pub value: Option<Bytes>,
    /// The lease, 0 for none; none to keep that of the key.
    pub lease: Option<LeaseId>,
    /// Whether what was there before is wanted.
    pub prev_kv: bool,
}

/// A deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: KeyRange,
    /// Whether what was there before is wanted.
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
