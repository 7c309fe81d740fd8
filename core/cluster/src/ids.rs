//! The ids of members and clusters.
//!
//! Source: etcd v3.7 server/etcdserver/api/membership/member.go `computeMemberID`, cluster.go
//! `genID`.

use proto::NodeId;
use sha1::{Digest as _, Sha1};

/// The id of a member: a hash of its peer URLs and, for an initial member, of the cluster's token.
/// For a member that is added later, `token` is empty, and the time in unix seconds is hashed
/// instead.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str, unix_s: Option<i64>) -> NodeId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut sha = Sha1::new();
    urls.iter().for_each(|url| sha.update(url));
    sha.update(token);
    if let Some(unix_s) = unix_s {
        sha.update(unix_s.to_string());
    }
    NodeId(first_eight(sha))
}

/// The id of a cluster, from its initial members.
#[must_use]
pub fn cluster_id(members: impl IntoIterator<Item = NodeId>) -> u64 {
    let mut ids: Vec<NodeId> = members.into_iter().collect();
    ids.sort_unstable();
    let mut sha = Sha1::new();
    ids.iter().for_each(|id| sha.update(id.0.to_be_bytes()));
    first_eight(sha)
}

/// Parses an id as etcd writes it: in hex, without prefix or padding.
#[must_use]
pub fn parse_hex_id(text: &str) -> Option<NodeId> {
    let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok().map(NodeId)).flatten()
}

fn first_eight(sha: Sha1) -> u64 {
    let digest = sha.finalize();
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_a_go_etcd() {
        let member = member_id(&["http://127.0.0.1:30001".into()], "tok35", None);
        assert_eq!(format!("{member:x}"), "6bf0cea5823209ca");
        assert_eq!(format!("{:x}", cluster_id([member])), "3d674a3c2b651e77");
    }

    #[test]
    fn ids_do_not_depend_on_the_order_of_urls_and_members() {
        let [a, b] = ["http://a:2380", "http://b:2380"].map(str::to_owned);
        assert_eq!(member_id(&[a.clone(), b.clone()], "t", None), member_id(&[b, a], "t", None));
        assert_eq!(cluster_id([NodeId(1), NodeId(2)]), cluster_id([NodeId(2), NodeId(1)]));
    }

    #[test]
    fn hex_ids_are_read_strictly() {
        assert_eq!(parse_hex_id("72014b829d285e6"), Some(NodeId(0x0720_14b8_29d2_85e6)));
        for text in ["", "+1", "0x1", "g", "12345678901234567"] {
            assert_eq!(parse_hex_id(text), None, "{text}");
        }
    }
}
