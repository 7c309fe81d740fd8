//! A workload on one member, and what a crash at each point of its disk leaves.
//!
//! - The run: requests of a seed, a scheduler of the same seed, a few starts in between, killed
//!   and stopped in turn. A copy of the disk is kept at each point, with what was acknowledged.
//! - The images: of each point so many, each checked by itself (see `check`). On the first of
//!   each point the member that starts crashes too, somewhere; of every second point that first
//!   one is of a process that was killed, which loses nothing.

use crate::check::{Bounds, check};
use crate::history::History;
use crate::run::Run;
use crate::seed::Seed;
use executor::BootOptions;
use proto::Index;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use vfs::{Operation, Recorded};

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of requests, scheduler and images.
    pub seed: u64,
    /// How many requests.
    pub operations: u64,
    /// Images are taken of every so many-th point.
    pub every: u64,
    /// How many images of each.
    pub images: u64,
    /// Only this point, if any.
    pub point: Option<u64>,
    /// Threads that check images.
    pub threads: usize,
    /// The log says that a batch is durable before it is synced: the images must show it.
    pub lies: bool,
}

/// A kind of point: the call, and what kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The call.
    pub call: &'static str,
    /// Of which file.
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
        // A file keeps the name by which it was opened: segments that of the spare they were.
        (_, "wal") => "segment",
        (_, "snap") => ".snap",
        (_, "broken") => "torn copy",
        (_, "tmp") if name != "wal.tmp" => "segment",
        _ => "directory",
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// All points, by kind.
    pub all: BTreeMap<Kind, u64>,
    /// Those of which images were taken.
    pub tried: BTreeMap<Kind, u64>,
}

impl Tally {
    /// How many points of a kind there were.
    #[must_use]
    pub fn count(&self, call: &'static str, file: &'static str) -> u64 {
        self.all.get(&Kind { call, file }).copied().unwrap_or_default()
    }
}

/// What was tried.
#[derive(Debug)]
pub struct Report {
    /// The points.
    pub tally: Tally,
    /// How many images were checked.
    pub images: u64,
    /// How many of them were of a member that crashed while it started on another.
    pub second_crashes: u64,
    /// How many images held entries that were not acknowledged.
    pub with_more: u64,
    /// Entries applied.
    pub entries: u64,
    /// Requests among them.
    pub requests: u64,
    /// Compactions among these.
    pub compactions: u64,
    /// The last revision.
    pub revision: i64,
    /// Readers that read their whole moment beside the member.
    pub readers: u64,
    /// How many of them the database committed beside.
    pub readers_across_commits: u64,
}

impl Report {
    /// What should have happened in such a run and did not.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let tally = &self.tally;
        let happened = [
            ("first boot", tally.count("rename", "directory") > 0),
            ("segment cut", tally.count("rename", "segment") > 0),
            ("snapshot", tally.count("rename", ".snap") > 0),
            ("segment released", tally.count("remove", "segment") > 0),
            ("commit of the backend", tally.count("sync", "database") > 2),
            ("compaction", self.compactions > 0),
        ];
        happened.iter().filter(|(_, happened)| !happened).map(|(what, _)| *what).collect()
    }
}

/// Runs the workload and tries the images.
///
/// # Errors
/// What went wrong, with the point and the image.
pub fn try_all(plan: Plan) -> Result<Report, String> {
    let mut run = Run::new(plan);
    run.disk.record_every(1);
    run.run().map_err(|error| format!("seed {}: the run itself: {error}", plan.seed))?;
    let Run { options, history, tally, points, readers, .. } = run;
    let work = Work {
        plan,
        options,
        history,
        points,
        next: AtomicUsize::new(0),
        result: Mutex::new((Tried::default(), None)),
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| work.run());
        }
    });
    let Work { history, result, .. } = work;
    let (tried, failure) = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = failure {
        return Err(failure);
    }
    Ok(Report {
        tally,
        images: tried.images,
        second_crashes: tried.second_crashes,
        with_more: tried.with_more,
        entries: history.last().0,
        requests: history.requests(),
        compactions: history.compactions(),
        revision: history.revision(),
        readers: readers.finished,
        readers_across_commits: readers.across_commits,
    })
}

#[derive(Debug, Default)]
struct Tried {
    images: u64,
    second_crashes: u64,
    with_more: u64,
}

/// The points that are to be tried, for a few threads.
struct Work {
    plan: Plan,
    options: BootOptions,
    history: History,
    points: Vec<Recorded>,
    next: AtomicUsize,
    result: Mutex<(Tried, Option<String>)>,
}

impl Work {
    fn run(&self) {
        while let Some(point) = self.points.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let tried = self.try_point(point);
            let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
            match tried {
                Ok(tried) => {
                    result.0.images += tried.images;
                    result.0.second_crashes += tried.second_crashes;
                    result.0.with_more += tried.with_more;
                }
                Err(error) => {
                    result.1.get_or_insert(error);
                    self.next.store(self.points.len(), Ordering::Relaxed);
                }
            }
        }
    }

    fn try_point(&self, point: &Recorded) -> Result<Tried, String> {
        let mut tried = Tried::default();
        for image in 0..self.plan.images {
            let once = catch_unwind(AssertUnwindSafe(|| self.try_image(point, image, &mut tried)));
            let failed = |error: String| {
                format!(
                    "seed {} point {} ({}, {}) image {image}: {error}",
                    self.plan.seed,
                    point.point,
                    Kind::of(point),
                    point.path.display(),
                )
            };
            once.unwrap_or_else(|_| Err("it panics".into())).map_err(failed)?;
        }
        Ok(tried)
    }

    fn try_image(&self, point: &Recorded, number: u64, tried: &mut Tried) -> Result<(), String> {
        let mut seed = Seed::new(self.plan.seed ^ (point.point << 20) ^ number);
        let crashes_again = number == 0;
        // Before the second crash there may have been none: only the process was killed.
        let is_killed = crashes_again && !point.point.is_multiple_of(2);
        let image = if is_killed { point.disk.fork() } else { point.disk.crash_image(seed.draw()) };
        if crashes_again {
            image.record_every(1);
        }
        let acknowledged = Index(point.tag);
        let bounds = Bounds { acknowledged, history_end: self.history.last() };
        let found = check(&self.history, &image, &self.options, bounds)?;
        tried.images += 1;
        tried.with_more += u64::from(found > acknowledged);
        if crashes_again {
            let points = image.take_recorded();
            let again = &points[seed.place(points.len())];
            let bounds = Bounds { acknowledged, history_end: found };
            let second = again.disk.crash_image(seed.draw());
            check(&self.history, &second, &self.options, bounds)
                .map_err(|error| format!("and a second crash at {}: {error}", again.point))?;
            tried.images += 1;
            tried.second_crashes += 1;
        }
        Ok(())
    }
}
