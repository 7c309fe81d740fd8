//! [`UnsyncedDisk`]: a disk whose files are not synced, for `--unsafe-no-fsync`, and for tests that must
//! detect it.

use crate::{File, LockKind, Mode, Vfs};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk that does not sync the contents of files. Everything else is passed on, the syncs of
/// directories included. A crash of the process loses nothing; one of the machine may lose or damage
/// any file that was written.
#[derive(Debug)]
pub struct UnsyncedDisk {
    disk: Arc<dyn Vfs>,
    is_unsynced: fn(&Path) -> bool,
}

impl UnsyncedDisk {
    /// The same disk without syncs of files.
    #[must_use]
    pub fn new(disk: Arc<dyn Vfs>) -> UnsyncedDisk {
        UnsyncedDisk::of(disk, |_| true)
    }

    /// The same disk without syncs of the files with these paths.
    #[must_use]
    pub fn of(disk: Arc<dyn Vfs>, is_unsynced: fn(&Path) -> bool) -> UnsyncedDisk {
        UnsyncedDisk { disk, is_unsynced }
    }
}

impl Vfs for UnsyncedDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        Ok(if (self.is_unsynced)(path) { Arc::new(UnsyncedFile(file)) } else { file })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

/// An open file of an [`UnsyncedDisk`].
#[derive(Debug)]
struct UnsyncedFile(Arc<dyn File>);

impl File for UnsyncedFile {
    fn path(&self) -> PathBuf {
        self.0.path()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.0.try_read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    /// Does nothing.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        self.0.try_lock(kind)
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.0.unlock(kind)
    }
}
