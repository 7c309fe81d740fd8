//! Versions of clusters and servers: three numbers. A suffix after `-` or `+` (a pre-release, a
//! build) is dropped, because nothing depends on it.
//!
//! Source: etcd v3.7 api/version/version.go.

use std::fmt;

/// The version of this server: `Status.version`, `/version`, `--version`.
pub const SERVER_VERSION: &str = "3.7.1";

/// The major and minor number of [`SERVER_VERSION`]: the highest cluster version it can serve.
pub const SERVER_MINOR: Version = Version { major: 3, minor: 7, patch: 0 };

/// The cluster version before the versions of the members are known.
pub const CLUSTER_VERSION_MIN: Version = Version { major: 3, minor: 0, patch: 0 };

/// The first cluster version whose members read the entries that 3.5 introduced: cluster versions,
/// attributes and downgrades as requests of their own, the auth status, and hashed passwords. A
/// member of 3.4 crashes at such a request, and ignores a hashed password.
///
/// Source: etcd v3.5 api/etcdserverpb/raft_internal.proto, v3.4 etcdserver/apply.go.
pub const ENTRIES_OF_3_5: Version = Version { major: 3, minor: 5, patch: 0 };

/// A version. A cluster's has patch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
    /// The third number.
    pub patch: u64,
}

/// [`SERVER_VERSION`] as numbers.
#[must_use]
pub fn server_version() -> Version {
    let parsed = Version::parse(SERVER_VERSION);
    parsed.expect("the version of this server is three numbers")
}

/// A text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVersion(
    /// The text.
    pub String,
);

impl fmt::Display for BadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a version of the form 3.7.0", self.0)
    }
}

impl std::error::Error for BadVersion {}

impl Version {
    /// Reads `3.7.1`, `3.8.0-alpha.0`, `3.7.1+git`.
    ///
    /// # Errors
    /// When the text is not three numbers.
    pub fn parse(text: &str) -> Result<Version, BadVersion> {
        let bad = || BadVersion(text.chars().take(64).collect());
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten().ok_or_else(bad)
        });
        let mut next = || parts.next().ok_or_else(bad)?;
        let version = Version { major: next()?, minor: next()?, patch: next()? };
        if parts.next().is_some() { Err(bad()) } else { Ok(version) }
    }

    /// Reads a target of a downgrade, of which minor and patch number may be missing: `3.6`, `v3.6.0`.
    ///
    /// # Errors
    /// When the text is not a version.
    pub fn parse_target(text: &str) -> Result<Version, BadVersion> {
        let (numbers, suffix) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
        let numbers = numbers.strip_prefix('v').unwrap_or(numbers);
        let missing = 2_usize.saturating_sub(numbers.matches('.').count());
        let whole = format!("{numbers}{}{suffix}", ".0".repeat(missing));
        Version::parse(&whole).map(Version::of_cluster).map_err(|_| BadVersion(text.to_owned()))
    }

    /// The version that a cluster of such servers can have: without the patch.
    #[must_use]
    pub fn of_cluster(self) -> Version {
        Version { patch: 0, ..self }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered_by_number() {
        let version = |text: &str| Version::parse(text).unwrap();
        assert!(version("3.10.0") > version("3.9.9"));
        assert_eq!(version("3.8.0-alpha.0"), Version { major: 3, minor: 8, patch: 0 });
        assert_eq!(version("3.7.1+git").to_string(), "3.7.1");
        assert_eq!(version(SERVER_VERSION).of_cluster(), SERVER_MINOR);
    }

    #[test]
    fn the_target_of_a_downgrade_may_be_short() {
        for text in ["3.6", "3.6.0", "v3.6.9", "3.6.0-rc.1", "v3.6"] {
            let version = Version::parse_target(text).unwrap();
            assert_eq!(version, Version { major: 3, minor: 6, patch: 0 }, "{text}");
        }
        assert_eq!(Version::parse_target("3").unwrap().minor, 0);
        for text in ["", "v", "3.x", "3.6.0.1", "-"] {
            assert!(Version::parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "3",
            "3.7",
            "3.7.1.0",
            "3..1",
            "a.b.c",
            "-1.0.0",
            "+3.7.1",
            "3.7.99999999999999999999",
        ] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }
}
