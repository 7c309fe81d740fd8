//! The state machine itself: its parts, and how it hands out a batch of changes. Its operations are
//! in the modules above.

use crate::alarms::Alarms;
use crate::effect::{Effect, Published, Reply, Totals};
use crate::leadership::Leadership;
use crate::reject::Reject;
use crate::settings::Settings;
use crate::waiters::Waiters;
use auth::{AuthStore, TokenChange};
use backend::{Batch, Bucket, Overlay};
use bytes::Bytes;
use cluster::{Cluster, Member, StorageVersion, Version};
use lease::Lessor;
use mvcc::{EventBatch, Store};
use proto::answer::Answer;
use proto::{Entry, EntryId, Index, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use v2store::V2Tree;

/// The replicated state of a member.
#[derive(Debug)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) storage: Storage,
    pub(crate) lessor: Lessor,
    pub(crate) membership: Membership,
    pub(crate) alarms: Alarms,
    pub(crate) auth: Arc<AuthStore>,
    /// The last entry whose effects are in the store.
    pub(crate) applied: EntryId,
    pub(crate) snapshots: SnapshotPolicy,
    pub(crate) waiters: Waiters,
    pub(crate) leadership: Leadership,
    pub(crate) output: Output,
    pub(crate) totals: Totals,
}

/// The keys, and the batches that are not in the file yet.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) store: Store,
    /// The batches that are not in the file yet.
    pub(crate) overlay: Overlay,
    /// The size of the file as of the last commit, in bytes.
    pub(crate) file_bytes: u64,
    /// Writes that the file needs but no entry produces. They go into the first batch.
    pub(crate) first_writes: Vec<(Bucket, Bytes, Bytes)>,
}

/// The members, the versions, and their form in the .snap file.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) cluster: Cluster,
    pub(crate) v2: V2Tree,
    pub(crate) storage_version: StorageVersion,
    /// The known versions of the other members.
    pub(crate) member_versions: BTreeMap<NodeId, Version>,
    /// The cluster as published; `None` after a change.
    pub(crate) published: Option<Arc<Cluster>>,
}

/// Decides when a snapshot is due: counts the entries and bytes since the last one.
#[derive(Debug)]
pub(crate) struct SnapshotPolicy {
    /// The index of the last snapshot.
    pub(crate) index: Index,
    /// The bytes of the entries applied since.
    pub(crate) log_bytes: u64,
    /// A snapshot is due at once: the cluster version was lowered, and an older server must not
    /// replay entries that it does not know.
    pub(crate) is_forced: bool,
}

/// Answers, replies and events of a batch. They are handed out after its view is published.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) answers: Vec<(u64, Result<Answer, Reject>)>,
    pub(crate) replies: Vec<(u64, Reply)>,
    pub(crate) tokens: Vec<TokenChange>,
    pub(crate) events: Vec<Arc<EventBatch>>,
}

impl State {
    /// False if so many bytes wait for the backend that these entries must wait too.
    #[must_use]
    pub fn has_room_for(&self, entries: &[Entry]) -> bool {
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        !self.storage.overlay.is_full_for(bytes)
    }

    /// True if [`Input::Idle`](crate::Input::Idle) has something to do.
    #[must_use]
    pub fn has_housekeeping(&self) -> bool {
        self.storage.store.is_compacting() && !self.storage.overlay.is_full_for(0)
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// The members and versions.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.membership.cluster
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.membership.cluster.members()
    }

    /// Decides whether a leader raises the cluster version to the server's.
    pub fn raise_cluster_version(&mut self, raises: bool) {
        self.settings.raise_cluster_version = raises;
    }

    /// The permissions.
    #[must_use]
    pub fn auth(&self) -> &AuthStore {
        &self.auth
    }

    /// The bytes that wait for the backend.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        self.storage.overlay.bytes()
    }

    /// The initial state for readers.
    #[must_use]
    pub fn published(&mut self) -> Published {
        let membership = &mut self.membership;
        let cluster = membership.published.take();
        let cluster = cluster.unwrap_or_else(|| Arc::new(membership.cluster.clone()));
        membership.published = Some(Arc::clone(&cluster));
        Published {
            view: self.storage.store.view(),
            applied: self.applied,
            alarms: self.alarms.clone(),
            cluster,
            auth: Arc::clone(&self.auth),
            totals: self.totals,
        }
    }

    pub(crate) fn publish(&mut self, effects: &mut Vec<Effect>) {
        let published = self.published();
        effects.push(Effect::Publish(Box::new(published)));
    }

    pub(crate) fn put_first_writes(&mut self, batch: &mut Batch) {
        for (bucket, key, value) in self.storage.first_writes.drain(..) {
            batch.put(bucket, key, value);
        }
    }

    /// Passes a batch on: to the backend, then to readers, then to watchers and waiters.
    pub(crate) fn finish(&mut self, batch: Batch, effects: &mut Vec<Effect>) {
        let batch = Arc::new(batch);
        self.storage.overlay.push(Arc::clone(&batch));
        self.storage.store.attach(self.storage.overlay.view());
        effects.push(Effect::Commit(batch));
        let tokens = std::mem::take(&mut self.output.tokens);
        if !tokens.is_empty() {
            effects.push(Effect::Tokens(tokens));
        }
        effects.push(Effect::Applied(self.applied.index));
        self.publish(effects);
        let events = std::mem::take(&mut self.output.events);
        if !events.is_empty() {
            effects.push(Effect::Events(events));
        }
        self.flush_replies(effects);
        let answers = self.output.answers.drain(..);
        effects.extend(answers.map(|(id, result)| Effect::Answer(id, result)));
    }

    pub(crate) fn flush_replies(&mut self, effects: &mut Vec<Effect>) {
        let replies = self.output.replies.drain(..);
        effects.extend(replies.map(|(id, reply)| Effect::Reply(id, reply)));
    }
}
