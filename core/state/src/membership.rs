//! Applies configuration changes, member attributes and versions.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `applyConfChange`, v3.6
//! server/etcdserver/apply_v2.go.

use crate::effect::Effect;
use crate::machine::State;
use crate::reject::Reject;
use backend::{Batch, Bucket};
use bytes::Bytes;
use cluster::{
    Attributes, ChangeError, InvalidChange, MembershipWrite, StorageVersion, StorageVersionChange,
    Table, Version,
};
use proto::answer::Answer;
use proto::etcdserverpb::Request;
use proto::membershippb::{ClusterMemberAttrSetRequest, DowngradeInfoSetRequest};
use proto::{ConfChange, NodeId};
use v2store::V2Change;

impl State {
    /// Applies a configuration change if it is valid. Raft is told the outcome in any case.
    pub(crate) fn conf_change(
        &mut self,
        change: ConfChange,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let id = change.id;
        let result = match self.membership.cluster.validate(&change) {
            Ok(valid) => {
                for write in self.membership.cluster.apply(valid) {
                    put(batch, write);
                }
                batch.conf_state(&self.membership.cluster.conf_state());
                effects.push(Effect::ConfChanged(Some(change)));
                Ok(Answer::Done)
            }
            Err(ChangeError::Invalid(invalid)) => {
                effects.push(Effect::ConfChanged(None));
                Err(rejected(invalid))
            }
            Err(ChangeError::Bad(bad)) => return Err(bad.to_string()),
        };
        self.membership.published = None;
        self.output.answers.push((id, result));
        Ok(())
    }

    /// Applies a v2 request, in which etcd before 3.6 writes attributes and cluster versions.
    pub(crate) fn v2_request(
        &mut self,
        request: &Request,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let id = request.id.unwrap_or_default();
        match self.membership.v2.apply(request).map_err(|error| error.to_string())? {
            V2Change::None => {}
            V2Change::MemberAttributes { id, json } => {
                let attributes = Attributes::from_json(json.as_bytes());
                let attributes = attributes.map_err(|error| error.to_string())?;
                self.apply_attributes(id, attributes, batch)?;
            }
            V2Change::ClusterVersion(version) => {
                self.set_cluster_version(&version, batch)?;
            }
        }
        self.output.answers.push((id, Ok(Answer::Done)));
        Ok(())
    }

    pub(crate) fn set_attributes(
        &mut self,
        request: ClusterMemberAttrSetRequest,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let set = request.member_attributes.unwrap_or_default();
        let attributes = Attributes { name: set.name, client_urls: set.client_urls };
        self.apply_attributes(NodeId(request.member_id), attributes, batch)
    }

    fn apply_attributes(
        &mut self,
        id: NodeId,
        attributes: Attributes,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let writes = self.membership.cluster.set_attributes(id, attributes);
        for write in writes.map_err(|error| error.to_string())? {
            put(batch, write);
        }
        self.membership.published = None;
        Ok(())
    }

    pub(crate) fn set_cluster_version(
        &mut self,
        version: &str,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let version = Version::parse(version).map_err(|error| error.to_string())?;
        let old = self.membership.cluster.version();
        if old.is_some_and(|old| version < old) {
            self.snapshots.is_forced = true;
        }
        self.leadership.has_proposed_version = false;
        let write =
            self.membership.cluster.set_version(version).map_err(|error| error.to_string())?;
        put(batch, write);
        self.follow_cluster_version(batch);
        self.membership.published = None;
        Ok(())
    }

    /// Begins or ends a downgrade.
    pub(crate) fn set_downgrade(&mut self, set: DowngradeInfoSetRequest, batch: &mut Batch) {
        if set.enabled {
            let target = set.ver.as_str();
            tracing::info!("target-version" = target, "The downgrade is ready to start");
        }
        put(batch, self.membership.cluster.set_downgrade(set.enabled.then_some(set.ver)));
        self.leadership.has_proposed_version = false;
        self.membership.published = None;
    }

    /// Writes or deletes the storage version so that it follows the cluster version.
    pub(crate) fn follow_cluster_version(&mut self, batch: &mut Batch) {
        let key = Bytes::from_static(StorageVersion::KEY);
        match self.membership.storage_version.follow(self.membership.cluster.version()) {
            StorageVersionChange::Keep => {}
            StorageVersionChange::Write(version) => {
                batch.put(Bucket::Meta, key, version.to_string().into());
                self.membership.storage_version = StorageVersion::Known(version);
            }
            StorageVersionChange::Delete => {
                batch.delete(Bucket::Meta, key);
                self.membership.storage_version = StorageVersion::Unknown;
            }
        }
    }
}

/// Adds a write of the membership to the batch.
pub(crate) fn put(batch: &mut Batch, write: MembershipWrite) {
    let bucket = match write.table {
        Table::Members => Bucket::Members,
        Table::MembersRemoved => Bucket::MembersRemoved,
        Table::Cluster => Bucket::Cluster,
    };
    match write.value {
        Some(value) => batch.put(bucket, write.key, value),
        None => batch.delete(bucket, write.key),
    }
}

fn rejected(invalid: InvalidChange) -> Reject {
    match invalid {
        InvalidChange::IdRemoved => Reject::MemberRemoved,
        InvalidChange::IdExists => Reject::MemberExists,
        InvalidChange::PeerUrlExists => Reject::PeerUrlExists,
        InvalidChange::NotLearner => Reject::NotLearner,
        InvalidChange::TooManyLearners => Reject::TooManyLearners,
        InvalidChange::IdNotFound => Reject::MemberNotFound,
    }
}
