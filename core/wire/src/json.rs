//! The JSON between members: `/members`, `/version`, `/members/hashkv`.
//!
//! Source: etcd v3.7 etcdhttp/{peer,version}.go, corrupt.go.

use crate::error::WireError;
use cluster::Member;
use serde::{Deserialize, Serialize};

/// The most members in an answer; etcd warns above 7 voters.
const MEMBERS_MAX: usize = 1024;

/// The answer of `/version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerVersions {
    /// The version of the member.
    #[serde(default)]
    pub etcdserver: String,
    /// The version of the cluster, or `not_decided`.
    #[serde(default)]
    pub etcdcluster: String,
    /// The version of the data (since 3.6), or `unknown`.
    #[serde(default)]
    pub storage: String,
}

impl PeerVersions {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`WireError`] when it is other JSON.
    pub fn from_json(json: &[u8]) -> Result<PeerVersions, WireError> {
        serde_json::from_slice(json).map_err(|error| WireError::malformed("versions", error))
    }
}

/// Reads the answer of `/members`.
///
/// # Errors
/// [`WireError`] when it is other JSON.
pub fn members_from_json(json: &[u8]) -> Result<Vec<Member>, WireError> {
    let bad = |error: &dyn std::fmt::Display| WireError::malformed("members", error);
    let all: Vec<serde_json::Value> = serde_json::from_slice(json).map_err(|error| bad(&error))?;
    if all.len() > MEMBERS_MAX {
        let (size, max) = (all.len() as u64, MEMBERS_MAX as u64);
        return Err(WireError::TooLarge { what: "members", size, max });
    }
    let one = |value: &serde_json::Value| Member::from_json(value.to_string().as_bytes());
    all.iter().map(one).collect::<Result<_, _>>().map_err(|error| bad(&error))
}

/// The body of a request to `/members/hashkv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKvQuery {
    /// The revision; 0 for the current one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
}

impl HashKvQuery {
    /// Writes the body.
    ///
    /// # Panics
    /// Never: a struct of numbers is always written.
    #[must_use]
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("a struct of numbers is always written")
    }
}

/// Reads the body of a request to `/members/hashkv`.
///
/// # Errors
/// [`WireError`] when it is other JSON.
pub fn hash_kv_query(json: &[u8]) -> Result<HashKvQuery, WireError> {
    serde_json::from_slice(json).map_err(|error| WireError::malformed("hash request", error))
}

/// The answer of `/members/hashkv`. Fields that are 0 are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKvAnswer {
    /// The header.
    #[serde(default)]
    header: HashKvHeader,
    /// The hash.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hash: u32,
    /// The compacted revision at which it was taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compact_revision: i64,
    /// The revision up to which it was taken (since 3.6).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hash_revision: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HashKvHeader {
    #[serde(default, skip_serializing_if = "is_zero")]
    cluster_id: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    member_id: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    raft_term: u64,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

impl HashKvAnswer {
    /// An answer of a member whose current revision is `revision`.
    #[must_use]
    pub fn new(revision: i64, hash: u32, compact_revision: i64, hash_revision: i64) -> Self {
        let header = HashKvHeader { revision, ..HashKvHeader::default() };
        HashKvAnswer { header, hash, compact_revision, hash_revision }
    }

    /// The member's current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header.revision
    }

    /// Writes the answer.
    ///
    /// # Panics
    /// Never: a struct of numbers is always written.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers is always written")
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`WireError`] when it is other JSON.
    pub fn from_json(json: &[u8]) -> Result<HashKvAnswer, WireError> {
        serde_json::from_slice(json).map_err(|error| WireError::malformed("hash", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::NodeId;

    #[test]
    fn versions_of_all_releases_are_read() {
        let of_3_5 = br#"{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}"#;
        let read = PeerVersions::from_json(of_3_5).unwrap();
        assert_eq!((&*read.etcdserver, &*read.etcdcluster, &*read.storage), ("3.5.1", "3.5.0", ""));
        let of_3_6 = br#"{"etcdserver":"3.6.1","etcdcluster":"not_decided","storage":"unknown"}"#;
        assert_eq!(PeerVersions::from_json(of_3_6).unwrap().storage, "unknown");
        assert!(PeerVersions::from_json(b"404 page not found\n").is_err());
    }

    #[test]
    fn members_are_read_as_they_are_written() {
        let member = |id| Member {
            id: NodeId(id),
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            name: format!("n{id}"),
            ..Member::default()
        };
        let members = [member(10_243_244_825_675_528_400), member(7)];
        let json = cluster::members_json(members.iter());
        assert_eq!(members_from_json(json.as_bytes()), Ok(members.to_vec()));
        assert_eq!(members_from_json(b"[]"), Ok(Vec::new()));
        for json in ["", "{}", "[1]", "[{\"id\":-1}]", "null"] {
            assert!(members_from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn hashes_leave_out_what_is_zero() {
        let answer = HashKvAnswer::new(17, 3_197_824_116, 10, 0);
        let wanted = r#"{"header":{"revision":17},"hash":3197824116,"compact_revision":10}"#;
        assert_eq!(answer.to_json(), wanted);
        assert_eq!(HashKvAnswer::from_json(wanted.as_bytes()), Ok(answer));
        assert_eq!(hash_kv_query(br#"{"revision":16}"#), Ok(HashKvQuery { revision: 16 }));
        assert!(hash_kv_query(b"").is_err());
    }
}
