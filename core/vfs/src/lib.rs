//! The file operations that the project uses, and nothing more: [`Vfs`] and [`File`], the real
//! disk behind them ([`RealDisk`]), and a simulated one that loses what was not synced
//! ([`SimDisk`]). Paths are taken as they are given.
//!
//! Invariant: `real.rs` is the only file of the core that touches the operating system.

mod copy;
mod lock;
mod real;
mod sim;

pub use copy::{copy_file, copy_tree, create_dir_durable};
pub use real::RealDisk;
pub use sim::{Fault, Injection, Operation, Recorded, SimDisk};

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must exist; it cannot be written.
    Read,
    /// It must exist.
    Write,
    /// It is made (mode 0600) if it does not exist.
    Create,
    /// It is made (mode 0600); it is an error if it exists.
    CreateNew,
}

/// Which lock keeps other processes, Go's etcd among them, off a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `flock`, as bbolt takes on its file.
    Flock,
    /// An open-file-description lock, as etcd takes on WAL segments; `flock` where the kernel
    /// lacks them.
    OpenFileDescription,
}

/// A file system.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// True if there is a file or directory.
    ///
    /// # Errors
    /// As the operating system says, other than that there is none.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes a directory (mode 0700) and those above it that are missing.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Puts a file or directory in another's place. Durable after [`Vfs::sync_dir`] of the
    /// directories concerned.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and what is in it.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes are at offsets; there is no position.
pub trait File: Send + Sync + Debug {
    /// The path by which it was opened, for messages.
    fn path(&self) -> PathBuf;

    /// The length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// True if the length is 0.
    ///
    /// # Errors
    /// As the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buf.len()` bytes; less only at the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Like [`File::read_at`], but never waits for the disk: `None` if it would have to, or if
    /// the file system cannot tell.
    ///
    /// # Errors
    /// As the operating system says.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `buf`, growing the file as needed.
    ///
    /// # Errors
    /// As the operating system says; the file may then hold a part.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written, and the length, durable (`fdatasync`).
    ///
    /// # Errors
    /// As the operating system says. The file must not be trusted afterwards.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file, or grows it by zeros.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space up to `len` and grows the file to it, so that later writes below it do
    /// not change its length.
    ///
    /// # Errors
    /// As the operating system says.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Tries to lock the file against other processes; false if one of them holds it. The lock
    /// goes with the file's last handle, or with [`File::unlock`].
    ///
    /// # Errors
    /// As the operating system says.
    fn try_lock(&self, kind: LockKind) -> io::Result<bool>;

    /// Gives a lock of [`File::try_lock`] back.
    ///
    /// # Errors
    /// As the operating system says.
    fn unlock(&self, kind: LockKind) -> io::Result<()>;
}
