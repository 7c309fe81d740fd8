//! The `.snap` files: the raft snapshots of a member, each `<term>-<index>.snap`. Layout (etcd
//! server/etcdserver/api/snap/snapshotter.go @ v3.7.1): `snappb.snapshot { crc, data }`, where
//! `data` is a `raftpb.Snapshot` and `crc` its crc32c. The data of the snapshot is the v2 store as
//! JSON (`v2store`), which is not interpreted here.
//!
//! A file is written under a temporary name and renamed, so unlike etcd's it is never incomplete.

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
    /// The last entry that it contains.
    pub id: EntryId,
    /// The configuration at that entry.
    pub conf_state: ConfState,
    /// The v2 store as JSON.
    pub data: Bytes,
}

/// The result of [`load_newest_valid`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest snapshot that is intact and has a record in the log.
    pub snap: Option<SnapFile>,
    /// Damaged files, newest first. Each was renamed to `<name>.broken`.
    pub broken: Vec<Broken>,
}

/// A damaged `.snap` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its path before it was renamed.
    pub file: PathBuf,
    /// The kind of damage.
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

/// Decodes a `.snap` file.
///
/// # Errors
/// A description of the damage.
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

/// Writes a `.snap` file. It is durable on return.
///
/// # Errors
/// [`Error::Io`]. The file may exist only if the sync of the directory failed; it has no record in
/// the log then, and is ignored.
pub fn save(vfs: &dyn Vfs, dir: &Path, snap: &SnapFile) -> Result<(), Error> {
    EncodedSnap::new(snap).save(vfs, dir)
}

/// The bytes of a `.snap` file that is not written yet.
#[derive(Clone, Debug)]
pub struct EncodedSnap {
    id: EntryId,
    bytes: Vec<u8>,
}

impl EncodedSnap {
    /// Encodes a snapshot.
    #[must_use]
    pub fn new(snap: &SnapFile) -> EncodedSnap {
        EncodedSnap { id: snap.id, bytes: encode(snap) }
    }

    /// Saves it as [`save`] does.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
        let name = file_name(self.id);
        // etcd removes files with this prefix when it starts.
        let building = dir.join(format!("tmp-{name}"));
        let written = write_synced(vfs, &building, &self.bytes);
        if written.is_err() && matches!(vfs.exists(&building), Ok(true)) {
            vfs.remove_file(&building).unwrap_or_default();
        }
        written?;
        let path = dir.join(name);
        vfs.rename(&building, &path).map_err(Error::io(&path, "rename"))?;
        vfs.sync_dir(dir).map_err(Error::io(dir, "sync"))
    }
}

fn write_synced(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = vfs.open(path, Mode::Create).map_err(Error::io(path, "create"))?;
    file.set_len(0).map_err(Error::io(path, "empty"))?;
    file.write_at(bytes, 0).map_err(Error::io(path, "write"))?;
    file.sync_data().map_err(Error::io(path, "sync"))
}

/// Reads the `.snap` file of one snapshot.
///
/// # Errors
/// [`Error::Corrupt`] if it is damaged or its content does not fit its name; [`Error::Io`].
pub fn load(vfs: &dyn Vfs, dir: &Path, id: EntryId) -> Result<SnapFile, Error> {
    let path = dir.join(file_name(id));
    let snap = load_file(vfs, &path)?;
    if snap.id == id {
        Ok(snap)
    } else {
        Err(Error::corrupt(&path, 0, "its content is another snapshot"))
    }
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

/// Reads the newest intact snapshot that has a record in the log (`known`, from
/// [`crate::valid_snapshots`]). Damaged files are renamed to `<name>.broken`, as etcd does.
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
                let mut broken = path.as_os_str().to_owned();
                broken.push(".broken");
                vfs.rename(&path, Path::new(&broken)).map_err(Error::io(&path, "rename"))?;
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
    let mut names: Vec<_> =
        names.into_iter().filter_map(|name| Some((parse_name(&name)?, name))).collect();
    names.sort_unstable();
    Ok(names)
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
