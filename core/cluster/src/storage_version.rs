//! The version of the data file, `meta/storageVersion`: which servers can open the file, and when
//! the version is written. It decides which older etcd can start on the directory again, so it is
//! never above the cluster version.
//!
//! Source: etcd v3.7 server/storage/schema/{schema,migration}.go,
//! server/etcdserver/version/monitor.go.

use crate::version::{CLUSTER_VERSION_MIN, SERVER_MINOR, Version};
use std::fmt;

const V3_5: Version = Version { major: 3, minor: 5, patch: 0 };
const V3_6: Version = Version { major: 3, minor: 6, patch: 0 };

/// The version of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageVersion {
    /// Stored, or inferred to be 3.5.
    Known(Version),
    /// The file is from 3.4 or before, or new.
    Unknown,
}

/// A data file that this server must not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedStorage(
    /// Its version as stored.
    pub String,
);

impl fmt::Display for UnsupportedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {:?} is not supported", self.0)
    }
}

impl std::error::Error for UnsupportedStorage {}

/// A change of `meta/storageVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageVersionChange {
    /// No change.
    Keep,
    /// Write this version as text.
    Write(Version),
    /// Delete the field: the cluster is below 3.6, which does not know it.
    Delete,
}

impl StorageVersion {
    /// The key in the bucket `meta`.
    pub const KEY: &'static [u8] = b"storageVersion";

    /// Detects the version from the stored field, if there is one, and the stored raft term (0
    /// when absent), which 3.5 introduced.
    ///
    /// # Errors
    /// When the version is not one that this server can open.
    pub fn detect(stored: Option<&[u8]>, term: u64) -> Result<StorageVersion, UnsupportedStorage> {
        let Some(stored) = stored else {
            let version = if term == 0 { Self::Unknown } else { Self::Known(V3_5) };
            return Ok(version);
        };
        let text = String::from_utf8_lossy(stored);
        let version = Version::parse(&text).ok().map(Version::of_cluster);
        match version {
            Some(version) if (V3_5..=SERVER_MINOR).contains(&version) => Ok(Self::Known(version)),
            Some(_) | None => Err(UnsupportedStorage(text.chars().take(64).collect())),
        }
    }

    /// The change that makes the storage version follow the cluster version.
    #[must_use]
    pub fn follow(self, cluster: Option<Version>) -> StorageVersionChange {
        let Some(cluster) = cluster.map(Version::of_cluster) else {
            return StorageVersionChange::Keep;
        };
        if cluster == CLUSTER_VERSION_MIN || self == Self::Known(cluster) {
            StorageVersionChange::Keep
        } else if cluster >= V3_6 {
            StorageVersionChange::Write(cluster)
        } else if matches!(self, Self::Known(version) if version >= V3_6) {
            StorageVersionChange::Delete
        } else {
            StorageVersionChange::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u64) -> Version {
        Version { major: 3, minor, patch: 0 }
    }

    #[test]
    fn the_version_is_detected_from_the_field_or_the_term() {
        let detect = StorageVersion::detect;
        assert_eq!(detect(None, 0), Ok(StorageVersion::Unknown));
        assert_eq!(detect(None, 2), Ok(StorageVersion::Known(version(5))));
        assert_eq!(detect(Some(b"3.7.0"), 2), Ok(StorageVersion::Known(version(7))));
        for unsupported in [&b"3.8.0"[..], b"3.4.0", b"4.0.0", b"", b"\xff"] {
            assert!(detect(Some(unsupported), 2).is_err());
        }
    }

    #[test]
    fn nothing_newer_than_the_cluster_is_written() {
        let [v5, v6, v7] = [5, 6, 7].map(|minor| StorageVersion::Known(version(minor)));
        assert_eq!(v5.follow(None), StorageVersionChange::Keep);
        assert_eq!(v5.follow(Some(CLUSTER_VERSION_MIN)), StorageVersionChange::Keep);
        assert_eq!(v5.follow(Some(version(5))), StorageVersionChange::Keep);
        assert_eq!(v5.follow(Some(version(6))), StorageVersionChange::Write(version(6)));
        assert_eq!(v7.follow(Some(version(7))), StorageVersionChange::Keep);
        assert_eq!(v7.follow(Some(version(6))), StorageVersionChange::Write(version(6)));
        assert_eq!(v6.follow(Some(version(5))), StorageVersionChange::Delete);
        let unknown = StorageVersion::Unknown;
        assert_eq!(unknown.follow(Some(version(4))), StorageVersionChange::Keep);
        assert_eq!(unknown.follow(Some(version(7))), StorageVersionChange::Write(version(7)));
    }
}
