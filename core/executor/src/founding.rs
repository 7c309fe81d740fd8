//! How a member without data begins: in a new cluster, or in an existing cluster to which it was
//! added.
//!
//! Source: etcd v3.7 server/etcdserver/bootstrap.go (`bootstrapNewClusterNoWAL`,
//! `bootstrapExistingClusterNoWAL`), raft.go (`newConfigFromNewCluster`).

use cluster::{Cluster, Version};
use proto::{Entry, EntryKind, Index, Term};
use wal::Metadata;

/// A member of a new cluster: its name and its peer URLs.
pub type FirstMember = (String, Vec<String>);

/// How a member without data begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// A new cluster begins. All its members begin with the same ids and the same first entries.
    New {
        /// This member's name, which is one of `members`.
        name: String,
        /// The members.
        members: Vec<FirstMember>,
        /// The token, which is part of the ids.
        token: String,
    },
    /// The cluster exists, and its members have added this one. Its log comes from the leader.
    Join {
        /// The member and the cluster.
        metadata: Metadata,
        /// The version of the cluster, if it could be learned.
        version: Option<Version>,
    },
}

impl Founding {
    /// A new cluster of one member.
    #[must_use]
    pub fn alone(name: &str, peer_urls: Vec<String>, token: &str) -> Founding {
        Founding::New {
            name: name.to_owned(),
            members: vec![(name.to_owned(), peer_urls)],
            token: token.to_owned(),
        }
    }

    /// The ids of this member and its cluster, and the first entries of the log, which add the
    /// members of a new cluster.
    ///
    /// # Errors
    /// When the members cannot form a cluster, or this member is not among them.
    pub(crate) fn begin(&self) -> Result<(Metadata, Vec<Entry>), String> {
        let (name, members, token) = match self {
            Founding::Join { metadata, .. } => return Ok((*metadata, Vec::new())),
            Founding::New { name, members, token } => (name, members, token),
        };
        let cluster = Cluster::initial(members, token).ok_or_else(|| {
            "two members get the same id, or one gets the id 0, which is nobody's".to_owned()
        })?;
        let local = cluster.members().find(|member| member.name == *name);
        let node = local.ok_or_else(|| format!("{name:?} is none of the first members"))?.id;
        let id = cluster::cluster_id(cluster.members().map(|member| member.id));
        let entries = (1..).zip(cluster.initial_changes()).map(|(index, change)| Entry {
            term: Term(1),
            index: Index(index),
            kind: EntryKind::ConfChange,
            data: change.encode(),
        });
        Ok((Metadata { node, cluster: id }, entries.collect()))
    }

    /// The version of the cluster that is joined.
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            Founding::Join { version, .. } => *version,
            Founding::New { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::NodeId;

    fn three(name: &str) -> Founding {
        let member =
            |name: &str, port: u16| (name.to_owned(), vec![format!("http://127.0.0.1:{port}")]);
        Founding::New {
            name: name.to_owned(),
            members: vec![member("b", 2), member("c", 3), member("a", 1)],
            token: "t".to_owned(),
        }
    }

    #[test]
    fn all_members_of_a_new_cluster_begin_with_the_same_entries_and_their_own_id() {
        let begun: Vec<_> = ["a", "b", "c"].map(|name| three(name).begin().unwrap()).into();
        for (metadata, entries) in &begun {
            assert_eq!(*entries, begun[0].1);
            assert_eq!(metadata.cluster, begun[0].0.cluster);
        }
        let mut nodes: Vec<NodeId> = begun.iter().map(|(metadata, _)| metadata.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), 3);
        let added: Vec<NodeId> = begun[0]
            .1
            .iter()
            .map(|entry| proto::ConfChange::decode(entry.data.clone()).unwrap().node)
            .collect();
        assert_eq!(added, nodes, "in the order of their ids");
    }

    #[test]
    fn a_name_that_is_not_among_the_members_is_refused() {
        assert!(three("d").begin().is_err());
    }

    #[test]
    fn members_with_the_same_urls_are_refused() {
        let urls = vec!["http://127.0.0.1:1".to_owned()];
        let members = vec![("a".to_owned(), urls.clone()), ("b".to_owned(), urls)];
        let founding = Founding::New { name: "a".into(), members, token: "t".into() };
        assert!(founding.begin().is_err());
    }
}
