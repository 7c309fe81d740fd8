//! A disk that fails once, at any call, with an error or without space. The member must stop and
//! report why, or continue if the call was optional. At the next start, everything that it
//! acknowledged must be there, with or without a crash of the machine in between.
//!
//! One start may be refused: after a write to the log that ended inside a sector. A torn tail ends at
//! a sector boundary, so this one looks like damage, as it does to Go's etcd.

use crate::check::{Bounds, check};
use crate::plan::Plan;
use crate::run::Run;
use crate::seed::Seed;
use proto::Index;
use vfs::{Fault, Injection, SimDisk};

/// The results of all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Members that a fault stopped.
    pub stopped: u64,
    /// Members that continued, since the call was optional.
    pub went_on: u64,
    /// Starts that were checked afterwards.
    pub starts: u64,
    /// Starts that were refused after a write to the log that ended inside a sector.
    pub refused: u64,
}

/// Runs the workload repeatedly, each time with one fault at another point.
///
/// # Errors
/// When a check fails, with the number of the run.
pub fn try_faults(plan: Plan, runs: u64) -> Result<Faults, String> {
    let mut whole = Run::new(plan);
    whole.run().map_err(|error| format!("seed {}: the run itself: {error}", plan.seed))?;
    let points = whole.disk.points();
    let mut faults = Faults::default();
    for number in 0..runs {
        let mut seed = Seed::new(plan.seed ^ (number << 32));
        let fault = if seed.one_in(2) { Fault::Io } else { Fault::NoSpace };
        let point = 1 + seed.below(points);
        let mut run = Run::new(plan);
        run.disk.inject(Injection::at(point, fault));
        let failed = |error: String| {
            format!("seed {} run {number}: {fault:?} at point {point}: {error}", plan.seed)
        };
        let mut inside_a_sector = false;
        match run.run() {
            Ok(()) => faults.went_on += 1,
            Err(why) if is_of_the_disk(&why) => {
                faults.stopped += 1;
                inside_a_sector = why.contains("write /") && why.contains("/wal/");
            }
            Err(why) => return Err(failed(why)),
        }
        run.history.end().map_err(failed)?;
        for image in 0..plan.images {
            // The first image is the disk without a crash.
            let disk = if image == 0 { run.disk.fork() } else { run.disk.crash_image(seed.draw()) };
            // A run that stopped before its first entry is checked against the whole run's.
            let is_empty = run.history.last() == Index(0);
            match start(if is_empty { &whole } else { &run }, &disk, &run) {
                Ok(()) => faults.starts += 1,
                Err(why) if inside_a_sector && why.contains("is damaged at byte") => {
                    faults.refused += 1;
                }
                Err(why) => return Err(failed(format!("afterwards, image {image}: {why}"))),
            }
        }
    }
    Ok(faults)
}

fn start(known: &Run, disk: &SimDisk, run: &Run) -> Result<(), String> {
    let acknowledged = run.history.acknowledged();
    let bounds = Bounds { acknowledged, history_end: known.history.last() };
    check(&known.history, disk, &run.options, bounds).map(drop)
}

/// True if a member reports that it stopped because of the disk.
fn is_of_the_disk(why: &str) -> bool {
    why.contains("os error")
}
