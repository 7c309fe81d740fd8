//! From a directory to a member that goes on where it stopped: the database, the .snap, the log;
//! or, where there is nothing yet, a new cluster of one.
//!
//! Source: etcd v3.7 server/etcdserver/bootstrap.go; the order is in formats.md §14.1 of the
//! project's reference.

use backend::{Backend, ReadView};
use cluster::{Attributes, Cluster, SERVER_MINOR, Version};
use member::Member;
use mvcc::Store;
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Term};
use state::{Log, Settings, State};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfs::Vfs;
use wal::{Metadata, OpenAt, Recovered, SnapshotRecord, Wal, snap};

/// How long another process may hold the directory before this one gives up.
const LOCK_TIME_MAX: Duration = Duration::from_secs(10);
/// The page size of a new database: that of the usual kernels.
const NEW_PAGE_BYTES: usize = 4096;
/// How often it looks whether the other one has let go.
const LOCK_TRY_EVERY: Duration = Duration::from_millis(50);

/// Where a member keeps its data, and how it goes on with it.
#[derive(Clone, Debug)]
pub struct BootOptions {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where the log is, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// The peer URLs that this member is reached by, if the cluster is new.
    pub peer_urls: Vec<String>,
    /// The token of a new cluster.
    pub token: String,
    /// What this member tells of itself.
    pub attributes: Attributes,
    /// The bytes that the page cache may hold.
    pub cache_bytes: usize,
    /// Ticks without a leader until an election.
    pub election_ticks: u64,
    /// Whether to raise the cluster version; unless said, not where data is older.
    pub raise_cluster_version: Option<bool>,
    /// The rest of the state's settings; `member` and `raise_cluster_version` are filled in.
    pub settings: Settings,
    /// The seed of election timeouts.
    pub seed: u64,
    /// When a segment of the log is full: [`wal::SEGMENT_BYTES`], or less in simulations.
    pub segment_bytes: u64,
}

/// Why a member cannot start.
#[derive(Debug)]
pub enum BootError {
    /// Another process has the directory.
    Locked(PathBuf),
    /// The log cannot be read or made.
    Log(wal::Error),
    /// The database cannot be read or made.
    Backend(backend::Error),
    /// What they hold does not lead to a state.
    State(state::Fatal),
    /// They do not fit each other.
    Mismatch(String),
    /// A directory cannot be used.
    Directory(PathBuf, std::io::Error),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Locked(path) => write!(
                f,
                "{} is locked by another process, which did not let go of it in {} s",
                path.display(),
                LOCK_TIME_MAX.as_secs()
            ),
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
        BootError::Log(error)
    }
}

impl From<backend::Error> for BootError {
    fn from(error: backend::Error) -> BootError {
        BootError::Backend(error)
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
    /// What is replicated.
    pub state: State,
    /// The log, open for writing.
    pub wal: Wal,
    /// The database, open for writing.
    pub backend: Backend,
    /// Whose log it is.
    pub metadata: Metadata,
    /// Where .snap files are.
    pub snap_dir: PathBuf,
    /// Whether the directory was empty.
    pub is_new: bool,
}

/// Opens a directory, or makes a new cluster of one in it.
///
/// # Errors
/// When another process has it, something in it is damaged or does not fit, or the disk fails.
pub fn boot(vfs: &Arc<dyn Vfs>, options: &BootOptions) -> Result<Booted, BootError> {
    let member_dir = options.data_dir.join("member");
    let snap_dir = member_dir.join("snap");
    let wal_dir = options.wal_dir.clone().unwrap_or_else(|| member_dir.join("wal"));
    let exists = wal::exists(&**vfs, &wal_dir)?;
    for dir in [&options.data_dir, &member_dir, &snap_dir] {
        vfs::create_dir_durable(&**vfs, dir)
            .map_err(|error| BootError::Directory(dir.clone(), error))?;
    }
    snap::remove_leftovers(&**vfs, &snap_dir);
    let backend = open_backend(vfs, &snap_dir.join("db"), options.cache_bytes)?;
    sync_names(&**vfs, &[&options.data_dir, &member_dir, &snap_dir])?;
    if exists {
        sync_names(&**vfs, &[&wal_dir])?;
    } else {
        create_log(vfs, &wal_dir, options, &backend)?;
    }
    let applied = backend.applied();
    // Two files, so two threads: the keys out of the one while the other is read.
    let file = backend.view();
    let view = ReadView::of_file(file.clone());
    let (opened, restored) = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| Store::restore(view));
        let opened = open_log(vfs, &wal_dir, &snap_dir, applied, options);
        (opened, restoring.join())
    });
    let Opened { mut wal, mut recovered, snapshot, v2 } = opened?;
    let restored = restored.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // Where the log says nothing yet: it is new, or the first start did not get further.
    let is_new = applied == EntryId::default() && begin(&mut wal, &mut recovered, options)?;
    let last = recovered.entries.last().map_or(recovered.before, Entry::id);
    if last.index < applied.index {
        return Err(BootError::Mismatch(format!(
            "the log ends at entry {}, but the database has applied {}",
            last.index, applied.index
        )));
    }
    let metadata = recovered.metadata;
    let log = Log { v2, snapshot_index: snapshot.index, entries: recovered.entries };
    let mut settings = options.settings.clone();
    settings.member = metadata.node;
    let mut state = State::open_restored(settings, file, restored, &log)?;
    state.raise_cluster_version(raises(options, &state));
    let restored = raft::Restored {
        hard_state: recovered.hard_state,
        conf_state: state.cluster().conf_state(),
        snapshot: recovered.before,
        entries: log.entries,
        applied: applied.index.max(recovered.before.index),
    };
    let mut config = raft::Config::new(metadata.node, options.seed);
    config.election_ticks = options.election_ticks;
    let node = raft::Node::new(config, restored)
        .map_err(|error| BootError::Mismatch(error.to_string()))?;
    let member = Member::new(node);
    Ok(Booted { member, state, wal, backend, metadata, snap_dir, is_new })
}

/// Makes the names of directories durable that a start may have made which was killed before it
/// could do so, or the one who prepared the place: nothing in them is kept otherwise.
fn sync_names(vfs: &dyn Vfs, dirs: &[&Path]) -> Result<(), BootError> {
    for dir in dirs {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        match vfs.sync_dir(above.unwrap_or_else(|| Path::new("."))) {
            // One above the data directory may be closed to us; then another made what is in it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|error| BootError::Directory(dir.to_path_buf(), error))?,
        }
    }
    Ok(())
}

/// Data of an older version stays as it is until somebody says otherwise, so that the way back
/// stays open.
fn raises(options: &BootOptions, state: &State) -> bool {
    let version: Option<Version> = state.cluster().version();
    let is_older = version.is_some_and(|version| version < SERVER_MINOR);
    let raises = options.raise_cluster_version.unwrap_or(!is_older);
    if let Some(version) = version.filter(|_| is_older) {
        tracing::info!(
            cluster_version = %version,
            server_version = cluster::SERVER_VERSION,
            mode = if raises { "auto" } else { "manual" },
            "the cluster version is older than this server; --cluster-version-upgrade=auto \
             raises it, and no older etcd can start on the directory then"
        );
    }
    raises
}

fn open_backend(vfs: &Arc<dyn Vfs>, path: &Path, cache_bytes: usize) -> Result<Backend, BootError> {
    let started = Instant::now();
    loop {
        let options = bolt::Options {
            new_page_size: NEW_PAGE_BYTES,
            cache: Arc::new(bolt::PageCache::new(cache_bytes)),
            read_only: false,
        };
        match Backend::open(&**vfs, path, options) {
            Err(backend::Error::Bolt(bolt::Error::Locked { .. })) => {
                wait_for_lock(path, started)?;
            }
            other => return Ok(other?),
        }
    }
}

/// The log, open behind the newest snapshot.
struct Opened {
    wal: Wal,
    recovered: Recovered,
    snapshot: EntryId,
    v2: Option<v2store::Store>,
}

fn open_log(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    snap_dir: &Path,
    applied: EntryId,
    options: &BootOptions,
) -> Result<Opened, BootError> {
    let (snapshot, v2) = newest_snapshot(vfs, dir, snap_dir)?;
    check_order(snapshot, applied)?;
    let mut at = OpenAt::new(snapshot, applied.index);
    at.segment_bytes = options.segment_bytes;
    let started = Instant::now();
    loop {
        match Wal::open(Arc::clone(vfs), dir, &at) {
            Err(wal::Error::Locked { .. }) => wait_for_lock(dir, started)?,
            Err(error) => return Err(error.into()),
            Ok((wal, recovered)) => return Ok(Opened { wal, recovered, snapshot, v2 }),
        }
    }
}

fn wait_for_lock(path: &Path, started: Instant) -> Result<(), BootError> {
    if started.elapsed() > LOCK_TIME_MAX {
        return Err(BootError::Locked(path.to_path_buf()));
    }
    std::thread::sleep(LOCK_TRY_EVERY);
    Ok(())
}

/// The ids of a new cluster's member, and the entries that its log begins with: its members.
fn first_entries(options: &BootOptions) -> Result<(Metadata, Vec<Entry>), BootError> {
    let members = [(options.attributes.name.clone(), options.peer_urls.clone())];
    let cluster = Cluster::initial(&members, &options.token)
        .ok_or_else(|| BootError::Mismatch("the member's id would be 0, which is nobody".into()))?;
    let node = cluster.members().next().map_or(NodeId::NONE, |member| member.id);
    let id = cluster::cluster_id(cluster.members().map(|member| member.id));
    let entries = (1..).zip(cluster.initial_changes()).map(|(index, change)| Entry {
        term: Term(1),
        index: Index(index),
        kind: EntryKind::ConfChange,
        data: change.encode(),
    });
    Ok((Metadata { node, cluster: id }, entries.collect()))
}

/// Makes the log of a new cluster.
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
    let (metadata, _) = first_entries(options)?;
    Wal::create_with_segments(Arc::clone(vfs), wal_dir, &metadata, options.segment_bytes)?
        .close()?;
    Ok(())
}

/// Writes the first entries of a new cluster, committed, into a log that has nothing else yet;
/// false if it has.
fn begin(
    wal: &mut Wal,
    recovered: &mut Recovered,
    options: &BootOptions,
) -> Result<bool, BootError> {
    let is_decided = recovered.hard_state.commit > Index(0) || recovered.before.index > Index(0);
    if is_decided {
        return Ok(false);
    }
    let (metadata, entries) = first_entries(options)?;
    // A crash may have left some of them, without the state that commits them.
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
    let commit = entries.last().map_or(Index(0), |entry| entry.index);
    recovered.hard_state = HardState { term: Term(1), vote: NodeId::NONE, commit };
    wal.append(&entries, recovered.hard_state)?;
    wal.sync()?;
    recovered.entries = entries;
    Ok(true)
}

/// The newest snapshot that the log vouches for, with the v2 tree of its file. etcd 3.7 does not
/// read these files, so one that is missing is no fault where the log knows it.
fn newest_snapshot(
    vfs: &Arc<dyn Vfs>,
    wal_dir: &Path,
    snap_dir: &Path,
) -> Result<(EntryId, Option<v2store::Store>), BootError> {
    let known = wal::valid_snapshots(&**vfs, wal_dir)?;
    let file = snap::load_newest_valid(&**vfs, snap_dir, &known)?.snap;
    let newest = known.iter().map(|record: &SnapshotRecord| record.id).max_by_key(|id| id.index);
    let Some(file) = file else { return Ok((newest.unwrap_or_default(), None)) };
    let tree = v2store::Store::parse(&file.data)
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
