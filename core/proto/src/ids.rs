//! Newtypes for terms, indexes, ids and revisions, so that they cannot be confused.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A raft term. Term 0 is before the first election.
    Term(u64)
}
number! {
    /// A position in the raft log. The first entry has index 1.
    Index(u64)
}
number! {
    /// The id of a member. 0 is no member.
    NodeId(u64)
}
number! {
    /// The id of a lease. Valid ids are positive; 0 is no lease.
    LeaseId(i64)
}

impl NodeId {
    /// No member: no leader, no vote.
    pub const NONE: NodeId = NodeId(0);
}

impl fmt::LowerHex for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl Index {
    /// The next position.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

/// The id of a log entry. Two logs that contain the same id agree up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term in which a leader appended the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

/// A version of the key space: `main` counts write requests, `sub` the changes within a request.
///
/// Source: etcd v3.7 server/storage/mvcc/revision.go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The revision that clients see.
    pub main: i64,
    /// The position of the change within its request, from 0.
    pub sub: i64,
}

/// A key of the `key` bucket that is not an encoded revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionBytesError;

impl fmt::Display for RevisionBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a revision: want 8 bytes, '_', 8 bytes, and 't' for a tombstone")
    }
}

impl std::error::Error for RevisionBytesError {}

impl Revision {
    /// The length of an encoded revision in bytes.
    pub const LEN: usize = 17;
    /// The length of an encoded revision of a tombstone in bytes.
    pub const TOMBSTONE_LEN: usize = 18;

    /// The key of a put in the `key` bucket: `main` and `sub`, big-endian, with `_` between them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The key of a deletion in the `key` bucket.
    #[must_use]
    pub fn to_tombstone_bytes(self) -> [u8; Self::TOMBSTONE_LEN] {
        let mut bytes = [b't'; Self::TOMBSTONE_LEN];
        bytes[..Self::LEN].copy_from_slice(&self.to_bytes());
        bytes
    }

    /// Decodes a key of the `key` bucket. The flag is true for a tombstone.
    ///
    /// # Errors
    /// If the bytes are not such a key.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Revision, bool), RevisionBytesError> {
        let tombstone = match bytes.len() {
            Self::LEN => false,
            Self::TOMBSTONE_LEN if bytes[Self::LEN] == b't' => true,
            _ => return Err(RevisionBytesError),
        };
        let number = |at: usize| -> Result<i64, RevisionBytesError> {
            let eight = bytes[at..at + 8].try_into().map_err(|_| RevisionBytesError)?;
            Some(i64::from_be_bytes(eight)).filter(|number| *number >= 0).ok_or(RevisionBytesError)
        };
        if bytes[8] != b'_' {
            return Err(RevisionBytesError);
        }
        Ok((Revision { main: number(0)?, sub: number(9)? }, tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_encoded_and_decoded() {
        let revision = Revision { main: 0x0102_0304_0506_0708, sub: 9 };
        assert_eq!(Revision::from_bytes(&revision.to_bytes()), Ok((revision, false)));
        assert_eq!(Revision::from_bytes(&revision.to_tombstone_bytes()), Ok((revision, true)));
        assert_eq!(&revision.to_bytes()[..9], b"\x01\x02\x03\x04\x05\x06\x07\x08_");
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = Revision { main: 1, sub: 0 }.to_tombstone_bytes();
        for length in 0..17 {
            assert_eq!(Revision::from_bytes(&good[..length]), Err(RevisionBytesError));
        }
        for at in [0, 8, 9, 17] {
            let mut bad = good;
            bad[at] ^= 0x80;
            assert_eq!(Revision::from_bytes(&bad), Err(RevisionBytesError), "byte {at}");
        }
    }
}
