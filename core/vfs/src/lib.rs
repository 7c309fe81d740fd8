//! The file operations that the project uses: the traits [`Vfs`] and [`File`], the real disk
//! ([`RealDisk`]), one without syncs ([`UnsyncedDisk`]), and a simulated disk that loses unsynced data
//! in a crash ([`SimDisk`]). Paths are not normalized.
//!
//! Invariant: `real.rs` and `lock.rs` are the only files of core that call the operating system.

mod copy;
mod lock;
mod real;
mod sim;
mod unsynced;

pub use copy::{copy_file, copy_tree, create_dir_durable};
pub use real::RealDisk;
pub use sim::{Fault, Injection, Operation, Recorded, SimDisk};
pub use unsynced::UnsyncedDisk;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The file must exist; it is read-only.
    Read,
    /// The file must exist.
    Write,
    /// The file is created (mode 0600) if it does not exist.
    Create,
    /// The file is created (mode 0600) and must not exist.
    CreateNew,
}

/// The kind of a file lock. Go's etcd takes the same kinds, so each excludes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `flock`, for database files as in bbolt.
    Flock,
    /// An open-file-description lock, for WAL segments as in etcd; `flock` on kernels without
    /// them.
    OpenFileDescription,
}

/// A file system.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;

    /// The names of the entries of a directory, sorted.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory exists at `path`.
    ///
    /// # Errors
    /// Errors of the operating system, except that the path does not exist.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Creates a directory (mode 0700) and its missing parents.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file or directory and replaces the target. Durable after [`Vfs::sync_dir`] of
    /// both directories.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and its contents.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Syncs a directory, so that created, renamed and removed names are durable.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes take offsets; there is no file position.
pub trait File: Send + Sync + Debug {
    /// The path that was opened, for messages.
    fn path(&self) -> PathBuf;

    /// The length in bytes.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// True if the length is 0.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads `buf.len()` bytes at `offset`, fewer only at the end of the file. Returns the count.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Like [`File::read_at`], but does not wait for the disk: `None` if the data is not in the
    /// page cache or the file system does not support the check.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `buf`, growing the file as needed.
    ///
    /// # Errors
    /// Errors of the operating system; a part of `buf` may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes written data and the file length durable (`fdatasync`).
    ///
    /// # Errors
    /// Errors of the operating system. Data written before the call may then be lost even though
    /// reads return it, and a later sync does not write it.
    fn sync_data(&self) -> io::Result<()>;

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space up to `len` bytes and extends the file to that length, so that later
    /// writes below it do not change the length.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Tries to lock the file against other processes; false if another process holds the lock.
    /// The lock is released by [`File::unlock`] or when the last handle is dropped.
    ///
    /// # Errors
    /// Errors of the operating system.
    fn try_lock(&self, kind: LockKind) -> io::Result<bool>;

    /// Releases a lock taken by [`File::try_lock`].
    ///
    /// # Errors
    /// Errors of the operating system.
    fn unlock(&self, kind: LockKind) -> io::Result<()>;
}
