//! Runs a workload on one member, crashes it at each point of its disk, and checks the data after
//! each crash. A point is a call to the disk.
//!
//! - The run: seeded requests, a seeded scheduler, and a few restarts, every second one after a
//!   kill. At each point a copy of the disk is kept, with the last acknowledged entry.
//! - The images: several for each point, each checked by itself (see `check`). The member that
//!   starts on the first image of a point crashes at some point, too. At every second point the
//!   first image is that of a killed process, which loses nothing.

use crate::check::{Bounds, check};
use crate::history::History;
use crate::plan::{Kind, Plan, Tally};
use crate::run::Run;
use crate::seed::Seed;
use executor::BootOptions;
use proto::Index;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use vfs::Recorded;

/// The result of a run and its images.
#[derive(Debug)]
pub struct Report {
    /// The points.
    pub tally: Tally,
    /// The number of images that were checked.
    pub images: u64,
    /// How many of them come from a crash during the start on another image.
    pub second_crashes: u64,
    /// How many images held more than the acknowledged entries.
    pub with_more: u64,
    /// Entries applied.
    pub entries: u64,
    /// Requests among the entries.
    pub requests: u64,
    /// Compactions among the requests.
    pub compactions: u64,
    /// The last revision.
    pub revision: i64,
    /// The number of readers that read all of their moment while the member ran.
    pub readers: u64,
    /// How many of them read across a commit of the database.
    pub readers_across_commits: u64,
}

impl Report {
    /// The events that such a run should contain and this one does not.
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

/// Runs the workload and checks the images.
///
/// # Errors
/// When a check fails, with the point and the image.
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

/// The points to check, shared by a few threads.
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
        // The image of a killed process has everything that was written.
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
