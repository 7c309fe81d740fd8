//! Simulated clusters: the shipped machines of each member on a simulated disk, an unreliable
//! network, clients, and faults, all from one seed. The same seed gives the same run, to the last
//! event.
//!
//! | module | is |
//! |---|---|
//! | `clock` | virtual time, and the clocks of members |
//! | `network` | links between members |
//! | `process`, `gateway`, `watchers` | a running member: its machines, and its worker for clients |
//! | `host` | the machine of a member, whose disk outlives the process |
//! | `setup`, `fault`, `active`, `report` | what a seed draws: sizes, options, kinds of faults; those under way; what happened |
//! | `world`, `traffic`, `serve`, `nemesis` | the events: work, messages, clients, faults |
//! | `operator`, `task` | the operator, who changes the members and replaces lost ones |
//! | `damage` | bits that flip on disks |
//! | `oracle`, `roster`, `watch_check`, `lease_check` | the checks during a run |
//! | `ending` | the checks after the faults have ended |
//!
//! A piece of work takes virtual time, and its effects happen at its end, so that a crash or a
//! pause may come before them. Messages between members are sent encoded. After each event, its
//! changes are checked.

mod active;
mod clients;
mod clock;
mod damage;
mod ending;
mod event;
mod fault;
mod gateway;
mod host;
mod lease_check;
mod nemesis;
mod network;
mod operator;
mod oracle;
mod process;
mod report;
mod roster;
mod serve;
mod setup;
mod task;
mod traffic;
mod watch_check;
mod watchers;
mod world;

pub use fault::{FaultKind, FaultTally};
pub use report::{CatchUps, ClusterReport, Counts};
pub use setup::ClusterPlan;

use clock::SECOND;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Runs the cluster of a seed.
///
/// # Errors
/// When a check fails, with the report up to then.
pub fn run(plan: &ClusterPlan) -> Result<ClusterReport, (String, Box<ClusterReport>)> {
    let mut world = World::new(plan);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        world.run_until(plan.seconds * SECOND)?;
        world.finish()
    }));
    let account = world.checks.oracle.describe(world.now());
    let result = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    let report = report(&world);
    match result {
        Ok(()) => Ok(report),
        Err(why) => Err((format!("{account}: {why}"), Box::new(report))),
    }
}

fn report(world: &World) -> ClusterReport {
    let mut counts = world.counts.clone();
    counts.expired = world.checks.leases.expired;
    counts.terms = world.checks.invariants.leaders().len() as u64;
    ClusterReport {
        trace: world.trace,
        members: world.setup.first.len(),
        seconds: world.now() / SECOND,
        entries: world.checks.oracle.last().0,
        kinds: world.setup.kinds.clone(),
        counts,
    }
}
