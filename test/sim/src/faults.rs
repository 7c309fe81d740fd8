//! A disk that fails once, anywhere: no space, or an error. The member stops and says why; what it
//! acknowledged before is there at the next start, after a crash of the machine or without one.
//!
//! One thing may keep it from starting: a write to the log that stopped inside a sector. A torn
//! tail ends with a whole sector, so that this one looks like damage, as it does to Go's etcd.

use crate::check::{Bounds, check};
use crate::crash::Plan;
use crate::run::Run;
use crate::seed::Seed;
use proto::Index;
use vfs::{Fault, Injection, SimDisk};

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Members that were stopped by a fault.
    pub stopped: u64,
    /// Members that went on, since nothing depended on the call.
    pub went_on: u64,
    /// Starts that were checked afterwards.
    pub starts: u64,
    /// Starts that were refused, since a write to the log stopped inside a sector.
    pub refused: u64,
}

/// Runs the workload again and again, each time with one fault at another point.
///
/// # Errors
/// What went wrong, with the run.
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
            // The first is what a start finds without a crash.
            let disk = if image == 0 { run.disk.fork() } else { run.disk.crash_image(seed.draw()) };
            // Of a run that did not get so far, the first entries are those of any other.
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

/// Whether a member stopped for what the disk did, and says so.
fn is_of_the_disk(why: &str) -> bool {
    why.contains("os error")
}
