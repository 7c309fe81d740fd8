//! The content of metadata and snapshot records. State and entry records are in `proto`.

use bytes::Bytes;
use prost::Message as _;
use proto::{ConfState, EntryId, Index, NodeId, Term};

/// The member and the cluster that a log belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member's id.
    pub node: NodeId,
    /// The cluster's id.
    pub cluster: u64,
}

impl Metadata {
    pub(crate) fn decode(data: &Bytes) -> Result<Metadata, String> {
        let pb = proto::etcdserverpb::Metadata::decode(data.clone())
            .map_err(|error| format!("bad metadata: {error}"))?;
        let node = NodeId(pb.node_id.unwrap_or_default());
        Ok(Metadata { node, cluster: pb.cluster_id.unwrap_or_default() })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (node_id, cluster_id) = (Some(self.node.0), Some(self.cluster));
        proto::etcdserverpb::Metadata { node_id, cluster_id }.encode_to_vec()
    }
}

/// A record that a snapshot was taken or received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The last entry that the snapshot contains.
    pub id: EntryId,
    /// The configuration at that entry. Missing in records written by etcd 3.4, and in the first
    /// record of a log.
    pub conf_state: Option<ConfState>,
}

impl SnapshotRecord {
    pub(crate) fn decode(data: &Bytes) -> Result<SnapshotRecord, String> {
        let pb = proto::walpb::Snapshot::decode(data.clone())
            .map_err(|error| format!("bad snapshot record: {error}"))?;
        let term = Term(pb.term.unwrap_or_default());
        let index = Index(pb.index.unwrap_or_default());
        let conf_state = pb.conf_state.map(ConfState::from_pb);
        Ok(SnapshotRecord { id: EntryId { term, index }, conf_state })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let pb = proto::walpb::Snapshot {
            index: Some(self.id.index.0),
            term: Some(self.id.term.0),
            conf_state: self.conf_state.as_ref().map(ConfState::to_pb),
        };
        pb.encode_to_vec()
    }
}
