//! Loads the cluster from the buckets `members`, `members_removed` and `cluster` (from 3.6 on) or
//! from the v2 tree of a .snap file (before).
//!
//! Source: etcd v3.7 server/storage/schema/membership.go,
//! server/etcdserver/api/membership/storev2.go.

use crate::change::{Cluster, Downgrade};
use crate::ids::parse_hex_id;
use crate::member::{Attributes, Member};
use crate::stored::{CLUSTER_VERSION_KEY, DOWNGRADE_KEY};
use crate::version::Version;
use std::fmt;

/// The items of the three buckets.
#[derive(Clone, Copy, Debug)]
pub struct BackendItems<M, R, C> {
    /// Keys and values of `members`.
    pub members: M,
    /// Keys and values of `members_removed`.
    pub removed: R,
    /// Keys and values of `cluster`.
    pub cluster: C,
}

/// A member in the v2 tree: id in hex, `raftAttributes`, and `attributes` if there are any.
pub type V2Item<'a> = (&'a str, &'a str, Option<&'a str>);

/// The error for an invalid stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptMembership {
    /// The place of the item.
    pub place: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for CorruptMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for CorruptMembership {}

fn corrupt(place: impl fmt::Display, why: impl fmt::Display) -> CorruptMembership {
    CorruptMembership { place: place.to_string(), why: why.to_string() }
}

fn id_of_key(bucket: &str, key: &[u8]) -> Result<proto::NodeId, CorruptMembership> {
    let id = std::str::from_utf8(key).ok().and_then(parse_hex_id);
    id.ok_or_else(|| corrupt(format_args!("bucket {bucket}, key {key:02x?}"), "not a member id"))
}

impl Cluster {
    /// Reads the three buckets.
    ///
    /// # Errors
    /// When an item is invalid.
    pub fn load<K, V>(
        items: BackendItems<
            impl IntoIterator<Item = (K, V)>,
            impl IntoIterator<Item = (K, V)>,
            impl IntoIterator<Item = (K, V)>,
        >,
    ) -> Result<Cluster, CorruptMembership>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut cluster = Cluster::default();
        for (key, value) in items.members {
            let id = id_of_key("members", key.as_ref())?;
            let member = Member::from_json(value.as_ref())
                .map_err(|bad| corrupt(format_args!("bucket members, key {id:x}"), bad))?;
            if member.id != id {
                let why = format_args!("the value is member {:x}", member.id);
                return Err(corrupt(format_args!("bucket members, key {id:x}"), why));
            }
            cluster.members.insert(id, member);
        }
        for (key, _) in items.removed {
            cluster.removed.insert(id_of_key("members_removed", key.as_ref())?);
        }
        for (key, value) in items.cluster {
            let text = String::from_utf8_lossy(value.as_ref());
            if key.as_ref() == CLUSTER_VERSION_KEY {
                let place = "bucket cluster, key clusterVersion";
                let version = Version::parse(&text).map_err(|bad| corrupt(place, bad))?;
                cluster.version = Some(version);
            } else if key.as_ref() == DOWNGRADE_KEY {
                cluster.downgrade = downgrade(&text)?;
            }
        }
        Ok(cluster)
    }

    /// Reads the v2 tree: its members, the removed ids in hex, and the version.
    ///
    /// # Errors
    /// When an item is invalid.
    pub fn load_v2<'a>(
        members: impl IntoIterator<Item = V2Item<'a>>,
        removed: impl IntoIterator<Item = &'a str>,
        version: Option<&str>,
    ) -> Result<Cluster, CorruptMembership> {
        let mut cluster = Cluster::default();
        let parse_id = |path: &str, id: &str| {
            parse_hex_id(id).ok_or_else(|| corrupt(format_args!("{path}/{id}"), "not a member id"))
        };
        for (id_text, raft_attributes, attributes) in members {
            let id = parse_id("/0/members", id_text)?;
            let place = format!("/0/members/{id_text}");
            let bad = |bad| corrupt(&place, bad);
            let raft = Member::from_json(raft_attributes.as_bytes()).map_err(bad)?;
            let attributes = attributes.filter(|text| !text.is_empty());
            let attributes = attributes.map(|text| Attributes::from_json(text.as_bytes()));
            let attributes = attributes.transpose().map_err(bad)?.unwrap_or_default();
            let member = Member {
                id,
                name: attributes.name,
                peer_urls: raft.peer_urls,
                client_urls: attributes.client_urls,
                is_learner: raft.is_learner,
            };
            cluster.members.insert(id, member);
        }
        for id in removed {
            cluster.removed.insert(parse_id("/0/removed_members", id)?);
        }
        let version = version.map(Version::parse).transpose();
        cluster.version = version.map_err(|bad| corrupt("/0/version", bad))?;
        Ok(cluster)
    }

    /// The members for the v2 tree of our own .snap files: id in hex, `raftAttributes`, and
    /// `attributes` of those that have client URLs.
    #[must_use]
    pub fn to_v2(&self) -> Vec<(String, String, Option<String>)> {
        let item = |member: &Member| {
            let attributes = !member.client_urls.is_empty();
            let attributes = attributes.then(|| member.attributes().to_json());
            (format!("{:x}", member.id), member.raft_attributes_json(), attributes)
        };
        self.members.values().map(item).collect()
    }
}

fn downgrade(text: &str) -> Result<Downgrade, CorruptMembership> {
    const PLACE: &str = "bucket cluster, key downgrade";
    let downgrade: Downgrade = serde_json::from_str(text).map_err(|bad| corrupt(PLACE, bad))?;
    if downgrade.enabled {
        Version::parse(&downgrade.target_version).map_err(|bad| corrupt(PLACE, bad))?;
    }
    Ok(downgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Table;

    type Items<'a> = &'a [(&'a str, &'a str)];

    fn load(
        members: Items<'_>,
        removed: Items<'_>,
        cluster: Items<'_>,
    ) -> Result<Cluster, CorruptMembership> {
        let own = |items: Items<'_>| {
            items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        Cluster::load(BackendItems {
            members: own(members),
            removed: own(removed),
            cluster: own(cluster),
        })
    }

    const N1: (&str, &str) =
        ("a", r#"{"id":10,"peerURLs":["http://n1"],"name":"n1","clientURLs":["http://c1"]}"#);

    #[test]
    fn the_buckets_are_read_and_written_alike() {
        let cluster = load(&[N1], &[("b", "removed")], &[("clusterVersion", "3.5.0")]).unwrap();
        let writes = cluster.all_writes();
        let table = |table: Table| -> Vec<(Vec<u8>, Vec<u8>)> {
            let writes = writes.iter().filter(|write| write.table == table);
            writes
                .map(|write| (write.key.to_vec(), write.value.clone().unwrap().to_vec()))
                .collect()
        };
        let [members, removed, settings] =
            [Table::Members, Table::MembersRemoved, Table::Cluster].map(table);
        assert_eq!(members, [(N1.0.as_bytes().to_vec(), N1.1.as_bytes().to_vec())]);
        let again = Cluster::load(BackendItems { members, removed, cluster: settings });
        assert_eq!(again, Ok(cluster));
    }

    #[test]
    fn a_downgrade_survives() {
        let mut cluster = Cluster::default();
        let write = cluster.set_downgrade(Some("3.5.0".into()));
        let text = String::from_utf8(write.value.unwrap().to_vec()).unwrap();
        assert_eq!(text, r#"{"target-version":"3.5.0","enabled":true}"#);
        assert_eq!(load(&[], &[], &[("downgrade", &text)]).unwrap(), cluster);
    }

    #[test]
    fn the_v2_form_is_read_and_written_alike() {
        let cluster = load(
            &[N1, ("c", r#"{"id":12,"peerURLs":["http://n2"],"isLearner":true}"#)],
            &[("b", "")],
            &[],
        );
        let cluster = cluster.unwrap();
        let v2 = cluster.to_v2();
        assert_eq!(
            v2[1],
            ("c".into(), r#"{"peerURLs":["http://n2"],"isLearner":true}"#.into(), None)
        );
        let members = v2.iter().map(|(id, raft, own)| (&id[..], &raft[..], own.as_deref()));
        assert_eq!(Cluster::load_v2(members, ["b"], None), Ok(cluster));
    }

    #[test]
    fn an_empty_attributes_node_is_no_attributes() {
        let members = [("a", r#"{"peerURLs":["http://n1"]}"#, Some(""))];
        let cluster = Cluster::load_v2(members, [], Some("3.4.0")).unwrap();
        assert_eq!(cluster.members().next().unwrap().name, "");
        assert_eq!(cluster.version(), Some(Version { major: 3, minor: 4, patch: 0 }));
    }

    #[test]
    fn bad_items_are_named() {
        for (bad, place) in [
            (load(&[("zz", N1.1)], &[], &[]), "bucket members, key [7a, 7a]"),
            (load(&[("b", N1.1)], &[], &[]), "bucket members, key b"),
            (load(&[("a", "")], &[], &[]), "bucket members, key a"),
            (load(&[], &[("-", "")], &[]), "bucket members_removed, key [2d]"),
            (load(&[], &[], &[("clusterVersion", "x")]), "bucket cluster, key clusterVersion"),
            (load(&[], &[], &[("downgrade", "x")]), "bucket cluster, key downgrade"),
            (Cluster::load_v2([("q", "{}", None)], [], None), "/0/members/q"),
            (Cluster::load_v2([("a", "{", None)], [], None), "/0/members/a"),
            (Cluster::load_v2([], ["q"], None), "/0/removed_members/q"),
            (Cluster::load_v2([], [], Some("q")), "/0/version"),
        ] {
            assert_eq!(bad.unwrap_err().place, place);
        }
    }
}
