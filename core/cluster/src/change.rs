//! The cluster as a value, and the changes that committed entries make to it.
//!
//! Source: etcd v3.7 server/etcdserver/api/membership/cluster.go.

use crate::ids::member_id;
use crate::member::{Attributes, BadJson, ChangeContext, Member, write};
use crate::stored::{
    CLUSTER_VERSION_KEY, DOWNGRADE_KEY, MEMBER_REMOVED_VALUE, MembershipWrite, Table,
};
use crate::version::{CLUSTER_VERSION_MIN, SERVER_MINOR, SERVER_VERSION, Version, server_version};
use bytes::Bytes;
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, ConfState, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The limit of learners, unless `--max-learners` sets another.
pub const LEARNERS_MAX_DEFAULT: usize = 1;

/// The members, the ids of removed members, and the version.
///
/// - The id of a removed member is never used again.
/// - Raft's configuration ([`conf_state`](Self::conf_state)), the buckets and the v2 tree are all
///   derived from the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) removed: BTreeSet<NodeId>,
    pub(crate) version: Option<Version>,
    pub(crate) downgrade: Downgrade,
    pub(crate) learners_max: usize,
}

/// A downgrade of the cluster to an older version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// The cluster version to reach; empty when off.
    #[serde(default, rename = "target-version")]
    pub target_version: String,
    /// Whether a downgrade is in progress.
    #[serde(default)]
    pub enabled: bool,
}

/// The oldest version that a cluster can be downgraded to.
const DOWNGRADE_TARGET_MIN: Version = Version { major: 3, minor: 4, patch: 0 };

/// Why a cluster cannot be downgraded. The texts and gRPC codes are in `rpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDowngrade {
    /// The text is not a version.
    Format,
    /// The version is not older than the cluster's, or too old.
    Target,
    /// The cluster's version is not known yet.
    VersionUnavailable,
    /// A downgrade is in progress.
    InProcess,
    /// No downgrade is in progress.
    NoneInflight,
}

impl fmt::Display for InvalidDowngrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidDowngrade::Format => "wrong downgrade target version format",
            InvalidDowngrade::Target => "invalid downgrade target version",
            InvalidDowngrade::VersionUnavailable => "cluster version not found during downgrade",
            InvalidDowngrade::InProcess => "cluster has a downgrade job in progress",
            InvalidDowngrade::NoneInflight => "no inflight downgrade job",
        })
    }
}

impl std::error::Error for InvalidDowngrade {}

/// A valid change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A member, voter or learner, joins.
    Add(Member),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A member leaves for good.
    Remove(NodeId),
    /// The peer URLs of a member change.
    Update {
        /// The member.
        id: NodeId,
        /// All its peer URLs.
        peer_urls: Vec<String>,
    },
}

/// Why a membership change is invalid. All members that apply it get the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidChange {
    /// The id was removed before.
    IdRemoved,
    /// There is a member with this id.
    IdExists,
    /// There is no member with this id.
    IdNotFound,
    /// Another member has one of the peer URLs.
    PeerUrlExists,
    /// The member is a voter already.
    NotLearner,
    /// The limit of learners is reached.
    TooManyLearners,
}

impl fmt::Display for InvalidChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidChange::IdRemoved => "membership: ID removed",
            InvalidChange::IdExists => "membership: ID exists",
            InvalidChange::IdNotFound => "membership: ID not found",
            InvalidChange::PeerUrlExists => "membership: peerURL exists",
            InvalidChange::NotLearner => "membership: can only promote a learner member",
            InvalidChange::TooManyLearners => "membership: too many learner members in cluster",
        })
    }
}

impl std::error::Error for InvalidChange {}

/// Why a committed configuration change has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// It is invalid: raft applies no change, and the proposer gets the error.
    Invalid(InvalidChange),
    /// etcd never writes such a change, so the member must stop.
    Bad(BadJson),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Invalid(invalid) => invalid.fmt(f),
            ChangeError::Bad(bad) => bad.fmt(f),
        }
    }
}

impl std::error::Error for ChangeError {}

impl From<InvalidChange> for ChangeError {
    fn from(invalid: InvalidChange) -> ChangeError {
        ChangeError::Invalid(invalid)
    }
}

/// Why a committed setting cannot be applied, so that the member must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// Attributes for an id that never was a member.
    UnknownMember(NodeId),
    /// The cluster is at a version above this server's.
    ClusterTooNew(Version),
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::UnknownMember(id) => {
                write!(f, "failed to update; member unknown: {id:x}")
            }
            SetError::ClusterTooNew(version) => write!(
                f,
                "invalid downgrade; server version is lower than determined cluster version: \
                 server {SERVER_VERSION}, cluster {version}"
            ),
        }
    }
}

impl std::error::Error for SetError {}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            version: None,
            downgrade: Downgrade::default(),
            learners_max: LEARNERS_MAX_DEFAULT,
        }
    }
}

impl Cluster {
    /// A new cluster whose members, given by name and peer URLs, are voters. `None` when two of
    /// them get the same id, or one gets the reserved id 0.
    #[must_use]
    pub fn initial(members: &[(String, Vec<String>)], token: &str) -> Option<Cluster> {
        let mut cluster = Cluster::default();
        for (name, peer_urls) in members {
            let id = member_id(peer_urls, token, None);
            let member = Member {
                id,
                name: name.clone(),
                peer_urls: peer_urls.clone(),
                ..Member::default()
            };
            if id == NodeId::NONE || cluster.members.insert(id, member).is_some() {
                return None;
            }
        }
        Some(cluster)
    }

    /// The first entries of a new cluster's log, by id.
    pub fn initial_changes(&self) -> impl Iterator<Item = ConfChange> {
        self.members.values().map(|member| ConfChange {
            id: 0,
            kind: ConfChangeType::ConfChangeAddNode,
            node: member.id,
            context: member.to_json().into(),
        })
    }

    /// Sets the limit of learners, which must be the same on all members.
    pub fn set_learners_max(&mut self, learners_max: usize) {
        self.learners_max = learners_max;
    }

    /// The members by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The ids of removed members.
    pub fn removed(&self) -> impl Iterator<Item = NodeId> {
        self.removed.iter().copied()
    }

    /// Whether the member with this id was removed.
    #[must_use]
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    /// The version of the cluster, once decided.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The downgrade, which may be off.
    #[must_use]
    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    /// The target of the current downgrade.
    #[must_use]
    pub fn downgrade_target(&self) -> Option<Version> {
        let Downgrade { target_version, enabled } = &self.downgrade;
        let target = Version::parse(target_version).ok().map(Version::of_cluster);
        target.filter(|_| *enabled)
    }

    /// Checks that the cluster can be downgraded to a version: to any older version from 3.4 on.
    /// etcd permits only the previous minor version.
    ///
    /// # Errors
    /// See [`InvalidDowngrade`].
    pub fn check_downgrade(&self, target: Version) -> Result<(), InvalidDowngrade> {
        let version = self.version.ok_or(InvalidDowngrade::VersionUnavailable)?;
        if target < DOWNGRADE_TARGET_MIN || target >= version.of_cluster() {
            return Err(InvalidDowngrade::Target);
        }
        if self.downgrade.enabled {
            return Err(InvalidDowngrade::InProcess);
        }
        Ok(())
    }

    /// The version that this member announces to the others: its own, unless the cluster version
    /// must not be raised. Then it is not above the cluster version, so that no leader raises it.
    #[must_use]
    pub fn announced_version(&self, raises: bool) -> Version {
        // A cluster has the lowest version until the versions of all its members are known.
        let held = self
            .version
            .filter(|version| !raises && *version < SERVER_MINOR && *version > CLUSTER_VERSION_MIN);
        held.unwrap_or_else(server_version)
    }

    /// Raft's configuration, which is derived from the members.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        let ids = |learners: bool| {
            let members = self.members.values().filter(|member| member.is_learner == learners);
            members.map(|member| member.id).collect()
        };
        ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() }
    }

    /// Validates a committed configuration change against the members.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn validate(&self, change: &ConfChange) -> Result<MembershipChange, ChangeError> {
        let id = change.node;
        if self.is_removed(id) {
            return Err(InvalidChange::IdRemoved.into());
        }
        let known = self.members.get(&id);
        match change.kind {
            ConfChangeType::ConfChangeRemoveNode => {
                known.ok_or(InvalidChange::IdNotFound)?;
                Ok(MembershipChange::Remove(id))
            }
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                let ChangeContext { member, is_promote } = context(change)?;
                if is_promote {
                    let known = known.ok_or(InvalidChange::IdNotFound)?;
                    if !known.is_learner {
                        return Err(InvalidChange::NotLearner.into());
                    }
                    return Ok(MembershipChange::Promote(id));
                }
                if known.is_some() {
                    return Err(InvalidChange::IdExists.into());
                }
                self.peer_urls_are_free(id, &member.peer_urls)?;
                let as_learner = change.kind == ConfChangeType::ConfChangeAddLearnerNode;
                if member.is_learner && as_learner {
                    let learners = self.members.values().filter(|known| known.is_learner).count();
                    if learners >= self.learners_max {
                        return Err(InvalidChange::TooManyLearners.into());
                    }
                }
                Ok(MembershipChange::Add(member))
            }
            ConfChangeType::ConfChangeUpdateNode => {
                known.ok_or(InvalidChange::IdNotFound)?;
                let peer_urls = context(change)?.member.peer_urls;
                self.peer_urls_are_free(id, &peer_urls)?;
                Ok(MembershipChange::Update { id, peer_urls })
            }
        }
    }

    fn peer_urls_are_free(&self, id: NodeId, urls: &[String]) -> Result<(), InvalidChange> {
        let mut others = self.members.values().filter(|member| member.id != id);
        let taken = others.any(|other| urls.iter().any(|url| other.peer_urls.contains(url)));
        if taken { Err(InvalidChange::PeerUrlExists) } else { Ok(()) }
    }

    /// Applies a change that [`validate`](Self::validate) returned, and returns the writes that
    /// store it.
    pub fn apply(&mut self, change: MembershipChange) -> Vec<MembershipWrite> {
        match change {
            MembershipChange::Add(member) => {
                let write = save(&member);
                self.members.insert(member.id, member);
                vec![write]
            }
            MembershipChange::Promote(id) => self.change(id, |member| member.is_learner = false),
            MembershipChange::Update { id, peer_urls } => {
                self.change(id, |member| member.peer_urls = peer_urls)
            }
            MembershipChange::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
                let key = hex(id);
                let removed = Bytes::from_static(MEMBER_REMOVED_VALUE);
                vec![
                    MembershipWrite { table: Table::Members, key: key.clone(), value: None },
                    MembershipWrite { table: Table::MembersRemoved, key, value: Some(removed) },
                ]
            }
        }
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Member)) -> Vec<MembershipWrite> {
        let member = self.members.get_mut(&id).map(|member| {
            change(member);
            save(member)
        });
        member.into_iter().collect()
    }

    /// Applies the attributes that a member publishes. They have no effect for a removed member.
    ///
    /// # Errors
    /// `UnknownMember`.
    pub fn set_attributes(
        &mut self,
        id: NodeId,
        attributes: Attributes,
    ) -> Result<Vec<MembershipWrite>, SetError> {
        if !self.members.contains_key(&id) && !self.is_removed(id) {
            return Err(SetError::UnknownMember(id));
        }
        Ok(self.change(id, |member| {
            member.name = attributes.name;
            member.client_urls = attributes.client_urls;
        }))
    }

    /// Sets the version of the cluster. When it goes down, etcd saves a snapshot at once.
    ///
    /// # Errors
    /// `ClusterTooNew`.
    pub fn set_version(&mut self, version: Version) -> Result<MembershipWrite, SetError> {
        self.version = Some(version);
        self.check_version()?;
        Ok(MembershipWrite {
            table: Table::Cluster,
            key: Bytes::from_static(CLUSTER_VERSION_KEY),
            value: Some(version.to_string().into()),
        })
    }

    /// Whether this server can be a member of a cluster of this version.
    ///
    /// # Errors
    /// `ClusterTooNew`.
    pub fn check_version(&self) -> Result<(), SetError> {
        match self.version {
            Some(version) if version > SERVER_MINOR => Err(SetError::ClusterTooNew(version)),
            Some(_) | None => Ok(()),
        }
    }

    /// Starts or ends a downgrade.
    pub fn set_downgrade(&mut self, target: Option<String>) -> MembershipWrite {
        let enabled = target.is_some();
        self.downgrade = Downgrade { target_version: target.unwrap_or_default(), enabled };
        MembershipWrite {
            table: Table::Cluster,
            key: Bytes::from_static(DOWNGRADE_KEY),
            value: Some(write(&self.downgrade).into()),
        }
    }

    /// The writes that store the whole cluster.
    #[must_use]
    pub fn all_writes(&self) -> Vec<MembershipWrite> {
        let mut writes: Vec<MembershipWrite> = self.members.values().map(save).collect();
        writes.extend(self.removed.iter().map(|id| MembershipWrite {
            table: Table::MembersRemoved,
            key: hex(*id),
            value: Some(Bytes::from_static(MEMBER_REMOVED_VALUE)),
        }));
        writes.extend(self.version.map(|version| MembershipWrite {
            table: Table::Cluster,
            key: Bytes::from_static(CLUSTER_VERSION_KEY),
            value: Some(version.to_string().into()),
        }));
        writes
    }
}

fn context(change: &ConfChange) -> Result<ChangeContext, ChangeError> {
    let context = ChangeContext::from_json(&change.context).map_err(ChangeError::Bad)?;
    if context.member.id == change.node {
        Ok(context)
    } else {
        let why = format!(
            "the change is for member {:x}, its context for {:x}",
            change.node, context.member.id
        );
        Err(ChangeError::Bad(BadJson { what: "context of a configuration change", why }))
    }
}

pub(crate) fn hex(id: NodeId) -> Bytes {
    format!("{id:x}").into()
}

fn save(member: &Member) -> MembershipWrite {
    MembershipWrite {
        table: Table::Members,
        key: hex(member.id),
        value: Some(member.to_json().into()),
    }
}

#[cfg(test)]
mod tests;
