//! Database files received from other members. The transport writes such a file durably beside the
//! database before consensus learns of its snapshot. The file replaces the database once the
//! snapshot's record is durable in the log. If a crash interrupts this, the next start completes
//! it.
//!
//! Source: etcd v3.7 server/etcdserver/api/snap/db.go (the name), server/storage/backend.go
//! (`OpenSnapshotBackend`, `RecoverSnapshotBackend`).

use backend::{Backend, Bucket, ReadView};
use proto::{EntryId, Index};
use raft::RaftSnapshot;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::Vfs;

/// The page size of a new database, in bytes: the usual page size of the kernel.
const NEW_PAGE_BYTES: usize = 4096;
/// The name of the database.
const DATABASE: &str = "db";
/// The suffix of the names of received files.
const RECEIVED: &str = ".snap.db";

/// The directory of the database file, and the options to open it.
#[derive(Clone, Debug)]
pub(crate) struct DatabasePlace {
    pub(crate) vfs: Arc<dyn Vfs>,
    /// The directory of the file.
    pub(crate) dir: PathBuf,
    /// The limit of the page cache, in bytes.
    pub(crate) cache_bytes: usize,
}

/// The file that was received with the snapshot at this index.
#[must_use]
pub fn path(snap_dir: &Path, index: Index) -> PathBuf {
    snap_dir.join(format!("{:016x}{RECEIVED}", index.0))
}

/// The memory for pages while a received database is checked, in bytes.
const CHECK_CACHE_BYTES: usize = 1 << 20;

/// Checks a received file before it is used: it must be a complete database of a member that has
/// applied the snapshot. Reads all its pages, but does not check the meaning of values. A file that
/// fails the check is refused and does not stop the member.
///
/// # Errors
/// A description of the fault.
pub fn check(vfs: &dyn Vfs, path: &Path, snapshot: &RaftSnapshot) -> Result<(), String> {
    v2store::V2Tree::parse(&snapshot.data).map_err(|error| error.to_string())?;
    let options = bolt::Options {
        new_page_size: NEW_PAGE_BYTES,
        cache: Arc::new(bolt::PageCache::new(CHECK_CACHE_BYTES)),
        read_only: true,
    };
    let database = bolt::Db::open(vfs, path, options).map_err(|error| error.to_string())?;
    let view = database.view();
    view.check().map_err(|error| error.to_string())?;
    for bucket in [Bucket::Key, Bucket::Meta] {
        if !view.has_bucket(bucket.name()) {
            let name = String::from_utf8_lossy(bucket.name());
            return Err(format!("the database has no bucket {name:?}: it is not one of etcd's"));
        }
    }
    let applied = ReadView::of_file(view).applied().map_err(|error| error.to_string())?;
    if applied < snapshot.id {
        return Err(format!(
            "the database has applied only entry {} of term {}, but the snapshot is at entry {} of \
             term {}",
            applied.index, applied.term, snapshot.id.index, snapshot.id.term
        ));
    }
    Ok(())
}

/// Opens the database of the directory, or creates it.
pub(crate) fn open_database(place: &DatabasePlace) -> Result<Backend, backend::Error> {
    let options = bolt::Options {
        new_page_size: NEW_PAGE_BYTES,
        cache: Arc::new(bolt::PageCache::new(place.cache_bytes)),
        read_only: false,
    };
    Backend::open(&*place.vfs, &place.dir.join(DATABASE), options)
}

/// Replaces the database by the received file, and opens it.
pub(crate) fn install(place: &DatabasePlace, index: Index) -> Result<Backend, backend::Error> {
    let (from, to) = (path(&place.dir, index), place.dir.join(DATABASE));
    let failed = |what: &'static str| {
        let file = to.clone();
        move |source| backend::Error::Bolt(bolt::Error::Io { file, what, source })
    };
    place.vfs.rename(&from, &to).map_err(failed("rename"))?;
    place.vfs.sync_dir(&place.dir).map_err(failed("sync the directory of"))?;
    open_database(place)
}

/// Completes a replacement that a crash has interrupted: if the newest snapshot is not in the
/// database, the file that was received with it replaces the database. Other received files are
/// removed.
pub(crate) fn complete(
    place: &DatabasePlace,
    backend: Backend,
    newest: EntryId,
) -> Result<Backend, backend::Error> {
    let is_behind = backend.applied().index < newest.index;
    let has_file = matches!(place.vfs.exists(&path(&place.dir, newest.index)), Ok(true));
    let backend = if is_behind && has_file {
        drop(backend);
        tracing::info!(snapshot_index = newest.index.0, "installing a received database");
        install(place, newest.index)?
    } else {
        backend
    };
    remove_others(&*place.vfs, &place.dir);
    Ok(backend)
}

/// True if there is any received file.
pub(crate) fn any(vfs: &dyn Vfs, dir: &Path) -> bool {
    let names = vfs.list(dir).unwrap_or_default();
    names.iter().any(|name| name.ends_with(RECEIVED))
}

fn remove_others(vfs: &dyn Vfs, dir: &Path) {
    for name in vfs.list(dir).unwrap_or_default() {
        if name.ends_with(RECEIVED)
            && let Err(error) = vfs.remove_file(&dir.join(&name))
        {
            tracing::warn!(%error, name, "a received database cannot be removed");
        }
    }
}
