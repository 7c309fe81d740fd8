//! Decides when a snapshot is due, and creates its content. After a snapshot, the raft log can be
//! truncated.
//!
//! Source: etcd v3.7 server/etcdserver/server.go `snapshotIfNeededAndCompactRaftLog`; the file's
//! content is in formats.md §3.2 of the project's reference.

use crate::effect::{Effect, Snapshot};
use crate::failure::Fatal;
use crate::machine::State;
use crate::open::LogTail;
use v2store::V2Tree;

/// A snapshot is due after this many bytes of log, regardless of the number of entries.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl State {
    /// The state of another member's snapshot, with the same settings. `file` is the database that
    /// was received with it.
    ///
    /// # Errors
    /// When the snapshot or the file cannot be read, or the file is older than the snapshot.
    pub fn restored(&self, file: bolt::View, snapshot: &Snapshot) -> Result<State, Fatal> {
        let v2 = V2Tree::parse(&snapshot.data);
        let v2 = v2.map_err(|error| Fatal::Corrupt(format!("a received snapshot: {error}")))?;
        let index = snapshot.id.index;
        let log = LogTail { v2: Some(v2), snapshot_index: index, entries: Vec::new() };
        let mut state = State::open(self.settings.clone(), file, &log)?;
        if state.applied < snapshot.id {
            let applied = state.applied.index;
            let why = format!("the database of the snapshot at {index} has applied only {applied}");
            return Err(Fatal::Corrupt(why));
        }
        state.leadership.term = self.leadership.term;
        state.leadership.leader = self.leadership.leader;
        state.membership.member_versions.clone_from(&self.membership.member_versions);
        Ok(state)
    }

    pub(crate) fn snapshot_if_due(&mut self, effects: &mut Vec<Effect>) {
        let entries = self.applied.index.0 - self.snapshots.index.0;
        let is_due = entries > self.settings.snapshot_count
            || self.snapshots.log_bytes >= LOG_BYTES_MAX
            || self.snapshots.is_forced;
        if !is_due {
            return;
        }
        self.snapshots.index = self.applied.index;
        self.snapshots.log_bytes = 0;
        self.snapshots.is_forced = false;
        effects.push(Effect::Snapshot(self.snapshot()));
    }

    /// The snapshot at the last applied entry.
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        let members = self.membership.cluster.to_v2();
        let removed: Vec<String> =
            self.membership.cluster.removed().map(|id| format!("{id:x}")).collect();
        let version = self.membership.cluster.version().map(|version| version.to_string());
        self.membership.v2.set_cluster(
            members
                .iter()
                .map(|(id, raft, attributes)| (id.as_str(), raft.as_str(), attributes.as_deref())),
            removed.iter().map(String::as_str),
            version.as_deref(),
        );
        Snapshot {
            id: self.applied,
            conf_state: self.membership.cluster.conf_state(),
            data: self.membership.v2.to_json().into(),
        }
    }
}
