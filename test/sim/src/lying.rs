//! A disk that reports syncs of the log as done without doing them. The crash checks must detect
//! it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{File, LockKind, Mode, SimDisk, Vfs};

/// The disk.
#[derive(Debug)]
pub(crate) struct LyingDisk(pub(crate) SimDisk);

#[derive(Debug)]
struct LyingFile(Arc<dyn File>);

impl Vfs for LyingDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        let is_log = path.parent().is_some_and(|dir| dir.ends_with("wal"));
        Ok(if is_log { Arc::new(LyingFile(file)) } else { file })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
}

impl File for LyingFile {
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
