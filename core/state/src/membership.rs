//! What configuration changes, attributes and versions in the log do.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `applyConfChange`, v3.6
//! server/etcdserver/apply_v2.go.

use crate::reject::Reject;
use crate::{Effect, State};
use backend::{Batch, Bucket};
use bytes::Bytes;
use cluster::{
    Attributes, ChangeError, StorageVersion, StorageVersionChange, Table, Version, Write,
};
use proto::answer::Answer;
use proto::etcdserverpb::Request;
use proto::membershippb::ClusterMemberAttrSetRequest;
use proto::{ConfChange, NodeId};

impl State {
    /// Changes the membership, or finds that it cannot be; raft hears of it either way.
    pub(crate) fn conf_change(
        &mut self,
        change: ConfChange,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let id = change.id;
        let result = match self.cluster.validate(&change) {
            Ok(valid) => {
                for write in self.cluster.apply(valid) {
                    put(batch, write);
                }
                batch.conf_state(&self.cluster.conf_state());
                effects.push(Effect::ConfChanged(Some(change)));
                Ok(Answer::Done)
            }
            Err(ChangeError::Reject(reject)) => {
                effects.push(Effect::ConfChanged(None));
                Err(rejected(reject))
            }
            Err(ChangeError::Bad(bad)) => return Err(bad.to_string()),
        };
        self.published_cluster = None;
        self.outcome.answers.push((id, result));
        Ok(())
    }

    /// A request of etcd's own housekeeping before 3.6.
    pub(crate) fn v2_request(
        &mut self,
        request: &Request,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let id = request.id.unwrap_or_default();
        match self.v2.apply(request).map_err(|error| error.to_string())? {
            v2store::Effect::None => {}
            v2store::Effect::MemberAttributes { id, json } => {
                let attributes = Attributes::from_json(json.as_bytes());
                let attributes = attributes.map_err(|error| error.to_string())?;
                self.take_attributes(id, attributes, batch)?;
            }
            v2store::Effect::ClusterVersion(version) => {
                self.set_cluster_version(&version, batch)?;
            }
        }
        self.outcome.answers.push((id, Ok(Answer::Done)));
        Ok(())
    }

    pub(crate) fn set_attributes(
        &mut self,
        request: ClusterMemberAttrSetRequest,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let told = request.member_attributes.unwrap_or_default();
        let attributes = Attributes { name: told.name, client_urls: told.client_urls };
        self.take_attributes(NodeId(request.member_id), attributes, batch)
    }

    fn take_attributes(
        &mut self,
        id: NodeId,
        attributes: Attributes,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let writes = self.cluster.set_attributes(id, attributes);
        for write in writes.map_err(|error| error.to_string())? {
            put(batch, write);
        }
        self.published_cluster = None;
        Ok(())
    }

    pub(crate) fn set_cluster_version(
        &mut self,
        version: &str,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let version = Version::parse(version).map_err(|error| error.to_string())?;
        let write = self.cluster.set_version(version).map_err(|error| error.to_string())?;
        put(batch, write);
        self.follow_cluster_version(batch);
        self.published_cluster = None;
        Ok(())
    }

    /// Marks the file with the version that it has now, as far as the cluster's allows.
    pub(crate) fn follow_cluster_version(&mut self, batch: &mut Batch) {
        let key = Bytes::from_static(StorageVersion::KEY);
        match self.storage_version.follow(self.cluster.version()) {
            StorageVersionChange::Keep => {}
            StorageVersionChange::Write(version) => {
                batch.put(Bucket::Meta, key, version.to_string().into());
                self.storage_version = StorageVersion::Known(version);
            }
            StorageVersionChange::Delete => {
                batch.delete(Bucket::Meta, key);
                self.storage_version = StorageVersion::Unknown;
            }
        }
    }
}

/// Puts what the cluster wants stored into the batch.
pub(crate) fn put(batch: &mut Batch, write: Write) {
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

fn rejected(reject: cluster::Reject) -> Reject {
    match reject {
        cluster::Reject::IdRemoved => Reject::MemberRemoved,
        cluster::Reject::IdExists => Reject::MemberExists,
        cluster::Reject::PeerUrlExists => Reject::PeerUrlExists,
        cluster::Reject::NotLearner => Reject::NotLearner,
        cluster::Reject::TooManyLearners => Reject::TooManyLearners,
        cluster::Reject::IdNotFound => Reject::MemberNotFound,
    }
}
