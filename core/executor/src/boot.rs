//! Boots a member from its directory: reads the database, the newest `.snap` file and the log, so
//! that the member continues where it stopped. If there is no data yet, creates a new member.
//!
//! [`Files::open`], then [`Files::read_keys`] and [`Files::open_log`] in any order or at the same
//! time (they read different files), then [`Files::start`]. Not here: waiting for a lock that
//! another process holds (`server`).
//!
//! Source: etcd v3.7 server/etcdserver/bootstrap.go; the order is in formats.md §14.1 of the
//! project's reference.

use crate::forcing::{self, ForceError, ForcedLog};
use crate::founding::Founding;
use crate::received::{self, DatabasePlace};
use backend::{Backend, ReadView};
use cluster::{Attributes, CLUSTER_VERSION_MIN, Cluster, InvalidChange, SERVER_MINOR, Version};
use member::Member;
use mvcc::{Restored, Store};
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use state::{LogTail, Settings, State};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use v2store::EntryPayload;
use vfs::Vfs;
use wal::{Metadata, OpenAt, Recovered, SnapshotRecord, Wal, snap};

/// The directories and settings of a member.
#[derive(Clone, Debug)]
pub struct BootOptions {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The directory of the log, if it is not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// How the member begins if there is no data. `None` if there is data, so that the flags for
    /// the beginning are not used.
    pub founding: Option<Founding>,
    /// The name and client URLs of this member.
    pub attributes: Attributes,
    /// The limit of the page cache, in bytes.
    pub cache_bytes: usize,
    /// The number of ticks without a leader after which an election begins.
    pub election_ticks: u64,
    /// Whether a member asks whether it would be elected before it campaigns.
    pub pre_vote: bool,
    /// Whether to raise the cluster version. `None`: only if the data are not of an older version.
    pub raise_cluster_version: Option<bool>,
    /// The settings of the state. [`Files::start`] sets `member` and `raise_cluster_version`.
    pub settings: Settings,
    /// The seed of election timeouts.
    pub seed: u64,
    /// The sizes of the log.
    pub log_sizes: LogSizes,
    /// Whether a member with data becomes the only member of its cluster (`--force-new-cluster`).
    pub forces_new_cluster: bool,
}

/// The sizes of the log. They are smaller in simulations.
#[derive(Clone, Copy, Debug)]
pub struct LogSizes {
    /// The bytes at which a segment is full.
    pub segment_bytes: u64,
    /// The maximum bytes of applied entries in memory.
    pub window_bytes: usize,
}

impl Default for LogSizes {
    fn default() -> LogSizes {
        LogSizes { segment_bytes: wal::SEGMENT_BYTES, window_bytes: raft::LOG_WINDOW_BYTES_MAX }
    }
}

impl BootOptions {
    /// The options of a simulated member: small, so that snapshots, segment cuts and compaction
    /// slices happen often. For tests of this crate and of those above it.
    #[must_use]
    pub fn simulated(seed: u64) -> BootOptions {
        let attributes = Attributes {
            name: "default".into(),
            client_urls: vec!["http://localhost:2379".into()],
        };
        BootOptions {
            data_dir: PathBuf::from("/data/default.etcd"),
            wal_dir: None,
            founding: Some(Founding::alone(
                &attributes.name,
                vec!["http://localhost:2380".into()],
                "etcd-cluster",
            )),
            attributes: attributes.clone(),
            cache_bytes: 256 << 10,
            election_ticks: 10,
            pre_vote: true,
            raise_cluster_version: None,
            settings: Settings {
                member: NodeId::NONE,
                quota: state::quota::Quota::from_flag(0),
                snapshot_count: 50,
                compaction_slice: 40,
                lease_ttl_s_min: 2,
                bcrypt_cost: 4,
                lease_extend_ms: 1_000,
                lease_checkpoints: state::LeaseCheckpoints::default(),
                learners_max: 1,
                raise_cluster_version: true,
                downgrade_check_ms: 5_000,
                attributes,
            },
            seed,
            log_sizes: LogSizes { segment_bytes: 32 << 10, ..LogSizes::default() },
            forces_new_cluster: false,
        }
    }
}

/// Why a member cannot start.
#[derive(Debug)]
pub enum BootError {
    /// Another process holds the lock of this file or directory. The caller may try again.
    Locked(PathBuf),
    /// The log cannot be read or created.
    Log(wal::Error),
    /// The database cannot be read or created.
    Backend(backend::Error),
    /// The stored state cannot be restored.
    State(state::Fatal),
    /// The files contradict each other or the options.
    Mismatch(String),
    /// A directory cannot be used.
    Directory(PathBuf, std::io::Error),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Locked(path) => {
                write!(f, "{} is locked by another process", path.display())
            }
            BootError::Log(error) => error.fmt(f),
            BootError::Backend(error) => error.fmt(f),
            BootError::State(error) => error.fmt(f),
            BootError::Mismatch(why) => f.write_str(why),
            BootError::Directory(path, error) => {
                write!(f, "cannot use the directory {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for BootError {}

impl From<wal::Error> for BootError {
    fn from(error: wal::Error) -> BootError {
        if let wal::Error::Locked { file } = error {
            return BootError::Locked(file);
        }
        BootError::Log(error)
    }
}

impl From<backend::Error> for BootError {
    fn from(error: backend::Error) -> BootError {
        if let backend::Error::Bolt(bolt::Error::Locked { file }) = error {
            return BootError::Locked(file);
        }
        BootError::Backend(error)
    }
}

impl From<ForceError> for BootError {
    fn from(error: ForceError) -> BootError {
        match error {
            ForceError::Log(error) => error.into(),
            ForceError::Members(why) => BootError::Mismatch(why),
        }
    }
}

impl From<state::Fatal> for BootError {
    fn from(error: state::Fatal) -> BootError {
        BootError::State(error)
    }
}

/// A member that is ready to be driven.
#[derive(Debug)]
pub struct Booted {
    /// Consensus.
    pub member: Member,
    /// The replicated state.
    pub state: State,
    /// The log, open for writing.
    pub wal: Wal,
    /// The database, open for writing.
    pub backend: Backend,
    /// The member and the cluster that the log belongs to.
    pub metadata: Metadata,
    /// The directory of the `.snap` files and the database.
    pub snap_dir: PathBuf,
    /// The limit of the page cache, in bytes.
    pub cache_bytes: usize,
    /// Whether the directory was empty.
    pub is_new: bool,
    /// The version that other members are told. If the cluster version must not be raised, it is
    /// not above that version, so that no leader raises it.
    pub announced_version: Version,
    /// Whether this member raises the cluster version to its own.
    pub raises_version: bool,
}

/// The files of a booting member.
#[derive(Debug)]
pub struct Files<'a> {
    vfs: Arc<dyn Vfs>,
    options: &'a BootOptions,
    snap_dir: PathBuf,
    wal_dir: PathBuf,
    backend: Backend,
}

/// The log, with the entries after the newest snapshot.
#[derive(Debug)]
pub struct OpenedLog {
    wal: Wal,
    recovered: Recovered,
    snapshot: EntryId,
    v2: Option<v2store::V2Tree>,
}

impl<'a> Files<'a> {
    /// Opens the database, or creates the directories, the database and the log of a new member.
    ///
    /// # Errors
    /// [`BootError::Locked`] while another process has the database; or when a file is damaged
    /// or the disk fails.
    pub fn open(vfs: &Arc<dyn Vfs>, options: &'a BootOptions) -> Result<Files<'a>, BootError> {
        let member_dir = options.data_dir.join("member");
        let snap_dir = member_dir.join("snap");
        let wal_dir = options.wal_dir.clone().unwrap_or_else(|| member_dir.join("wal"));
        let exists = wal::exists(&**vfs, &wal_dir)?;
        for dir in [&options.data_dir, &member_dir, &snap_dir] {
            vfs::create_dir_durable(&**vfs, dir)
                .map_err(|error| BootError::Directory(dir.clone(), error))?;
        }
        snap::remove_leftovers(&**vfs, &snap_dir);
        let place = DatabasePlace {
            vfs: Arc::clone(vfs),
            dir: snap_dir.clone(),
            cache_bytes: options.cache_bytes,
        };
        let mut backend = received::open_database(&place)?;
        if exists && received::any(&**vfs, &snap_dir) {
            let (newest, _) = newest_snapshot(&**vfs, &wal_dir, &snap_dir)?;
            backend = received::complete(&place, backend, newest)?;
        }
        sync_names(&**vfs, &[&options.data_dir, &member_dir, &snap_dir])?;
        if exists {
            sync_names(&**vfs, &[&wal_dir])?;
        } else {
            create_log(vfs, &wal_dir, options, &backend)?;
        }
        Ok(Files { vfs: Arc::clone(vfs), options, snap_dir, wal_dir, backend })
    }

    /// Builds the index of keys from the database. This takes most of the time of a start.
    ///
    /// # Errors
    /// When the database is damaged or cannot be read.
    pub fn read_keys(&self) -> Result<Restored, mvcc::Error> {
        Store::restore(ReadView::of_file(self.backend.view()))
    }

    /// Opens the log for writing and reads the entries after the newest snapshot.
    ///
    /// # Errors
    /// [`BootError::Locked`] while another process has the log; or when it is damaged or the disk
    /// fails.
    pub fn open_log(&self) -> Result<OpenedLog, BootError> {
        let applied = self.backend.applied();
        let (snapshot, v2) = newest_snapshot(&*self.vfs, &self.wal_dir, &self.snap_dir)?;
        check_order(snapshot, applied)?;
        let mut at = OpenAt::new(snapshot, applied.index);
        at.segment_bytes = self.options.log_sizes.segment_bytes;
        let (wal, recovered) = Wal::open(Arc::clone(&self.vfs), &self.wal_dir, &at)?;
        Ok(OpenedLog { wal, recovered, snapshot, v2 })
    }

    /// Creates the member from the data that were read.
    ///
    /// # Errors
    /// When the files contradict each other, or the disk fails.
    pub fn start(
        self,
        keys: Result<Restored, mvcc::Error>,
        log: OpenedLog,
    ) -> Result<Booted, BootError> {
        let Files { options, backend, snap_dir, .. } = self;
        let OpenedLog { mut wal, mut recovered, snapshot, v2 } = log;
        let applied = backend.applied();
        // The log has no entries if it is new, or if the first start ended before it wrote them.
        let is_new = applied == EntryId::default() && begin(&mut wal, &mut recovered, options)?;
        let last = recovered.entries.last().map_or(recovered.before, Entry::id);
        if last.index < applied.index {
            return Err(BootError::Mismatch(format!(
                "the log ends at entry {}, but the database has applied {}",
                last.index, applied.index
            )));
        }
        let metadata = recovered.metadata;
        let log = LogTail { v2, snapshot_index: snapshot.index, entries: recovered.entries };
        let mut settings = options.settings.clone();
        settings.member = metadata.node;
        let mut state = State::open_restored(settings, backend.view(), keys, &log)?;
        check_members(state.cluster(), applied.index)?;
        let members = state.cluster().members();
        if members.filter(|member| member.is_learner).count() > options.settings.learners_max {
            return Err(BootError::Mismatch(InvalidChange::TooManyLearners.to_string()));
        }
        let pending = pending_version(&log.entries, applied.index);
        let (announced_version, raises_version) = decide_version(options, &mut state, pending);
        let mut kept = ForcedLog { hard_state: recovered.hard_state, entries: log.entries };
        if options.forces_new_cluster && !is_new {
            let members = (state.cluster(), metadata.node);
            kept = forcing::force(&mut wal, kept, members, applied.index)?;
        }
        let restored = raft::Restored {
            hard_state: kept.hard_state,
            conf_state: state.cluster().conf_state(),
            snapshot: recovered.before,
            entries: kept.entries,
            applied: applied.index.max(recovered.before.index),
            newest: None,
        };
        let mut config = raft::Config::new(metadata.node, options.seed);
        config.election_ticks = options.election_ticks;
        config.rules.pre_vote = options.pre_vote;
        config.rules.check_quorum = true;
        config.rules.reads_log = true;
        config.rules.gathers_reads = true;
        config.limits.log_window_bytes_max = options.log_sizes.window_bytes;
        let node = raft::Node::new(config, restored)
            .map_err(|error| BootError::Mismatch(error.to_string()))?;
        let member = Member::new(node);
        let cache_bytes = options.cache_bytes;
        Ok(Booted {
            member,
            state,
            wal,
            backend,
            metadata,
            snap_dir,
            cache_bytes,
            is_new,
            announced_version,
            raises_version,
        })
    }
}

/// Makes the names of directories durable. They may be unsynced, if an earlier start was killed or
/// another program created the directory. A power failure would then remove them with their
/// contents.
fn sync_names(vfs: &dyn Vfs, dirs: &[&Path]) -> Result<(), BootError> {
    for dir in dirs {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        match vfs.sync_dir(above.unwrap_or_else(|| Path::new("."))) {
            // This user may have no permission for the directory above the data directory. Then it
            // did not create anything there, and nothing needs to be synced.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|error| BootError::Directory(dir.to_path_buf(), error))?,
        }
    }
    Ok(())
}

/// Decides whether this member raises the cluster version, and the version that it tells other
/// members at first. A cluster of an older version keeps its version unless the option says otherwise,
/// so that the older etcd can still be started on the directory.
fn decide_version(
    options: &BootOptions,
    state: &mut State,
    pending: Option<Version>,
) -> (Version, bool) {
    let joined = || options.founding.as_ref().and_then(Founding::version);
    // A cluster has the lowest version until the versions of all its members are known.
    let known = pending.or_else(|| state.cluster().version()).or_else(joined);
    let older = known.filter(|version| *version < SERVER_MINOR && *version > CLUSTER_VERSION_MIN);
    let raises = options.raise_cluster_version.unwrap_or_else(|| older.is_none());
    if let Some(version) = older {
        tracing::info!(
            cluster_version = %version,
            server_version = cluster::SERVER_VERSION,
            mode = if raises { "auto" } else { "manual" },
            "the cluster version is older than this server; --cluster-version-upgrade=auto \
             raises it, and no older etcd can start on the directory then"
        );
    }
    state.raise_cluster_version(raises);
    (older.filter(|_| !raises).unwrap_or_else(cluster::server_version), raises)
}

/// The cluster version that unapplied entries set. A crash may leave such entries.
fn pending_version(entries: &[Entry], applied: Index) -> Option<Version> {
    let set = |entry: &Entry| match v2store::classify(&entry.data).ok()? {
        EntryPayload::V2(request) => {
            request.val.filter(|_| request.path.as_deref() == Some("/0/version"))
        }
        EntryPayload::Request(request) => request.cluster_version_set.map(|set| set.ver),
    };
    let is_request = |entry: &&Entry| entry.kind == EntryKind::Normal && !entry.data.is_empty();
    let behind = entries.iter().filter(|entry| entry.index > applied).filter(is_request);
    behind.filter_map(set).filter_map(|text| Version::parse(&text).ok()).last()
}

/// Creates the log of a new cluster.
fn create_log(
    vfs: &Arc<dyn Vfs>,
    wal_dir: &Path,
    options: &BootOptions,
    backend: &Backend,
) -> Result<(), BootError> {
    if backend.applied() != EntryId::default() {
        return Err(BootError::Mismatch(format!(
            "there is a database, but no log in {}",
            wal_dir.display()
        )));
    }
    let Some(founding) = &options.founding else {
        return Err(BootError::Mismatch(format!("there is no log in {}", wal_dir.display())));
    };
    let (metadata, _) = founding.begin().map_err(BootError::Mismatch)?;
    Wal::create_with_segments(
        Arc::clone(vfs),
        wal_dir,
        &metadata,
        options.log_sizes.segment_bytes,
    )?
    .close()?;
    Ok(())
}

/// Writes the first entries of a new cluster, as committed, into an empty log. A member that joins
/// a cluster gets them from the leader. Returns false if the member has begun before.
fn begin(
    wal: &mut Wal,
    recovered: &mut Recovered,
    options: &BootOptions,
) -> Result<bool, BootError> {
    let is_decided =
        recovered.hard_state != HardState::default() || recovered.before.index > Index(0);
    let Some(founding) = options.founding.as_ref().filter(|_| !is_decided) else {
        return Ok(false);
    };
    let (metadata, entries) = founding.begin().map_err(BootError::Mismatch)?;
    // A crash may have left some of these entries without the hard state that commits them.
    if !entries.starts_with(&recovered.entries) {
        return Ok(false);
    }
    if metadata != recovered.metadata {
        return Err(BootError::Mismatch(format!(
            "the log is that of member {:x} in a cluster that has not begun; with this name, token \
             and peer URLs it would be member {:x}",
            recovered.metadata.node, metadata.node
        )));
    }
    if entries.is_empty() {
        return Ok(true);
    }
    let commit = entries.last().map_or(Index(0), |entry| entry.index);
    recovered.hard_state = HardState { term: Term(1), vote: NodeId::NONE, commit };
    wal.append(&entries, recovered.hard_state)?;
    wal.sync()?;
    recovered.entries = entries;
    Ok(true)
}

/// The newest snapshot that the log has a record of, with the v2 tree of its file. If the log has
/// the record, a missing file is not an error, since etcd 3.7 does not read these files either.
fn newest_snapshot(
    vfs: &dyn Vfs,
    wal_dir: &Path,
    snap_dir: &Path,
) -> Result<(EntryId, Option<v2store::V2Tree>), BootError> {
    let known = wal::valid_snapshots(vfs, wal_dir)?;
    let file = snap::load_newest_valid(vfs, snap_dir, &known)?.snap;
    let newest = known.iter().map(|record: &SnapshotRecord| record.id).max_by_key(|id| id.index);
    let Some(file) = file else { return Ok((newest.unwrap_or_default(), None)) };
    let tree = v2store::V2Tree::parse(&file.data)
        .map_err(|error| BootError::Mismatch(format!("{}: {error}", snap::file_name(file.id))))?;
    Ok((file.id, Some(tree)))
}

fn check_order(snapshot: EntryId, applied: EntryId) -> Result<(), BootError> {
    if snapshot.index > applied.index {
        return Err(BootError::Mismatch(format!(
            "the newest snapshot is at entry {}, but the database has applied only {}: it is \
             older than the log",
            snapshot.index, applied.index
        )));
    }
    Ok(())
}

/// Checks that there are members if an entry was applied, since the first entries of every log add
/// members. etcd before 3.6 stores them only in the `.snap` file; if that is missing, the member
/// would run in a cluster without members.
fn check_members(cluster: &Cluster, applied: Index) -> Result<(), BootError> {
    if applied > Index(0) && cluster.members().next().is_none() {
        return Err(BootError::Mismatch(format!(
            "entries up to {applied} were applied, but no file names the members of the cluster: \
             the newest .snap file is missing or damaged"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::etcdserverpb::{InternalRaftRequest, PutRequest, Request};
    use proto::membershippb::ClusterVersionSetRequest;

    #[test]
    fn a_version_that_is_not_applied_yet_is_known_at_the_start() {
        let entry = |index, data: Vec<u8>| Entry {
            term: Term(1),
            index: Index(index),
            kind: EntryKind::Normal,
            data: data.into(),
        };
        let old = Request {
            method: Some("PUT".into()),
            path: Some("/0/version".into()),
            val: Some("3.4.0".into()),
            ..Request::default()
        };
        let other = Request { path: Some("/0/members/7/attributes".into()), ..old.clone() };
        let set = ClusterVersionSetRequest { ver: "3.5.0".into() };
        let new = InternalRaftRequest { cluster_version_set: Some(set), ..Default::default() };
        let put = Some(PutRequest::default());
        let put = InternalRaftRequest { put, ..Default::default() };
        let entries = [
            entry(3, old.encode_to_vec()),
            entry(4, new.encode_to_vec()),
            entry(5, Vec::new()),
            entry(6, other.encode_to_vec()),
            entry(7, put.encode_to_vec()),
        ];
        let pending = |upto: usize, applied| {
            pending_version(&entries[..upto], Index(applied)).map(|version| version.to_string())
        };
        assert_eq!(pending(1, 2).as_deref(), Some("3.4.0"));
        assert_eq!(pending(5, 2).as_deref(), Some("3.5.0"));
        assert_eq!(pending(5, 4), None, "it is applied");
    }
}
