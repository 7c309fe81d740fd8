//! Ranges of keys in the one form that permission is checked for and the store reads.

use bytes::Bytes;

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
