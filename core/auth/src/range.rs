//! Ranges of keys, in the canonical form that both the permission checks and the store use.

use bytes::Bytes;

/// One key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// This key.
    One(Bytes),
    /// From `from` to `end`, exclusive. Without `end` it has no upper bound.
    Span {
        /// The first key.
        from: Bytes,
        /// The exclusive end.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// The range for a request's `key` and `range_end`. An empty end means one key, a zero byte
    /// means all keys from `key` on.
    #[must_use]
    pub fn of_request(key: Bytes, range_end: Bytes) -> KeyRange {
        match &range_end[..] {
            [] => KeyRange::One(key),
            [0] => KeyRange::Span { from: key, end: None },
            _ => KeyRange::Span { from: key, end: Some(range_end) },
        }
    }

    /// Whether the range contains a key.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { from, end } => from <= key && end.as_ref().is_none_or(|end| key < end),
        }
    }
}
