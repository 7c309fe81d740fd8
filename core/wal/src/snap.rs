//! The `.snap` files: the raft snapshots of a member, each `<term>-<index>.snap`. Layout (etcd
//! server/etcdserver/api/snap/snapshotter.go @ v3.7.1): `snappb.snapshot { crc, data }`, where
//! `data` is a `raftpb.Snapshot` and `crc` its crc32c. What the snapshot's own data means is not
//! known here (it is the v2 store as JSON; see `v2store`).
//!
//! Written beside its name and renamed: unlike etcd's, a file under its name is always whole.

use crate::error::Error;
use crate::metadata::SnapshotRecord;
use crate::name::hex;
use bytes::Bytes;
use crc32c::crc32c;
use prost::Message as _;
use proto::{ConfState, EntryId, Index, Term, raftpb, snappb};
use std::path::{Path, PathBuf};
use vfs::{Mode, Vfs};

/// A raft snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapFile {
    /// The last entry that it holds.
    pub id: EntryId,
    /// The configuration there.
    pub conf_state: ConfState,
    /// The v2 store as JSON.
    pub data: Bytes,
}

/// What [`load_newest_valid`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest snapshot that can be read and that the log vouches for.
    pub snap: Option<SnapFile>,
    /// Files that could not be read, newest first: each was renamed to `<name>.broken`.
    pub broken: Vec<Broken>,
}

/// A `.snap` file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The name that it had.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// The name of a snapshot's file.
#[must_use]
pub fn file_name(id: EntryId) -> String {
    format!("{:016x}-{:016x}.snap", id.term.0, id.index.0)
}

fn parse_name(name: &str) -> Option<EntryId> {
    let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
    Some(EntryId { term: Term(hex(term)?), index: Index(hex(index)?) })
}

/// The bytes of a `.snap` file.
#[must_use]
pub fn encode(snap: &SnapFile) -> Vec<u8> {
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(snap.conf_state.to_pb()),
        index: Some(snap.id.index.0),
        term: Some(snap.id.term.0),
    };
    let inner = raftpb::Snapshot { data: Some(snap.data.clone()), metadata: Some(metadata) };
    let data = inner.encode_to_vec();
    snappb::Snapshot { crc: Some(crc32c(&data)), data: Some(data.into()) }.encode_to_vec()
}

/// Reads the bytes of a `.snap` file.
///
/// # Errors
/// What is wrong with them, in words.
pub fn decode(bytes: Bytes) -> Result<SnapFile, String> {
    let unreadable = |error: prost::DecodeError| format!("not a snapshot: {error}");
    let outer = snappb::Snapshot::decode(bytes).map_err(unreadable)?;
    let data = outer.data.unwrap_or_default();
    if data.is_empty() || outer.crc.unwrap_or_default() == 0 {
        return Err("an empty snapshot".to_owned());
    }
    if outer.crc != Some(crc32c(&data)) {
        return Err("its crc does not match".to_owned());
    }
    let inner = raftpb::Snapshot::decode(data).map_err(unreadable)?;
    let metadata = inner.metadata.unwrap_or_default();
    let term = Term(metadata.term.unwrap_or_default());
    let index = Index(metadata.index.unwrap_or_default());
    Ok(SnapFile {
        id: EntryId { term, index },
        conf_state: ConfState::from_pb(metadata.conf_state.unwrap_or_default()),
        data: inner.data.unwrap_or_default(),
    })
}

/// Writes a snapshot's file; it is durable on return.
///
/// # Errors
/// [`Error::Io`]; there is no new file then.
pub fn save(vfs: &dyn Vfs, dir: &Path, snap: &SnapFile) -> Result<(), Error> {
    let name = file_name(snap.id);
    // Every etcd removes names with this beginning when it starts.
    let building = dir.join(format!("tmp-{name}"));
    let written = write_synced(vfs, &building, &encode(snap));
    if written.is_err() && matches!(vfs.exists(&building), Ok(true)) {
        vfs.remove_file(&building).unwrap_or_default();
    }
    written?;
    let path = dir.join(name);
    vfs.rename(&building, &path).map_err(Error::io(&path, "rename"))?;
    vfs.sync_dir(dir).map_err(Error::io(dir, "sync"))
}

fn write_synced(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = vfs.open(path, Mode::Create).map_err(Error::io(path, "create"))?;
    file.set_len(0).map_err(Error::io(path, "empty"))?;
    file.write_at(bytes, 0).map_err(Error::io(path, "write"))?;
    file.sync_data().map_err(Error::io(path, "sync"))
}

/// Reads one snapshot's file.
///
/// # Errors
/// [`Error::Corrupt`] if it is damaged, or another than its name says; [`Error::Io`].
pub fn load(vfs: &dyn Vfs, dir: &Path, id: EntryId) -> Result<SnapFile, Error> {
    let path = dir.join(file_name(id));
    let snap = load_file(vfs, &path)?;
    if snap.id == id { Ok(snap) } else { Err(Error::corrupt(&path, 0, "another snapshot")) }
}

fn load_file(vfs: &dyn Vfs, path: &Path) -> Result<SnapFile, Error> {
    let file = vfs.open(path, Mode::Read).map_err(Error::io(path, "open"))?;
    let len = file.len().map_err(Error::io(path, "measure"))?;
    let len = usize::try_from(len).map_err(|_| Error::corrupt(path, 0, "larger than memory"))?;
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, 0).map_err(Error::io(path, "read"))?;
    bytes.truncate(got);
    decode(bytes.into()).map_err(|what| Error::corrupt(path, 0, what))
}

/// The newest snapshot that can be read and is one of those the log vouches for
/// ([`crate::valid_snapshots`]). Files that cannot be read are renamed to `<name>.broken`, as etcd
/// does.
///
/// # Errors
/// [`Error::Io`].
pub fn load_newest_valid(
    vfs: &dyn Vfs,
    dir: &Path,
    known: &[SnapshotRecord],
) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    for (_, name) in names(vfs, dir)?.into_iter().rev() {
        let path = dir.join(name);
        match load_file(vfs, &path) {
            Ok(snap) if known.iter().any(|record| record.id == snap.id) => {
                loaded.snap = Some(snap);
                break;
            }
            Ok(_) => {}
            Err(Error::Corrupt { file, what, .. }) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".broken");
                vfs.rename(&path, Path::new(&aside)).map_err(Error::io(&path, "rename"))?;
                loaded.broken.push(Broken { file, what });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(loaded)
}

/// The snapshot files in a directory, oldest first: by term, then index.
fn names(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<(EntryId, String)>, Error> {
    if !vfs.exists(dir).map_err(Error::io(dir, "look for"))? {
        return Ok(Vec::new());
    }
    let names = vfs.list(dir).map_err(Error::io(dir, "list"))?;
    let mut found: Vec<_> =
        names.into_iter().filter_map(|name| Some((parse_name(&name)?, name))).collect();
    found.sort_unstable();
    Ok(found)
}

/// Removes the oldest `.snap` files until `files_max` are left (0: removes none), and returns the
/// paths of the removed ones. A file that cannot be removed stays; this is logged.
pub fn purge(vfs: &dyn Vfs, dir: &Path, files_max: usize) -> Vec<PathBuf> {
    let names = names(vfs, dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to look for old .snap files");
        Vec::new()
    });
    let surplus = if files_max == 0 { 0 } else { names.len().saturating_sub(files_max) };
    remove(vfs, dir, names.into_iter().take(surplus).map(|(_, name)| name))
}

/// Removes databases that were received with snapshots before `index` (`<index>.snap.db`), like
/// [`purge`].
pub fn release_databases(vfs: &dyn Vfs, dir: &Path, index: Index) -> Vec<PathBuf> {
    let is_old =
        |name: &String| name.strip_suffix(".snap.db").and_then(hex).is_some_and(|of| of < index.0);
    remove(vfs, dir, list(vfs, dir).into_iter().filter(is_old))
}

/// Removes files that an interrupted operation left: names that begin with `tmp`, and `db.tmp*` of
/// a defragmentation. Like [`purge`].
pub fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) -> Vec<PathBuf> {
    let is_leftover = |name: &String| name.starts_with("tmp") || name.starts_with("db.tmp");
    remove(vfs, dir, list(vfs, dir).into_iter().filter(is_leftover))
}

fn list(vfs: &dyn Vfs, dir: &Path) -> Vec<String> {
    vfs.list(dir).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %dir.display(), "failed to look for old files");
        Vec::new()
    })
}

fn remove(vfs: &dyn Vfs, dir: &Path, names: impl Iterator<Item = String>) -> Vec<PathBuf> {
    let mut removed = Vec::new();
    for name in names {
        let path = dir.join(name);
        match vfs.remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "failed to remove an old file");
            }
        }
    }
    removed
}
