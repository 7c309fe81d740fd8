//! The numbers of the field, each a type of its own, so that a term cannot pass for an index.

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
    /// A raft term. 0 is before the first election.
    Term(u64)
}
number! {
    /// A position in the raft log. The first entry has index 1; 0 is before it.
    Index(u64)
}
number! {
    /// A member of the cluster as raft knows it. 0 is nobody.
    NodeId(u64)
}
number! {
    /// A lease. Clients choose or are given positive ones; 0 is no lease.
    LeaseId(i64)
}

impl NodeId {
    /// Nobody: no leader, no vote.
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
    /// The position right behind this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

/// The identity of a log entry: two logs that hold the same one agree up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term in which a leader appended the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

/// A version of the key space: `main` counts writing requests, `sub` the changes inside one.
///
/// Source: etcd v3.7 server/storage/mvcc/revision.go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The revision that clients see.
    pub main: i64,
    /// The position inside the request that made it, from 0.
    pub sub: i64,
}

/// A key of the `key` bucket that is not a revision.
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

    /// The key under which a put at this revision is stored: `main` and `sub` big-endian with
    /// `_` between.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The key under which a deletion at this revision is stored.
    #[must_use]
    pub fn to_tombstone_bytes(self) -> [u8; Self::TOMBSTONE_LEN] {
        let mut bytes = [b't'; Self::TOMBSTONE_LEN];
        bytes[..Self::LEN].copy_from_slice(&self.to_bytes());
        bytes
    }

    /// Reads a key of the `key` bucket; true says that it is a tombstone.
    ///
    /// # Errors
    /// When the bytes are not such a key.
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
    fn a_revision_survives_its_bytes() {
        let revision = Revision { main: 0x0102_0304_0506_0708, sub: 9 };
        assert_eq!(Revision::from_bytes(&revision.to_bytes()), Ok((revision, false)));
        assert_eq!(Revision::from_bytes(&revision.to_tombstone_bytes()), Ok((revision, true)));
        assert_eq!(&revision.to_bytes()[..9], b"\x01\x02\x03\x04\x05\x06\x07\x08_");
    }

    #[test]
    fn bytes_that_are_no_revision_are_refused() {
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
