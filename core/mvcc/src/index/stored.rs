//! The index record of one version of a key, in as few bytes as possible. Not here: the key and the
//! value.

use proto::Revision;

const TOMBSTONE: u32 = 1 << 31;

/// Where a version is stored and how long its encoding is: 16 bytes. Versions order as their keys
/// in the bucket `key` do: by revision, and a tombstone after a put of the same revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoredVersion {
    main: i64,
    sub: u32,
    /// The length in bytes. The highest bit marks a tombstone.
    len: u32,
}

impl std::fmt::Debug for StoredVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_tombstone() { "t" } else { "" };
        write!(f, "{}.{}{kind}+{}", self.main, self.sub, self.len())
    }
}

impl StoredVersion {
    /// `None` if a number is too large for the index: 2^32 changes in one transaction, or an
    /// encoding of 2 GiB. Requests cannot have either, but a damaged file can.
    pub(crate) fn new(revision: Revision, len: usize, tombstone: bool) -> Option<StoredVersion> {
        let sub = u32::try_from(revision.sub).ok()?;
        let len = u32::try_from(len).ok().filter(|len| len & TOMBSTONE == 0)?;
        Some(StoredVersion {
            main: revision.main,
            sub,
            len: len | if tombstone { TOMBSTONE } else { 0 },
        })
    }

    /// A bound below all versions of a main revision. It is not a version itself.
    pub(crate) fn first_of(main: i64) -> StoredVersion {
        StoredVersion { main, sub: 0, len: 0 }
    }

    pub(crate) fn main(self) -> i64 {
        self.main
    }

    pub(crate) fn revision(self) -> Revision {
        Revision { main: self.main, sub: i64::from(self.sub) }
    }

    /// The length of the stored encoding in bytes.
    pub(crate) fn len(self) -> u32 {
        self.len & !TOMBSTONE
    }

    pub(crate) fn is_tombstone(self) -> bool {
        self.len & TOMBSTONE != 0
    }

    /// The length of this version as an item of a `RangeResponse`: tag, length, encoding.
    pub(crate) fn framed_len(self) -> u64 {
        let len = self.len();
        let varint = (32 - (len | 1).leading_zeros()).div_ceil(7);
        1 + u64::from(varint) + u64::from(len)
    }
}

/// The newest version of a key: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewestVersion {
    pub(crate) at: StoredVersion,
    /// The revision of the first put since the key was last deleted; 0 for a tombstone.
    pub(crate) create: i64,
    /// The number of puts since then; 0 for a tombstone.
    pub(crate) version: i64,
    /// 0 for none.
    pub(crate) lease: i64,
}

impl NewestVersion {
    /// A tombstone.
    pub(crate) fn tombstone(at: StoredVersion) -> NewestVersion {
        NewestVersion { at, create: 0, version: 0, lease: 0 }
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.at.is_tombstone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_takes_16_bytes_and_the_newest_40() {
        assert_eq!(size_of::<StoredVersion>(), 16);
        assert_eq!(size_of::<NewestVersion>(), 40);
    }

    #[test]
    fn the_framed_length_is_that_of_protobuf() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 300_000_000] {
            let stored = StoredVersion::new(Revision { main: 1, sub: 0 }, len, true).unwrap();
            let want = 1 + prost::length_delimiter_len(len) + len;
            assert_eq!(stored.framed_len(), want as u64, "{len}");
            assert_eq!(stored.len() as usize, len);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(StoredVersion::new(Revision { main: 1, sub: 1 << 32 }, 0, false), None);
        assert_eq!(StoredVersion::new(Revision { main: 1, sub: 0 }, 1 << 31, false), None);
    }
}
