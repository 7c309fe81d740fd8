//! [`RealDisk`]: the files of the operating system.
//!
//! The lock kinds are those of Go's etcd, so that a Go process and ours exclude each other
//! (etcd client/pkg/fileutil/lock_linux.go @ v3.7.1; bbolt internal bolt_unix.go @ v1.5.0).
#![expect(
    clippy::disallowed_methods,
    reason = "only this file of the core opens files; other code uses Vfs"
)]

use crate::lock;
use crate::{File, LockKind, Mode, Vfs};
use rustix::io::Errno;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Vfs for RealDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            Mode::Read => {}
            Mode::Write => {
                options.write(true);
            }
            Mode::Create => {
                options.write(true).create(true);
            }
            Mode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path)?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

struct RealFile {
    file: fs::File,
    path: PathBuf,
}

impl fmt::Debug for RealFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RealFile").field(&self.path).finish()
    }
}

impl File for RealFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut done = 0;
        while done < buf.len() {
            match read_cached(&self.file, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(done))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match reserve(&self.file, len) {
            Ok(()) => Ok(()),
            // As in etcd: without support for reservation the file is extended with a hole.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
                if self.len()? < len {
                    self.file.set_len(len)
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        match kind {
            LockKind::Flock => lock::try_flock(&self.file),
            LockKind::OpenFileDescription => lock::try_whole_file(&self.file),
        }
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        match kind {
            LockKind::Flock => lock::unlock_flock(&self.file),
            LockKind::OpenFileDescription => lock::unlock_whole_file(&self.file),
        }
    }
}

#[cfg(target_os = "linux")]
fn read_cached(file: &fs::File, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    use rustix::io::{ReadWriteFlags, preadv2};
    preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &fs::File, _: &mut [u8], _: u64) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &fs::File, _: u64) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        RealDisk.create_dir_all(&path).unwrap();
        let name = path.join("f");
        assert!(RealDisk.open(&name, Mode::Read).is_err());
        let file = RealDisk.open(&name, Mode::CreateNew).unwrap();
        assert!(RealDisk.open(&name, Mode::CreateNew).is_err());
        file.allocate(10_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        file.write_at(b"hello", 9_998).unwrap();
        file.sync_data().unwrap();
        let mut buf = [7; 8];
        assert_eq!(file.read_at(&mut buf, 9_996).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0hello");
        if let Some(count) = file.try_read_at(&mut buf, 9_998).unwrap() {
            assert_eq!(&buf[..count], b"hello");
        }
        assert_eq!(file.try_read_at(&mut buf, 20_000).unwrap().unwrap_or_default(), 0);
        file.set_len(9_999).unwrap();
        file.allocate(5).unwrap();
        assert_eq!(file.len().unwrap(), 9_999);
        RealDisk.sync_dir(&path).unwrap();
        RealDisk.rename(&name, &path.join("g")).unwrap();
        assert_eq!(RealDisk.list(&path).unwrap(), ["g"]);
        assert!(!RealDisk.exists(&name).unwrap());
        RealDisk.remove_file(&path.join("g")).unwrap();
        RealDisk.remove_dir_all(&dir.path().join("a")).unwrap();
        assert!(RealDisk.list(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_lock_excludes_other_handles_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [LockKind::Flock, LockKind::OpenFileDescription] {
            let name = dir.path().join(format!("{kind:?}"));
            let one = RealDisk.open(&name, Mode::Create).unwrap();
            let two = RealDisk.open(&name, Mode::Write).unwrap();
            assert!(one.try_lock(kind).unwrap());
            assert!(one.try_lock(kind).unwrap(), "the holder may ask again");
            assert!(!two.try_lock(kind).unwrap());
            one.unlock(kind).unwrap();
            assert!(two.try_lock(kind).unwrap());
            drop(two);
            assert!(one.try_lock(kind).unwrap(), "a lock goes with its handle");
        }
    }
}
