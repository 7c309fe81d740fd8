//! Faults: which calls fail, and how.

use std::io;
use std::path::Path;

/// What a call to the disk does. Each but [`Operation::Read`] is a point.
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
    /// [`crate::Vfs::open`] when it makes the file.
    Create,
    /// [`crate::Vfs::create_dir_all`] when it makes a directory.
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
    /// An input/output error. Half of a write is done; some of what a sync was to write reaches
    /// the disk and the rest never will, though reads still show it.
    Io,
    /// No space left on the device. Half of a write is done.
    NoSpace,
    /// The machine stops in the middle: what the call did is not durable, and every call from
    /// now on fails.
    Stop,
    /// A read succeeds with one bit wrong.
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

/// A fault that waits for the first call that fits.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The kind of call; any if `None`.
    pub operation: Option<Operation>,
    /// What the path contains.
    pub path: String,
    /// The number of the call among all points; any if `None`.
    pub point: Option<u64>,
    /// How many calls that fit go by unharmed.
    pub skip: u64,
    /// What happens.
    pub fault: Fault,
    /// Whether it happens again and again.
    pub lasting: bool,
}

impl Injection {
    /// The first call of a kind fails, on any path.
    #[must_use]
    pub fn first(operation: Operation, fault: Fault) -> Injection {
        let path = String::new();
        Injection { operation: Some(operation), path, point: None, skip: 0, fault, lasting: false }
    }

    /// The call with this number fails.
    #[must_use]
    pub fn at(point: u64, fault: Fault) -> Injection {
        let path = String::new();
        Injection { operation: None, path, point: Some(point), skip: 0, fault, lasting: false }
    }

    /// Whether a call meets the fault; counts down the calls that are skipped.
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
