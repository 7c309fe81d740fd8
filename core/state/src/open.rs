//! Opens the state of a directory: leases, keys, alarms, auth and membership, in this order.
//!
//! The v2 tree is only in the .snap file, so v2 requests between that file and the applied index
//! are always replayed. If the database has no storage version, membership changes are replayed as
//! well: etcd before 3.5.20 does not keep the buckets up to date (formats.md §3.2 of the project's
//! reference).

use crate::alarms::Alarms;
use crate::effect::Totals;
use crate::failure::Fatal;
use crate::leadership::Leadership;
use crate::machine::{Membership, Output, SnapshotPolicy, State, Storage};
use crate::settings::Settings;
use crate::waiters::Waiters;
use auth::{AuthStore, Stored};
use backend::{Bucket, Overlay, ReadView};
use bytes::Bytes;
use cluster::{Attributes, BackendItems, Cluster, StorageVersion, Version};
use lease::Lessor;
use mvcc::{Restored, Store};
use proto::{ConfChange, Entry, EntryId, EntryKind, Index};
use std::collections::BTreeMap;
use std::sync::Arc;
use v2store::{EntryPayload, V2Change, V2Tree};

/// The newest .snap file and the entries after it.
#[derive(Debug)]
pub struct LogTail {
    /// The v2 tree of the .snap file, if there is one.
    pub v2: Option<V2Tree>,
    /// The index of the .snap file; 0 without one.
    pub snapshot_index: Index,
    /// The entries after it, applied or not.
    pub entries: Vec<Entry>,
}

impl LogTail {
    /// The bytes of the applied entries that no .snap file covers.
    fn bytes_up_to(&self, applied: Index) -> u64 {
        let covered = |entry: &&Entry| entry.index > self.snapshot_index && entry.index <= applied;
        self.entries.iter().filter(covered).map(|entry| entry.data.len() as u64).sum()
    }
}

impl State {
    /// Opens the state as of the last entry in the database.
    ///
    /// # Errors
    /// When something stored cannot be read, is inconsistent, or needs a part of the server that
    /// is not built yet.
    pub fn open(settings: Settings, file: bolt::View, log: &LogTail) -> Result<State, Fatal> {
        let restored = Store::restore(ReadView::of_file(file.clone()));
        State::open_restored(settings, file, restored, log)
    }

    /// As [`State::open`], with the keys that [`Store::restore`] has read from the same file.
    /// Restoring takes most of the time of a start and does not need the log, so it can run while
    /// the log is read.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn open_restored(
        settings: Settings,
        file: bolt::View,
        restored: Result<Restored, mvcc::Error>,
        log: &LogTail,
    ) -> Result<State, Fatal> {
        let overlay = Overlay::new(Some(file.clone()), Overlay::LIMIT);
        let read = overlay.view();
        let applied = read.applied()?;
        let auth = load_auth(&read)?;
        let stored = read.get(Bucket::Meta, StorageVersion::KEY)?;
        let storage_version = StorageVersion::detect(stored.as_deref(), applied.term.0)
            .map_err(|error| Fatal::Unsupported(error.to_string()))?;
        let mut v2 = match &log.v2 {
            Some(tree) => tree.clone(),
            None => V2Tree::default(),
        };
        let buckets_are_stale = stored.is_none() && applied.index > Index(0);
        let mut cluster = if stored.is_some() {
            replay(&mut v2, None, log, applied)?;
            load_cluster(&read)?
        } else {
            let mut cluster = load_v2_cluster(&v2)?;
            replay(&mut v2, Some(&mut cluster), log, applied)?;
            keep_version(&read, &mut cluster)?;
            cluster
        };
        cluster.set_learners_max(settings.learners_max);
        cluster.check_version().map_err(|error| Fatal::Unsupported(error.to_string()))?;
        let mut lessor = load_leases(&read, settings.lease_ttl_s_min)?;
        lessor.set_checkpoints(settings.lease_checkpoints.propose);
        let alarms = Alarms::load(all(&read, Bucket::Alarm)?.into_iter().map(|(key, _)| key));
        let Restored { store, leases } = restored?;
        for (lease, key) in leases {
            if lessor.attach(&key, lease).is_err() {
                tracing::warn!(
                    lease = format_args!("{lease:016x}"),
                    "a key has a lease that does not exist"
                );
            }
        }
        let first_writes = first_writes(&read, &cluster, buckets_are_stale)?;
        let file_bytes = file.size();
        let log_bytes = log.bytes_up_to(applied.index);
        Ok(State {
            settings,
            storage: Storage { store, overlay, file_bytes, first_writes },
            lessor,
            membership: Membership {
                cluster,
                v2,
                storage_version,
                member_versions: BTreeMap::new(),
                published: None,
            },
            alarms,
            auth: Arc::new(auth),
            applied,
            snapshots: SnapshotPolicy { index: log.snapshot_index, log_bytes, is_forced: false },
            waiters: Waiters::default(),
            leadership: Leadership::default(),
            output: Output::default(),
            totals: Totals::default(),
        })
    }
}

/// Writes that the file needs but no entry produces. They go into the first batch.
fn first_writes(
    read: &ReadView,
    cluster: &Cluster,
    buckets_are_stale: bool,
) -> Result<Vec<(Bucket, Bytes, Bytes)>, Fatal> {
    let mut writes = Vec::new();
    if read.get(Bucket::Auth, AuthStore::REVISION_KEY)?.is_none() {
        let revision = Bytes::copy_from_slice(&AuthStore::FIRST_REVISION.to_be_bytes());
        writes.push((Bucket::Auth, Bytes::from_static(AuthStore::REVISION_KEY), revision));
    }
    if buckets_are_stale {
        for write in cluster.all_writes() {
            let bucket = match write.table {
                cluster::Table::Members => Bucket::Members,
                cluster::Table::MembersRemoved => Bucket::MembersRemoved,
                cluster::Table::Cluster => Bucket::Cluster,
            };
            if let Some(value) = write.value {
                writes.push((bucket, write.key, value));
            }
        }
    }
    Ok(writes)
}

fn load_v2_cluster(v2: &V2Tree) -> Result<Cluster, Fatal> {
    Cluster::load_v2(v2.members(), v2.removed_members(), v2.version())
        .map_err(|error| Fatal::Corrupt(format!("the members in the .snap file: {error}")))
}

/// Takes the version from the database if the .snap file and the log have none. That is so in a
/// directory that was restored from a snapshot. Its data have that version, so that the older etcd can
/// start on it.
fn keep_version(read: &ReadView, cluster: &mut Cluster) -> Result<(), Fatal> {
    if cluster.version().is_some() {
        return Ok(());
    }
    let none = || std::iter::empty::<(Bytes, Bytes)>();
    let settings = all(read, Bucket::Cluster)?;
    let stored = BackendItems { members: none(), removed: none(), cluster: settings };
    let stored = Cluster::load(stored).map_err(|error| Fatal::Corrupt(error.to_string()))?;
    if let Some(version) = stored.version() {
        let set = cluster.set_version(version);
        set.map_err(|error| Fatal::Unsupported(error.to_string()))?;
    }
    Ok(())
}

/// Replays the entries between the .snap file and the applied index: v2 requests on the v2 tree,
/// whose state at the applied index is not stored elsewhere, and membership changes on `cluster`,
/// unless the buckets have them.
fn replay(
    v2: &mut V2Tree,
    mut cluster: Option<&mut Cluster>,
    log: &LogTail,
    applied: EntryId,
) -> Result<(), Fatal> {
    for entry in log.entries.iter().filter(|entry| entry.index <= applied.index) {
        let index = entry.index.0;
        let bad = |why: String| Fatal::Entry { index, why };
        match entry.kind {
            EntryKind::ConfChange => {
                let Some(cluster) = cluster.as_deref_mut() else { continue };
                let change = ConfChange::decode(entry.data.clone());
                let change = change.map_err(|error| bad(error.to_string()))?;
                // A change that was invalid when it was applied is invalid again.
                if let Ok(valid) = cluster.validate(&change) {
                    cluster.apply(valid);
                }
            }
            EntryKind::Normal if !entry.data.is_empty() => {
                let payload = v2store::classify(&entry.data);
                let payload = payload.map_err(|error| bad(error.to_string()))?;
                replay_request(cluster.as_deref_mut(), v2, payload).map_err(bad)?;
            }
            EntryKind::Normal | EntryKind::ConfChangeV2 => {}
        }
    }
    Ok(())
}

fn replay_request(
    cluster: Option<&mut Cluster>,
    v2: &mut V2Tree,
    payload: EntryPayload,
) -> Result<(), String> {
    let (mut attributes, mut version) = (None, None);
    match payload {
        EntryPayload::V2(request) => match v2.apply(&request).map_err(|error| error.to_string())? {
            V2Change::None => {}
            V2Change::MemberAttributes { id, json } => {
                let published = Attributes::from_json(json.as_bytes());
                attributes = Some((id, published.map_err(|error| error.to_string())?));
            }
            V2Change::ClusterVersion(text) => version = Some(text),
        },
        EntryPayload::Request(request) => {
            attributes = request.cluster_member_attr_set.map(|set| {
                let published = set.member_attributes.unwrap_or_default();
                let attributes =
                    Attributes { name: published.name, client_urls: published.client_urls };
                (proto::NodeId(set.member_id), attributes)
            });
            version = request.cluster_version_set.map(|set| set.ver);
        }
    }
    let Some(cluster) = cluster else { return Ok(()) };
    if let Some((id, attributes)) = attributes {
        cluster.set_attributes(id, attributes).map_err(|error| error.to_string())?;
    }
    if let Some(version) = version {
        let version = Version::parse(&version).map_err(|error| error.to_string())?;
        cluster.set_version(version).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn load_auth(read: &ReadView) -> Result<AuthStore, Fatal> {
    let stored = Stored {
        enabled: read.get(Bucket::Auth, AuthStore::ENABLED_KEY)?,
        revision: read.get(Bucket::Auth, AuthStore::REVISION_KEY)?,
        users: all(read, Bucket::AuthUsers)?,
        roles: all(read, Bucket::AuthRoles)?,
    };
    AuthStore::load(&stored).map_err(|error| Fatal::Corrupt(error.to_string()))
}

fn load_leases(read: &ReadView, ttl_s_min: i64) -> Result<Lessor, Fatal> {
    Lessor::restore(ttl_s_min, all(read, Bucket::Lease)?)
        .map_err(|error| Fatal::Corrupt(error.to_string()))
}

fn load_cluster(read: &ReadView) -> Result<Cluster, Fatal> {
    let items = BackendItems {
        members: all(read, Bucket::Members)?,
        removed: all(read, Bucket::MembersRemoved)?,
        cluster: all(read, Bucket::Cluster)?,
    };
    Cluster::load(items).map_err(|error| Fatal::Corrupt(error.to_string()))
}

fn all(read: &ReadView, bucket: Bucket) -> Result<Vec<(Bytes, Bytes)>, Fatal> {
    let items: Result<Vec<_>, _> = read.cursor(bucket, b"", false)?.collect();
    Ok(items?)
}
