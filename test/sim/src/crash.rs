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
use bolt::{Db, Options, PageCache};
use executor::BootOptions;
use proto::Index;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vfs::{Mode, Recorded, SimDisk, Vfs as _};

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
    /// The databases that the plan keeps.
    pub databases: Vec<Database>,
}

/// A database file for other programs.
#[derive(Clone, Debug)]
pub struct Database {
    /// The name of a file: the point, and whether the crash or the start after it left the database.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
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
        databases: tried.databases,
    })
}

#[derive(Debug, Default)]
struct Tried {
    images: u64,
    second_crashes: u64,
    with_more: u64,
    databases: Vec<Database>,
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
        let next = || self.next.fetch_add(1, Ordering::Relaxed);
        while let Some((place, point)) =
            Some(next()).and_then(|at| Some((at, self.points.get(at)?)))
        {
            let tried = self.try_point(point, self.is_kept(place));
            let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
            match tried {
                Ok(tried) => {
                    result.0.images += tried.images;
                    result.0.second_crashes += tried.second_crashes;
                    result.0.with_more += tried.with_more;
                    result.0.databases.extend(tried.databases);
                }
                Err(error) => {
                    result.1.get_or_insert(error);
                    self.next.store(self.points.len(), Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether the databases of this point are kept: those of points at equal distances.
    fn is_kept(&self, place: usize) -> bool {
        let kept = usize::try_from(self.plan.kept).unwrap_or(usize::MAX);
        let distance = self.points.len().checked_div(kept).map(|distance| distance.max(1));
        distance.is_some_and(|distance| place.is_multiple_of(distance))
    }

    fn try_point(&self, point: &Recorded, is_kept: bool) -> Result<Tried, String> {
        let mut tried = Tried::default();
        for image in 0..self.plan.images {
            // The last image, since the first may be that of a killed process.
            let is_kept = is_kept && image + 1 == self.plan.images;
            let once = catch_unwind(AssertUnwindSafe(|| {
                self.try_image(point, image, is_kept, &mut tried)
            }));
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

    fn try_image(
        &self,
        point: &Recorded,
        number: u64,
        is_kept: bool,
        tried: &mut Tried,
    ) -> Result<(), String> {
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
        let mut keep = |end: &str| {
            let name = format!("{:06}-{end}.db", point.point);
            let bytes = if is_kept { self.database(&image) } else { None };
            tried.databases.extend(bytes.map(|bytes| Database { name, bytes }));
        };
        keep("crashed");
        let found = check(&self.history, &image, &self.options, bounds)?;
        keep("started");
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

    /// The database on this disk, once its creation has been completed.
    fn database(&self, disk: &SimDisk) -> Option<Vec<u8>> {
        let path = self.options.data_dir.join("member/snap/db");
        let cache = Arc::new(PageCache::new(1 << 16));
        let options = Options { new_page_size: 4096, cache, read_only: true };
        Db::open_existing(disk, &path, options).ok()?;
        let file = disk.open(&path, Mode::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        (read == bytes.len()).then_some(bytes)
    }
}
