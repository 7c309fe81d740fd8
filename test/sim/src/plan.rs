//! The parameters of a run, and the kinds of its calls to the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use vfs::{Operation, Recorded};

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of requests, scheduler and images.
    pub seed: u64,
    /// The number of requests.
    pub operations: u64,
    /// Images are taken of every point whose number is a multiple of this.
    pub every: u64,
    /// The number of images of each point.
    pub images: u64,
    /// If set, images are taken of this point only.
    pub point: Option<u64>,
    /// Threads that check images.
    pub threads: usize,
    /// The number of points whose databases are kept for other programs.
    pub kept: u64,
    /// The disk ignores syncs of the log, which the checks must detect.
    pub lies: bool,
}

/// A kind of point: the call and the kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The call.
    pub call: &'static str,
    /// The kind of file.
    pub file: &'static str,
}

impl Kind {
    pub(crate) fn of(recorded: &Recorded) -> Kind {
        Kind { call: call(recorded.operation), file: file(&recorded.path) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.file)
    }
}

fn call(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Sync => "sync",
        Operation::SetLen => "truncate",
        Operation::Allocate => "allocate",
        Operation::Create => "create",
        Operation::CreateDir => "make",
        Operation::Rename => "rename",
        Operation::Remove => "remove",
        Operation::SyncDir => "sync",
    }
}

fn file(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match (&*name, &*extension) {
        ("db", _) => "database",
        // A file keeps the name by which it was opened: a segment is created under the spare's.
        (_, "wal") => "segment",
        (_, "snap") => ".snap",
        (_, "broken") => "torn copy",
        (_, "tmp") if name != "wal.tmp" => "segment",
        _ => "directory",
    }
}

/// The points of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// All points, by kind.
    pub all: BTreeMap<Kind, u64>,
    /// The points of which images were taken, by kind.
    pub tried: BTreeMap<Kind, u64>,
}

impl Tally {
    /// The number of points of a kind.
    #[must_use]
    pub fn count(&self, call: &'static str, file: &'static str) -> u64 {
        self.all.get(&Kind { call, file }).copied().unwrap_or_default()
    }
}
