//! Faults: which calls fail, and how.

use std::io;
use std::path::Path;

/// The kind of a call to the disk. Every call except [`Operation::Read`] is a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`crate::File::read_at`], [`crate::File::try_read_at`].
    Read,
    /// [`crate::File::write_at`].
    Write,
    /// [`crate::File::sync_data`].
    Sync,
    /// [`crate::File::set_len`].
    SetLen,
    /// [`crate::File::allocate`].
    Allocate,
    /// [`crate::Vfs::open`] when it creates the file.
    Create,
    /// [`crate::Vfs::create_dir_all`] when it creates a directory.
    CreateDir,
    /// [`crate::Vfs::rename`].
    Rename,
    /// [`crate::Vfs::remove_file`], [`crate::Vfs::remove_dir_all`].
    Remove,
    /// [`crate::Vfs::sync_dir`].
    SyncDir,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. A write writes half of its bytes. A sync writes some of the dirty
    /// sectors; the others stay readable but are never written.
    Io,
    /// No space left on the device. A write writes half of its bytes.
    NoSpace,
    /// The machine stops during the call: its effect is not durable, and all later calls fail.
    Stop,
    /// A read succeeds and returns one wrong bit.
    BitFlip,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Fault::Io | Fault::BitFlip => io::Error::from(rustix::io::Errno::IO),
            Fault::NoSpace => io::Error::from(rustix::io::Errno::NOSPC),
            Fault::Stop => io::Error::other("the simulated machine stops"),
        }
    }
}

/// A fault that is armed for the first matching call.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The kind of call; any if `None`.
    pub operation: Option<Operation>,
    /// A part of the path.
    pub path: String,
    /// The number of the call among all points; any if `None`.
    pub point: Option<u64>,
    /// The number of matching calls that succeed first.
    pub skip: u64,
    /// How the call fails.
    pub fault: Fault,
    /// Whether later matching calls fail, too.
    pub lasting: bool,
}

impl Injection {
    /// Makes the first call of a kind fail, on any path.
    #[must_use]
    pub fn first(operation: Operation, fault: Fault) -> Injection {
        let path = String::new();
        Injection { operation: Some(operation), path, point: None, skip: 0, fault, lasting: false }
    }

    /// Makes the call with this point number fail.
    #[must_use]
    pub fn at(point: u64, fault: Fault) -> Injection {
        let path = String::new();
        Injection { operation: None, path, point: Some(point), skip: 0, fault, lasting: false }
    }

    /// Whether the fault hits a call; counts down [`Injection::skip`].
    pub(super) fn hits(&mut self, operation: Operation, path: &Path, points: u64) -> bool {
        let of_kind = self.operation.is_none_or(|wanted| wanted == operation);
        let there = path.to_string_lossy().contains(&self.path);
        let due = self.point.is_none_or(|point| point == points && operation != Operation::Read);
        if !(of_kind && there && due) {
            return false;
        }
        let hit = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        hit
    }
}
