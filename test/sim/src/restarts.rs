//! A sync that fails stops the member. It starts again on the same machine, whose page cache
//! contains data that never reached the disk. It acknowledges more requests; then the machine loses
//! power. Everything that was acknowledged before and after the restart must be there.

use crate::check::{Bounds, check};
use crate::plan::Plan;
use crate::run::Run;
use crate::seed::Seed;
use proto::Index;
use vfs::{Fault, Injection, Operation};

/// Requests after the restart.
const OPERATIONS_AFTER: u64 = 60;

/// The results of all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Members that a failed sync stopped, and that started again.
    pub restarted: u64,
    /// Members that continued, since the sync was optional.
    pub went_on: u64,
    /// Images of a power failure after the restart that were checked.
    pub images: u64,
}

/// Runs the workload repeatedly, each time with another sync that fails.
///
/// # Errors
/// When a check fails, with the number of the run.
pub fn try_restarts(plan: Plan, runs: u64) -> Result<Restarts, String> {
    let syncs = syncs(plan)?;
    let mut tried = Restarts::default();
    let mut seed = Seed::new(plan.seed ^ 0x7379_6e63);
    for number in 0..runs {
        let point = syncs[seed.place(syncs.len())];
        let failed = |error: String| {
            format!("seed {} run {number}: the sync at point {point} fails: {error}", plan.seed)
        };
        try_restart(plan, point, &mut seed, &mut tried).map_err(failed)?;
    }
    Ok(tried)
}

/// The points of the run that are syncs.
fn syncs(plan: Plan) -> Result<Vec<u64>, String> {
    let mut whole = Run::new(Plan { every: 1, point: None, ..plan });
    whole.disk.record_every(1);
    whole.run().map_err(|error| format!("seed {}: the run itself: {error}", plan.seed))?;
    let is_sync = |operation| matches!(operation, Operation::Sync | Operation::SyncDir);
    let syncs = whole.points.iter().filter(|recorded| is_sync(recorded.operation));
    Ok(syncs.map(|recorded| recorded.point).collect())
}

fn try_restart(
    plan: Plan,
    point: u64,
    seed: &mut Seed,
    tried: &mut Restarts,
) -> Result<(), String> {
    let mut run = Run::new(Plan { every: 1, point: None, ..plan });
    run.disk.inject(Injection::at(point, Fault::Io));
    match run.run() {
        Ok(()) => tried.went_on += 1,
        Err(why) if why.contains("os error") => tried.restarted += 1,
        Err(why) => return Err(why),
    }
    run.readers.end();
    run.disk.record_every(1);
    let operations = run.history.requests() + OPERATIONS_AFTER;
    run.run_to(operations).map_err(|error| format!("after the restart: {error}"))?;
    let history_end = run.history.last();
    for image in 0..plan.images {
        let recorded = &run.points[seed.place(run.points.len())];
        let disk = recorded.disk.crash_image(seed.draw());
        let bounds = Bounds { acknowledged: Index(recorded.tag), history_end };
        check(&run.history, &disk, &run.options, bounds).map_err(|error| {
            format!("power failure at point {}, image {image}: {error}", recorded.point)
        })?;
        tried.images += 1;
    }
    Ok(())
}
