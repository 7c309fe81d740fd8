//! When the raft log may be cut, and what the .snap file says that takes its place.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `snapshotIfNeededAndCompactRaftLog`; the file's
//! content is in formats.md §3.2 of the project's reference.

use crate::{Effect, State};
use bytes::Bytes;
use proto::{ConfState, EntryId};

/// A snapshot is due after so many bytes of log, whatever the number of entries.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a .snap file says. It may be written as soon as the backend is durable up to its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub id: EntryId,
    /// The configuration at that entry.
    pub conf_state: ConfState,
    /// The v2 tree at that entry, as JSON.
    pub data: Bytes,
}

impl State {
    pub(crate) fn snapshot_if_due(&mut self, effects: &mut Vec<Effect>) {
        let entries = self.applied.index.0 - self.snapshot_index.0;
        if entries <= self.settings.snapshot_count && self.log_bytes_since_snapshot < LOG_BYTES_MAX
        {
            return;
        }
        self.snapshot_index = self.applied.index;
        self.log_bytes_since_snapshot = 0;
        effects.push(Effect::Snapshot(self.snapshot()));
    }

    fn snapshot(&mut self) -> Snapshot {
        let members = self.cluster.to_v2();
        let removed: Vec<String> = self.cluster.removed().map(|id| format!("{id:x}")).collect();
        let version = self.cluster.version().map(|version| version.to_string());
        self.v2.set_cluster(
            members
                .iter()
                .map(|(id, raft, attributes)| (id.as_str(), raft.as_str(), attributes.as_deref())),
            removed.iter().map(String::as_str),
            version.as_deref(),
        );
        Snapshot {
            id: self.applied,
            conf_state: self.cluster.conf_state(),
            data: self.v2.to_json().into(),
        }
    }
}
