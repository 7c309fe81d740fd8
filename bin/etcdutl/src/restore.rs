//! `snapshot restore`: creates the data directory of a member of a new cluster from a snapshot.
//!
//! Source: etcd v3.7.1 etcdutl/snapshot/v3_snapshot.go `Restore`.

use crate::arguments::one_argument;
use crate::bootstrap;
use crate::database::{self, Access};
use crate::failure::{Code, CommandResult, Failure, io_failure};
use crate::output;
use bolt::{Db, Tx};
use bytes::Bytes;
use cli::json::{Object, list, zap_string};
use cli::log::Level;
use cli::{Parsed, go};
use cluster::{Cluster, Member, cluster_id};
use proto::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Revision, Term};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use terminal::{Bar, Unit};
use vfs::{RealDisk, Vfs as _};
use wal::snap::SnapFile;
use wal::{Metadata, SnapshotRecord, Wal};

const HASH_LENGTH: u64 = 32;
/// How long a lock on the new database is waited for. Nobody else knows the file.
const NO_WAIT: Duration = Duration::from_secs(1);
const MEMBER_BUCKETS: [&[u8]; 2] = [b"members", b"members_removed"];

/// The options of a restore.
struct Plan {
    snapshot: String,
    data_dir: PathBuf,
    wal_dir: PathBuf,
    skip_hash_check: bool,
    /// The amount to add to the latest revision; all earlier revisions are marked as compacted.
    bump: i64,
    memory_map_size: u64,
    own: NodeId,
    cluster: Cluster,
}

impl Plan {
    fn snap_dir(&self) -> PathBuf {
        self.data_dir.join("member").join("snap")
    }

    fn db(&self) -> PathBuf {
        self.snap_dir().join("db")
    }

    fn cluster_id(&self) -> u64 {
        cluster_id(self.cluster.members().map(|member| member.id))
    }

    fn log(&self, caller: &str, message: &str) {
        let shown = |path: &Path| path.display().to_string();
        let fields = Object::zap()
            .string("path", &self.snapshot)
            .string("wal-dir", &shown(&self.wal_dir))
            .string("data-dir", &shown(&self.data_dir))
            .string("snap-dir", &shown(&self.snap_dir()))
            .plain("initial-memory-map-size", self.memory_map_size);
        output::log(Level::Info, caller, message, fields);
    }
}

pub(crate) fn restore(parsed: &Parsed) -> CommandResult {
    let plan = plan(parsed)?;
    plan.log(concat!(file!(), ":", line!()), "restoring snapshot");
    copy(&plan)?;
    // Before anything else is written, so that no server starts on a directory without its keys.
    let db = database::open(&plan.db(), Access::Write, NO_WAIT)?;
    must_be_etcds(&db.view())?;
    let end = log_and_snap(&plan)?;
    database(&plan, db, end)?;
    plan.log(concat!(file!(), ":", line!()), "restored snapshot");
    Ok(())
}

/// Fails if a bucket is missing that every etcd creates.
fn must_be_etcds(view: &bolt::View) -> CommandResult {
    for bucket in ["key", "members"] {
        if !view.has_bucket(bucket.as_bytes()) {
            let why = format!("the database has no bucket \"{bucket}\": it is not etcd's");
            return Err(failed(why));
        }
    }
    Ok(())
}

fn failed(error: impl ToString) -> Failure {
    Code::Error.with(error)
}

fn plan(parsed: &Parsed) -> CommandResult<Plan> {
    let snapshot = one_argument(parsed)?;
    let flags = &parsed.flags;
    let bump = flags.uint("bump-revision");
    if (bump > 0) != flags.bool("mark-compacted") {
        return Err(Code::BadArgs.with("--mark-compacted required if --revision-bump > 0"));
    }
    let name = flags.text("name");
    let urls = flags.text("initial-advertise-peer-urls");
    let members = bootstrap::members(&name, &urls, &flags.text("initial-cluster"))?;
    let members: Vec<_> = members.into_iter().collect();
    let token = flags.text("initial-cluster-token");
    let cluster = Cluster::initial(&members, &token)
        .ok_or_else(|| failed("two members of the initial cluster have the same id, or id 0"))?;
    let own = cluster.members().find(|member| member.name == name).map(|member| member.id);
    let data_dir = match flags.text("data-dir") {
        dir if dir.is_empty() => PathBuf::from(format!("{name}.etcd")),
        dir => PathBuf::from(dir),
    };
    if std::fs::symlink_metadata(&data_dir).is_ok() && !is_empty_dir(&data_dir) {
        let shown = go::quote(data_dir.as_os_str().as_encoded_bytes());
        return Err(failed(format!("data-dir {shown} not empty or could not be read")));
    }
    let wal_dir = match flags.text("wal-dir") {
        dir if dir.is_empty() => data_dir.join("member").join("wal"),
        dir => PathBuf::from(dir),
    };
    if std::fs::symlink_metadata(&wal_dir).is_ok() {
        let shown = go::quote(wal_dir.as_os_str().as_encoded_bytes());
        return Err(failed(format!("wal-dir {shown} exists")));
    }
    Ok(Plan {
        snapshot,
        data_dir,
        wal_dir,
        skip_hash_check: flags.bool("skip-hash-check"),
        bump: i64::try_from(bump).map_err(|_| failed("--bump-revision is too large"))?,
        memory_map_size: flags.uint("initial-memory-map-size"),
        own: own.unwrap_or(NodeId::NONE),
        cluster,
    })
}

fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Copies the database and checks it against the hash that follows it in the snapshot file.
fn copy(plan: &Plan) -> CommandResult {
    let source = &plan.snapshot;
    let io = |call: &'static str| move |error: std::io::Error| io_failure(call, source, &error);
    let mut file = File::open(source).map_err(io("open"))?;
    let metadata = file.metadata().map_err(io("stat"))?;
    if metadata.is_dir() {
        return Err(failed(format!("read {source}: is a directory")));
    }
    let size = metadata.len();
    if size < HASH_LENGTH {
        return Err(failed(format!("seek {source}: invalid argument")));
    }
    let snap_dir = plan.snap_dir();
    let made = |error: std::io::Error| io_failure("mkdir", &snap_dir.display().to_string(), &error);
    vfs::create_dir_durable(&RealDisk, &snap_dir).map_err(made)?;
    let has_hash = size % 512 == HASH_LENGTH;
    if !has_hash && !plan.skip_hash_check {
        return Err(failed("snapshot missing hash but --skip-hash-check=false"));
    }
    let length = if has_hash { size - HASH_LENGTH } else { size };
    let hash = write_copy(plan, (&mut file).take(length), length)?;
    if has_hash && !plan.skip_hash_check {
        let mut expected = [0; 32];
        file.seek(SeekFrom::Start(length)).map_err(io("seek"))?;
        file.read_exact(&mut expected).map_err(io("read"))?;
        if expected != hash {
            let shown = |bytes: &[u8; 32]| {
                let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
                format!("[{}]", bytes.join(" "))
            };
            let (expected, hash) = (shown(&expected), shown(&hash));
            return Err(failed(format!("expected sha256 {expected}, got {hash}")));
        }
    }
    Ok(())
}

/// Writes the database file of this length, and draws a progress bar; returns its hash.
fn write_copy(plan: &Plan, mut source: impl Read, length: u64) -> CommandResult<[u8; 32]> {
    const CHUNK: usize = 1 << 20;
    let path = plan.db();
    let shown = path.display().to_string();
    let io = |call: &'static str| {
        let shown = shown.clone();
        move |error: std::io::Error| io_failure(call, &shown, &error)
    };
    let file = RealDisk.open(&path, vfs::Mode::CreateNew).map_err(io("open"))?;
    let bar = Bar::start(length, Unit::Bytes);
    let (mut hash, mut chunk, mut offset) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let length = source.read(&mut chunk).map_err(io("copy"))?;
        if length == 0 {
            break;
        }
        hash.update(&chunk[..length]);
        file.write_at(&chunk[..length], offset).map_err(io("write"))?;
        offset += length as u64;
        bar.set(offset);
    }
    file.sync_data().map_err(io("sync"))?;
    RealDisk.sync_dir(&plan.snap_dir()).map_err(io("sync"))?;
    Ok(hash.finalize().into())
}

/// Writes the log of a new cluster and a snapshot at its end.
fn log_and_snap(plan: &Plan) -> CommandResult<EntryId> {
    let term = Term(1);
    let entries: Vec<Entry> = (1..)
        .zip(plan.cluster.initial_changes())
        .map(|(index, change)| Entry {
            term,
            index: Index(index),
            kind: EntryKind::ConfChange,
            data: change.encode(),
        })
        .collect();
    let end = EntryId { term, index: Index(entries.len() as u64) };
    let first = plan.cluster.members().next().map_or(NodeId::NONE, |member| member.id);
    let state = HardState { term, vote: first, commit: end.index };
    let conf_state = plan.cluster.conf_state();
    let metadata = Metadata { node: plan.own, cluster: plan.cluster_id() };
    // The path must be absolute: a relative path of one component has no parent directory to sync.
    let dir = std::path::absolute(&plan.wal_dir).map_err(failed)?;
    let mut log = Wal::create(Arc::new(RealDisk), &dir, &metadata).map_err(failed)?;
    log.append(&entries, state).map_err(failed)?;
    log.sync().map_err(failed)?;
    let items = plan.cluster.to_v2();
    let mut tree = v2store::V2Tree::default();
    let items =
        items.iter().map(|(id, raft, other)| (id.as_str(), raft.as_str(), other.as_deref()));
    tree.set_cluster(items, [], None);
    let data = tree.to_json().into();
    let snap = SnapFile { id: end, conf_state: conf_state.clone(), data };
    wal::snap::save(&RealDisk, &plan.snap_dir(), &snap).map_err(failed)?;
    let record = SnapshotRecord { id: end, conf_state: Some(conf_state) };
    log.save_snapshot(&record).map_err(failed)?;
    log.close().map_err(failed)?;
    Ok(end)
}

/// Rewrites the database for the new cluster: its members and its consistent index.
fn database(plan: &Plan, mut db: Db, end: EntryId) -> CommandResult {
    let latest = latest_revision(&db.view())?;
    let mut tx = db.begin();
    let message = "Trimming membership information from the backend...";
    output::log(Level::Info, concat!(file!(), ":", line!()), message, Object::zap());
    for bucket in MEMBER_BUCKETS {
        tx.delete_bucket(bucket).map_err(failed)?;
        tx.create_bucket(bucket).map_err(failed)?;
    }
    tx.create_bucket(b"meta").map_err(failed)?;
    match plan.bump {
        0 => warn_of_older_revision(latest),
        amount => bump(&mut tx, latest, amount)?,
    }
    for member in plan.cluster.members() {
        log_member(plan, member);
    }
    for write in plan.cluster.all_writes() {
        let value = write.value.unwrap_or_default();
        tx.put(write.table.name().as_bytes(), write.key, value).map_err(failed)?;
    }
    for (key, number) in [("consistent_index", end.index.0), ("term", end.term.0)] {
        let value = Bytes::copy_from_slice(&number.to_be_bytes());
        tx.put(b"meta", Bytes::from_static(key.as_bytes()), value).map_err(failed)?;
    }
    tx.commit().map_err(failed)?;
    Ok(())
}

fn latest_revision(view: &bolt::View) -> CommandResult<i64> {
    let mut cursor = view.cursor(b"key", false);
    let mut latest = 0;
    while let Some((key, _)) = cursor.next().map_err(failed)? {
        let (revision, _) = Revision::from_bytes(&key).map_err(failed)?;
        latest = latest.max(revision.main);
    }
    Ok(latest)
}

/// Clients have usually seen later revisions than the snapshot's. Without `--bump-revision` the new
/// cluster gives the same revisions to other changes, which watchers and caches do not notice.
fn warn_of_older_revision(revision: i64) {
    let message = "the revision goes back to that of the snapshot; watchers and caches that have seen \
                   later revisions will miss changes";
    let advice = "restore with --bump-revision 1000000000 --mark-compacted, or restart all clients that \
                  watch or cache";
    let fields = Object::zap().plain("revision", revision).string("advice", advice);
    output::log(Level::Warn, concat!(file!(), ":", line!()), message, fields);
}

/// Raises the revision, so that no client sees a revision twice, and marks the earlier revisions as
/// compacted.
fn bump(tx: &mut Tx<'_>, latest: i64, amount: i64) -> CommandResult {
    let too_large = || failed("--bump-revision is too large");
    let main = latest.checked_add(amount).ok_or_else(too_large)?;
    let fields = Object::zap()
        .plain("latest-revision", latest)
        .plain("bump-amount", amount)
        .plain("new-latest-revision", main);
    output::log(Level::Info, concat!(file!(), ":", line!()), "bumping latest revision", fields);
    let revision = Bytes::copy_from_slice(&Revision { main, sub: 0 }.to_bytes());
    tx.put(b"key", revision.clone(), Bytes::new()).map_err(failed)?;
    let fields = Object::zap().plain("revision", main);
    output::log(Level::Info, concat!(file!(), ":", line!()), "marking revision compacted", fields);
    tx.put(b"meta", Bytes::from_static(b"scheduledCompactRev"), revision).map_err(failed)
}

fn log_member(plan: &Plan, member: &Member) {
    let urls = list(&member.peer_urls, |url| zap_string(url.as_bytes()));
    let fields = Object::zap()
        .string("cluster-id", &format!("{:x}", plan.cluster_id()))
        .string("local-member-id", "0")
        .string("added-peer-id", &format!("{:x}", member.id))
        .raw("added-peer-peer-urls", &urls)
        .plain("added-peer-is-learner", member.is_learner);
    output::log(Level::Info, concat!(file!(), ":", line!()), "added member", fields);
}
