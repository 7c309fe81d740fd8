//! One member under a workload: requests and a scheduler from one seed, readers, and a few
//! restarts. Every second restart follows a kill.

use crate::driver::Driver;
use crate::history::History;
use crate::plan::{Kind, Plan, Tally};
use crate::readers::Readers;
use crate::seed::Seed;
use crate::workload::Workload;
use executor::BootOptions;
use std::path::Path;
use std::sync::Arc;
use vfs::{Recorded, SimDisk, UnsyncedDisk, Vfs};

/// The maximum number of requests in flight.
const UNDER_WAY_MAX: u64 = 12;
/// How often the member is started again.
const RESTARTS: u64 = 6;
/// After this many steps without a new request, the member counts as hanging.
const STEPS_MAX: u64 = 100_000;

/// The run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) options: BootOptions,
    pub(crate) plan: Plan,
    pub(crate) history: History,
    pub(crate) tally: Tally,
    pub(crate) points: Vec<Recorded>,
    pub(crate) readers: Readers,
    boots: u64,
}

impl Run {
    /// A run that has not begun.
    pub(crate) fn new(plan: Plan) -> Run {
        let options = BootOptions::simulated(plan.seed);
        Run {
            disk: SimDisk::new(plan.seed),
            history: History::new(options.settings.lease_ttl_s_min),
            options,
            plan,
            tally: Tally::default(),
            points: Vec::new(),
            readers: Readers::default(),
            boots: 0,
        }
    }

    fn boot(&mut self) -> Result<Driver, String> {
        self.boots += 1;
        let driver = if self.plan.lies {
            let disk: Arc<dyn Vfs> =
                Arc::new(UnsyncedDisk::of(Arc::new(self.disk.clone()), is_of_log));
            Driver::boot_on(&disk, &self.options, self.boots)
        } else {
            Driver::boot(&self.disk, &self.options, self.boots)
        };
        let driver = driver.map_err(|error| format!("boot: {error}"))?;
        self.keep_points();
        Ok(driver)
    }

    fn keep_points(&mut self) {
        for recorded in self.disk.take_recorded() {
            let kind = Kind::of(&recorded);
            *self.tally.all.entry(kind).or_default() += 1;
            let due = match self.plan.point {
                Some(point) => point == recorded.point,
                None => recorded.point.is_multiple_of(self.plan.every),
            };
            if due {
                *self.tally.tried.entry(kind).or_default() += 1;
                self.points.push(recorded);
            }
        }
    }

    fn learn(&mut self, driver: &mut Driver) -> Result<(), String> {
        self.keep_points();
        self.history.learn(driver.take_observations())?;
        self.disk.set_tag(self.history.acknowledged().0);
        Ok(())
    }

    /// Runs until the plan's number of requests is answered, or until the member stops.
    ///
    /// # Errors
    /// When the member stops, or a check fails.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.run_to(self.plan.operations)
    }

    /// Starts the member on the current disk, and runs until this many requests are answered since
    /// the first start.
    ///
    /// # Errors
    /// As [`Run::run`].
    pub(crate) fn run_to(&mut self, operations: u64) -> Result<(), String> {
        let plan = self.plan;
        // Every start has another schedule and other requests.
        let start = self.boots << 48;
        let mut seed = Seed::new(plan.seed ^ 0x7363_6865_6475 ^ start);
        let mut reads = Seed::new(plan.seed ^ 0x7265_6164);
        let mut workload = Workload::new(plan.seed ^ start);
        let mut driver = self.boot()?;
        let restart_every = plan.operations / (RESTARTS + 1) + 1;
        let mut under_way = self.history.requests();
        let (mut restart_at, mut steps) = (under_way + restart_every, 0);
        loop {
            let done = self.history.requests();
            if done >= operations {
                break;
            }
            if done >= restart_at {
                restart_at += restart_every;
                driver = self.restart(driver, self.boots.is_multiple_of(2))?;
                // Requests that were not in the log yet are lost.
                under_way = self.history.requests();
            }
            // Sometimes one client, sometimes a dozen.
            let clients = 1 + done / 16 % UNDER_WAY_MAX;
            if under_way < done + clients && seed.one_in(3) {
                driver.submit(workload.next(self.history.revision()));
                under_way += 1;
                steps = 0;
            }
            steps += 1;
            if steps > STEPS_MAX {
                return Err(format!("it hangs after {done} requests"));
            }
            let stepped = match driver.step(&mut seed) {
                Ok(false) => driver.tick(),
                Ok(true) => Ok(()),
                Err(error) => Err(error),
            };
            // The history also needs the observations from before the member stopped.
            self.learn(&mut driver)?;
            stepped?;
            self.readers.step(&driver, &self.history, &mut reads)?;
        }
        // After a recent start, the member may not lead yet, and does not know which entries are
        // committed.
        while !driver.is_ready() {
            driver.tick()?;
            self.settle(&mut driver)?;
        }
        self.settle(&mut driver)
    }

    fn settle(&mut self, driver: &mut Driver) -> Result<(), String> {
        let settled = driver.settle();
        // Also learns the observations from before it stopped.
        self.learn(driver)?;
        settled
    }

    /// Starts the member again, after it was stopped or killed.
    fn restart(&mut self, mut driver: Driver, is_killed: bool) -> Result<Driver, String> {
        self.readers.end();
        if is_killed {
            drop(driver);
        } else {
            self.settle(&mut driver)?;
            driver.close()?;
        }
        self.boot()
    }
}

/// Whether a file is one of the log. With [`Plan::lies`], syncs of these are reported and not done, which
/// the checks must detect.
fn is_of_log(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with("wal"))
}
