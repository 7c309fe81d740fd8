//! `backup`: copies the data directory of a member that is not running into one for a new cluster
//! of one member. An etcd starts on it with `--force-new-cluster`.
//!
//! Entries about members are replaced by empty ones, so that the index of no entry changes.
//!
//! Source: etcd v3.5.30 etcdutl/etcdutl/backup_command.go.

use crate::database::{self, Access};
use crate::defrag::{copy, refuse_newer};
use crate::failure::{Code, CommandResult, Failure};
use crate::{output, storage};
use bytes::Bytes;
use cli::Parsed;
use cli::json::Object;
use cli::log::Level;
use cluster::{Cluster, Table};
use proto::{Entry, EntryId, EntryKind, HardState, Index};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use v2store::{EntryPayload, V2Tree};
use vfs::RealDisk;
use wal::snap::SnapFile;
use wal::{OpenAt, Recovered, SnapshotRecord, Wal};

/// The name and the URL of the only member, as etcd sets them.
const NAME: &str = "etcdctl-v2-backup";
const URL: &str = "http://use-flag--force-new-cluster:2080";
/// The buckets that describe the old cluster.
const CLUSTER_BUCKETS: [&[u8]; 3] = [b"cluster", b"members", b"members_removed"];

/// The directories of a member.
struct Directories {
    data: PathBuf,
    wal: PathBuf,
}

impl Directories {
    fn new(data: String, wal: String) -> Directories {
        let data = PathBuf::from(data);
        let wal = match wal {
            wal if wal.is_empty() => data.join("member").join("wal"),
            wal => PathBuf::from(wal),
        };
        Directories { data, wal }
    }

    fn snap(&self) -> PathBuf {
        self.data.join("member").join("snap")
    }

    fn db(&self) -> PathBuf {
        self.snap().join("db")
    }
}

pub(crate) fn backup(parsed: &Parsed) -> CommandResult {
    let flags = &parsed.flags;
    let from = Directories::new(flags.text("data-dir"), flags.text("wal-dir"));
    let to = Directories::new(flags.text("backup-dir"), flags.text("backup-wal-dir"));
    let (with_v3, wait) = (flags.bool("with-v3"), flags.duration("timeout"));
    refuse_existing(&to)?;
    vfs::create_dir_durable(&RealDisk, &to.snap()).map_err(failed)?;
    let cluster = new_cluster()?;
    let snap = newest_snap(&from)?;
    let after = snap.as_ref().map(|snap| snap.id).unwrap_or_default();
    let log = wal::read(&RealDisk, &from.wal, &OpenAt::new(after, Index(0))).map_err(failed)?;
    let entries = translate(&log.entries, with_v3)?;
    match with_v3 {
        true => copy_database(&from, &to, wait)?,
        false => drop(database::create_new(&to.db())?),
    }
    let applied = (!with_v3).then_some(log.hard_state);
    adapt_database(&to, &cluster, applied)?;
    let snapshot = snap.map(|snap| save_snap(&to, snap, &cluster)).transpose()?;
    write_log(&to, &log, &entries, snapshot)
}

fn failed(error: impl ToString) -> Failure {
    Code::Error.with(error)
}

fn log(message: &str, index: Index) {
    let fields = Object::zap().plain("index", index.0);
    output::log(Level::Info, concat!(file!(), ":", line!()), message, fields);
}

/// Fails if there is a backup already, which this one would mix with.
fn refuse_existing(to: &Directories) -> CommandResult {
    for path in [to.db(), to.wal.clone()] {
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(failed(format!("{} exists", path.display())));
        }
    }
    Ok(())
}

/// A cluster with one member, whose id no other backup has.
fn new_cluster() -> CommandResult<Cluster> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let members = [(NAME.to_string(), vec![URL.to_string()])];
    let cluster = Cluster::initial(&members, &format!("backup {}", now.as_nanos()));
    cluster.ok_or_else(|| failed("the new member has the id 0"))
}

/// The newest intact `.snap` file that the log has a record of. Nothing is changed.
fn newest_snap(from: &Directories) -> CommandResult<Option<SnapFile>> {
    let known = wal::valid_snapshots(&RealDisk, &from.wal).map_err(failed)?;
    let mut broken = None;
    for record in known.iter().rev().filter(|record| record.id != EntryId::default()) {
        match wal::snap::load(&RealDisk, &from.snap(), record.id) {
            Ok(snap) => return Ok(Some(snap)),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    match broken {
        Some(error) => Err(failed(error)),
        None => Ok(None),
    }
}

/// The entries of the backup. Those about members are empty, and without `with_v3` also those of
/// the v3 API.
fn translate(entries: &[Entry], with_v3: bool) -> CommandResult<Vec<Entry>> {
    let mut translated = Vec::with_capacity(entries.len());
    for entry in entries {
        let keeps = match ignored(entry, with_v3)? {
            Some(what) => {
                log(&format!("ignoring {what}"), entry.index);
                false
            }
            None => true,
        };
        let (kind, data) = match keeps {
            true => (entry.kind, entry.data.clone()),
            false => (EntryKind::Normal, Bytes::new()),
        };
        translated.push(Entry { term: entry.term, index: entry.index, kind, data });
    }
    Ok(translated)
}

/// What an entry is, if the backup does not keep it.
fn ignored(entry: &Entry, with_v3: bool) -> CommandResult<Option<&'static str>> {
    if entry.kind != EntryKind::Normal {
        return Ok(Some("a change of the members"));
    }
    if entry.data.is_empty() {
        return Ok(None);
    }
    let payload = v2store::classify(&entry.data);
    let payload = payload.map_err(|error| failed(format!("entry {}: {error}", entry.index)))?;
    Ok(match payload {
        EntryPayload::V2(request)
            if request.method() == "PUT" && is_member_attributes(request.path()) =>
        {
            Some("the attributes of a member")
        }
        EntryPayload::Request(request) if request.cluster_member_attr_set.is_some() => {
            Some("the attributes of a member")
        }
        EntryPayload::Request(request) if !with_v3 && request.header.is_some() => {
            Some("a request of the v3 API")
        }
        EntryPayload::V2(_) | EntryPayload::Request(_) => None,
    })
}

/// Whether a path of the v2 store is `/0/members/ID/attributes`.
fn is_member_attributes(path: &str) -> bool {
    let id = path.strip_prefix("/0/members/").and_then(|path| path.strip_suffix("/attributes"));
    id.is_some_and(|id| (1..=16).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn copy_database(from: &Directories, to: &Directories, wait: Duration) -> CommandResult {
    database::must_exist(&from.db())?;
    let db = database::open(&from.db(), Access::Read, wait)?;
    refuse_newer(storage::detect(&db.view())?)?;
    copy(&db.view(), &to.db()).map(drop)
}

/// Replaces the members in the database. `applied` is the index that a new database gets; a copied
/// one keeps its own.
fn adapt_database(
    to: &Directories,
    cluster: &Cluster,
    applied: Option<HardState>,
) -> CommandResult {
    const NO_WAIT: Duration = Duration::from_secs(1);
    let mut db = database::open(&to.db(), Access::Write, NO_WAIT)?;
    let mut tx = db.begin();
    for bucket in CLUSTER_BUCKETS {
        tx.delete_bucket(bucket).map_err(failed)?;
    }
    for bucket in &CLUSTER_BUCKETS[1..] {
        tx.create_bucket(bucket).map_err(failed)?;
    }
    for write in cluster.all_writes().into_iter().filter(|write| write.table == Table::Members) {
        let value = write.value.unwrap_or_default();
        tx.put(write.table.name().as_bytes(), write.key, value).map_err(failed)?;
    }
    if let Some(state) = applied {
        tx.create_bucket(b"meta").map_err(failed)?;
        for (key, number) in [("consistent_index", state.commit.0), ("term", state.term.0)] {
            let value = Bytes::copy_from_slice(&number.to_be_bytes());
            tx.put(b"meta", Bytes::from_static(key.as_bytes()), value).map_err(failed)?;
        }
    }
    tx.commit().map(drop).map_err(failed)
}

/// Saves a `.snap` file with the new cluster; returns its record for the log.
fn save_snap(to: &Directories, snap: SnapFile, cluster: &Cluster) -> CommandResult<SnapshotRecord> {
    let mut tree = V2Tree::parse(&snap.data).map_err(failed)?;
    let version = tree.version().map(str::to_string);
    let items = cluster.to_v2();
    let items =
        items.iter().map(|(id, raft, other)| (id.as_str(), raft.as_str(), other.as_deref()));
    tree.set_cluster(items, [], version.as_deref());
    let conf_state = cluster.conf_state();
    let data = tree.to_json().into();
    let new = SnapFile { id: snap.id, conf_state: conf_state.clone(), data };
    wal::snap::save(&RealDisk, &to.snap(), &new).map_err(failed)?;
    Ok(SnapshotRecord { id: snap.id, conf_state: Some(conf_state) })
}

fn write_log(
    to: &Directories,
    log: &Recovered,
    entries: &[Entry],
    snapshot: Option<SnapshotRecord>,
) -> CommandResult {
    // The path must be absolute: a relative path of one component has no parent directory to sync.
    let dir = std::path::absolute(&to.wal).map_err(failed)?;
    let mut new = Wal::create(Arc::new(RealDisk), &dir, &log.metadata).map_err(failed)?;
    if let Some(snapshot) = &snapshot {
        new.save_snapshot(snapshot).map_err(failed)?;
        new.follow_snapshot(snapshot.id);
    }
    new.append(entries, log.hard_state).map_err(failed)?;
    new.sync().map_err(failed)?;
    new.close().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::Term;
    use proto::etcdserverpb::{InternalRaftRequest, Request, RequestHeader};

    fn entry(kind: EntryKind, data: Vec<u8>) -> Entry {
        Entry { term: Term(2), index: Index(7), kind, data: data.into() }
    }

    fn put_v2(path: &str) -> Entry {
        let (method, path) = (Some("PUT".into()), Some(path.into()));
        entry(EntryKind::Normal, Request { method, path, ..Default::default() }.encode_to_vec())
    }

    fn request(request: InternalRaftRequest) -> Entry {
        entry(EntryKind::Normal, request.encode_to_vec())
    }

    #[test]
    fn entries_about_members_become_empty() {
        let header = Some(RequestHeader { id: 1, ..RequestHeader::default() });
        let put = InternalRaftRequest {
            header: header.clone(),
            put: Some(Default::default()),
            ..Default::default()
        };
        let attributes = InternalRaftRequest {
            header,
            cluster_member_attr_set: Some(Default::default()),
            ..Default::default()
        };
        let kept = |entry: Entry, with_v3| {
            let translated = translate(std::slice::from_ref(&entry), with_v3).unwrap().remove(0);
            assert_eq!(translated.id(), entry.id());
            let is_empty = translated.kind == EntryKind::Normal && translated.data.is_empty();
            assert!(is_empty || translated == entry);
            !is_empty
        };
        assert!(!kept(entry(EntryKind::ConfChange, vec![1]), true));
        assert!(!kept(put_v2("/0/members/8e9e05c52164694d/attributes"), true));
        assert!(kept(put_v2("/0/version"), true));
        assert!(kept(put_v2("/1/members/8e9e05c52164694d/attributes"), true));
        assert!(!kept(request(attributes), true));
        assert!(kept(request(put.clone()), true));
        assert!(!kept(request(put), false));
        // The first entry of a leader.
        assert!(!kept(entry(EntryKind::Normal, Vec::new()), true));
        assert!(translate(&[entry(EntryKind::Normal, vec![0xff])], true).is_err());
    }
}
