//! What may be asked of the store.

use bytes::Bytes;
use proto::LeaseId;

/// One key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// This key.
    One(Bytes),
    /// From `from` up to but without `end`; to the last key without `end`.
    Span {
        /// The first key.
        from: Bytes,
        /// The key behind the last.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// The range that a request's `key` and `range_end` mean: no end is one key, a zero byte is
    /// everything from the key on.
    #[must_use]
    pub fn of_request(key: Bytes, range_end: Bytes) -> KeyRange {
        match &range_end[..] {
            [] => KeyRange::One(key),
            [0] => KeyRange::Span { from: key, end: None },
            _ => KeyRange::Span { from: key, end: Some(range_end) },
        }
    }

    /// Whether a key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { from, end } => from <= key && end.as_ref().is_none_or(|end| key < end),
        }
    }
}

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
